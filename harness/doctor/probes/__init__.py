"""Probes, one file per subject; each reads the host and adds facts and findings."""
