"""Suites: prompts and generation settings."""
