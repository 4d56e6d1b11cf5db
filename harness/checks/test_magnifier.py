"""The outcome of ``--magnify``."""

from __future__ import annotations

import warnings

import pytest

from harness.alignment.result import Magnifier


def test_magnifier(magnifier: Magnifier) -> None:
    """Only warns: the port computes in another dtype."""
    if magnifier.status == "NOT_RUN":
        pytest.skip(magnifier.sentence)
    if magnifier.status == "WARN":
        warnings.warn(magnifier.sentence, stacklevel=1)
