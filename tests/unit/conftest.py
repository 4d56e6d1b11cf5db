"""Not in tests/conftest.py: that one is loaded by `pytest --device` too, without hypothesis."""

from __future__ import annotations

import os

from hypothesis import settings

# In CI the same examples every time: a rare one found there helps nobody.
settings.register_profile("ci", derandomize=True)
if os.environ.get("CI"):
    settings.load_profile("ci")
