"""What a module of tests needs, looked up without importing it: a run that deselects
these tests must not pay for torch."""

from __future__ import annotations

import importlib.util

import pytest


def needed(*packages: str) -> None:
    """Skip the calling module where one of the packages is not installed."""
    for package in packages:
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed", allow_module_level=True)
