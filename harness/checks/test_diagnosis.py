"""The outcome of ``--diagnose``."""

from __future__ import annotations

import warnings

import pytest

from harness.alignment.gates.systematic import SYSTEMATIC
from harness.alignment.result import Alignment
from harness.report.properties import gate_properties


def test_diagnosis(alignment: Alignment, request: pytest.FixtureRequest) -> None:
    """Fails on a cause beyond its margin, with what explains the error."""
    gate = next((gate for gate in alignment.gates if gate.name == SYSTEMATIC), None)
    if gate is None:
        pytest.skip("nothing was diagnosed")
    request.node.user_properties.extend(gate_properties(gate))
    if gate.status == "FAIL":
        pytest.fail(gate.sentence, pytrace=False)
    if gate.status == "WARN":
        warnings.warn(gate.sentence, stacklevel=1)
