"""The outcome of ``--magnify``."""

from __future__ import annotations

import warnings

import pytest

from harness.alignment.result import Magnifier


def test_magnifier(magnifier: Magnifier) -> None:
    """Only warns, since the port computes in another dtype; fails where it could not be run."""
    if magnifier.status == "NOT_RUN":
        pytest.skip(magnifier.sentence)
    if magnifier.status == "INCONCLUSIVE":
        pytest.fail(magnifier.sentence, pytrace=False)
    if magnifier.status == "WARN":
        warnings.warn(magnifier.sentence, stacklevel=1)
