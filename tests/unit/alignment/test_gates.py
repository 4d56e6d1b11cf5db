"""Every gate: each status, and a sentence that an engineer understands."""

from __future__ import annotations

import numpy as np
import pytest
from every_gate import EVERY_GATE, STATUSES
from factories import evidence, scales

from harness.alignment.gates import GATES, gates_of
from harness.alignment.gates.conduct import coverage_gate
from harness.alignment.gates.counts import exceedance_gate, flip_gate
from harness.alignment.result import Gate

#: Gates whose limit is what the arms show: without arms there is no limit.
OF_THE_ARMS = {"prompt_guard", "row_guard", "place_guard", "bucket", "direction", "row_slope"}


@pytest.mark.parametrize(("gate", "status", "words"), EVERY_GATE)
def test_status_and_sentence_of_every_outcome(gate: Gate, status: str, words: str) -> None:
    assert (gate.status, words in gate.sentence) == (status, True), gate.sentence


@pytest.mark.parametrize("gate", [gate for gate, _, _ in EVERY_GATE])
def test_every_sentence_is_one_and_shows_no_missing_figure(gate: Gate) -> None:
    assert gate.sentence[0].isupper() or gate.sentence[0].isdigit()
    assert gate.sentence.endswith(".")
    assert ".." not in gate.sentence
    assert not {"nan", "None", "inf"}.intersection(gate.sentence.replace(".", " ").split())
    assert gate.limit is not None or (gate.name in OF_THE_ARMS and gate.status == "NOT_RUN")
    if gate.status in ("FAIL", "INCONCLUSIVE", "WARN"):
        assert gate.value is not None
        assert any(c.isdigit() for c in gate.sentence)


@pytest.mark.parametrize("gate", [gate for gate, _, _ in EVERY_GATE])
def test_a_pass_with_an_interval_lies_within_its_limit(gate: Gate) -> None:
    if gate.status == "PASS" and gate.value is not None and gate.name != "coverage":
        assert gate.limit is not None
        assert abs(gate.value) <= gate.limit


def test_a_missing_prompt_is_not_mended_by_a_replay() -> None:
    assert "--context" not in coverage_gate(4, 8, 2, 0).sentence


def test_gates_of_a_report_are_those_that_exist() -> None:
    made = [gate.name for gate in gates_of(evidence(), scales())]
    assert tuple(made) == GATES
    assert {gate.name for gate, _, _ in EVERY_GATE} == {
        *GATES,
        "systematic",
        "determinism",
        "stops",
    }


def test_a_value_above_a_limit_that_chance_explains_is_no_pass() -> None:
    """Neither gate that only raises alarms is silent about it."""
    for gate in (
        exceedance_gate(evidence(3, large=np.tile([4.0, 3.0], (3, 1)))),
        flip_gate(evidence(3, flips=2 * np.ones(3))),
    ):
        assert gate.value is not None
        assert gate.value > 1.0
        assert gate.status == "WARN"


def test_every_status_that_a_gate_can_have_is_reached() -> None:
    reached: dict[str, set[str]] = {}
    for gate, _, _ in EVERY_GATE:
        reached.setdefault(gate.name, set()).add(gate.status)
    assert reached == STATUSES
