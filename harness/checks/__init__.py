"""What ``pytest --device`` runs: one test per prompt, per gate, per figure."""
