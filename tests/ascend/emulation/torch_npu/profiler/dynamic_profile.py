"""Profiling of a step, which does nothing."""


def step() -> None:
    """End a step."""
