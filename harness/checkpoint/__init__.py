"""Checkpoints as files: what they say they are, what they are, and the ternary quantizer."""
