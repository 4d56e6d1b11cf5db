"""One test per gate, one for determinism, one for the verdict."""

from __future__ import annotations

import pytest

from harness.alignment.gates import GATES
from harness.alignment.result import ALIGNED, Alignment, Gate


@pytest.mark.parametrize("name", GATES)
def test_gate(name: str, alignment: Alignment, request: pytest.FixtureRequest) -> None:
    """FAIL and INCONCLUSIVE fail, each with the gate's own sentence."""
    gate = _gate(alignment, name)
    if gate.value is not None:
        # Not record_property, which warns under xunit2.
        request.node.user_properties.append((f"harness.{name}", gate.value))
    _hold(gate)


def test_determinism(alignment: Alignment) -> None:
    """A repeated run: bit-equal, or different within the tolerance, which warns."""
    _hold(_gate(alignment, "determinism"))


def test_verdict(alignment: Alignment) -> None:
    """The verdict is one of the aligned ones."""
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
        pytest.fail(f"{gate.status}: {gate.sentence}", pytrace=False)
