"""A name that is imported."""
