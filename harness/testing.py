"""Fakes for tests of what is built on devices: a device without a model.

A façade: the device registry needs the fake, and nothing in the house may need
this module.
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
