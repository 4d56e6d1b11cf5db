"""Checkpoints: finding one, its weights, tokenizer, settings and fingerprint."""
