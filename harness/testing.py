"""A device without a model, for tests of code that uses devices.

A façade: the device registry imports the fake itself; no module of the harness
may import this one.
"""

from __future__ import annotations

from harness.devices.fake import (
    DTYPES,
    FAULTS,
    MAX_POSITIONS,
    VOCABULARY,
    FakeDevice,
    FakeTokenizer,
    fake_subject,
)

__all__ = [
    "DTYPES",
    "FAULTS",
    "MAX_POSITIONS",
    "VOCABULARY",
    "FakeDevice",
    "FakeTokenizer",
    "fake_subject",
]
