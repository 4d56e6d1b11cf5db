"""One test per gate, one for determinism, one for stops, one for the verdict."""

from __future__ import annotations

import pytest

from harness.alignment.gates import GATES
from harness.alignment.gates.routes import ROUTES
from harness.alignment.gates.stops import STOPS
from harness.alignment.outcomes import ALIGNED
from harness.alignment.result import Alignment, Gate
from harness.report.properties import alignment_properties, gate_properties


@pytest.mark.parametrize("name", GATES)
def test_gate(name: str, alignment: Alignment, request: pytest.FixtureRequest) -> None:
    """FAIL and INCONCLUSIVE fail, each with the gate's own sentence."""
    gate = _gate(alignment, name)
    # Not record_property, which warns under xunit2.
    request.node.user_properties.extend(gate_properties(gate))
    _hold(gate)


def test_determinism(alignment: Alignment, request: pytest.FixtureRequest) -> None:
    """A repeated run: bit-equal, or different within the tolerance, which warns."""
    gate = _gate(alignment, "determinism")
    request.node.user_properties.extend(gate_properties(gate))
    _hold(gate)


def test_stops(alignment: Alignment, request: pytest.FixtureRequest) -> None:
    """Each run ended as the recording says."""
    gate = _gate(alignment, STOPS)
    request.node.user_properties.extend(gate_properties(gate))
    _hold(gate)


def test_verdict(alignment: Alignment, request: pytest.FixtureRequest) -> None:
    """The verdict is one of the aligned ones. Of a mixture of experts it carries the gate of
    routes, which other models do not have."""
    request.node.user_properties.extend(alignment_properties(alignment))
    for gate in alignment.gates:
        if gate.name == ROUTES:
            request.node.user_properties.extend(gate_properties(gate))
    if alignment.verdict not in ALIGNED:
        pytest.fail(f"{alignment.verdict}: {alignment.sentence}", pytrace=False)


def _gate(alignment: Alignment, name: str) -> Gate:
    if not alignment.comparability.comparable:
        pytest.fail(alignment.sentence, pytrace=False)
    return next(gate for gate in alignment.gates if gate.name == name)


def _hold(gate: Gate) -> None:
    if gate.status == "NOT_RUN":
        pytest.skip(gate.sentence)
    if gate.status in ("FAIL", "INCONCLUSIVE"):
        # A line that begins with such a word is the verdict's, for scripts that look for it.
        pytest.fail(f"{gate.name}: {gate.status}: {gate.sentence}", pytrace=False)
