"""What one run of ``pytest --device`` does."""
