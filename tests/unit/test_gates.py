"""Every status of every gate, and sentences that carry their figures."""

from __future__ import annotations

import numpy as np
import pytest

from harness.alignment.gates import (
    GATES,
    classify,
    coverage_gate,
    determinism_gate,
    error_ratio_gate,
    nonfinite_gate,
    point_guard,
)
from harness.alignment.margins import Margins
from harness.alignment.result import Gate, Interval, PointClass


def ratio(value: float | None, low: float | None = None, high: float | None = None) -> Gate:
    interval = Interval(value=value, low=low, high=high)
    return error_ratio_gate("error_ratio", "over the whole vocabulary", interval, "there is none")


EVERY_GATE = [
    (ratio(1.0, 0.9, 1.1), "PASS", "1.000 times the reference's (95 % interval 0.900 to 1.100)"),
    (ratio(1.4, 1.3, 1.5), "PASS", "at most 1.5"),
    (ratio(0.0), "PASS", "equals the oracle"),
    (ratio(1.6, 1.51, 1.7), "FAIL", "more than 1.5"),
    (ratio(1.6, 1.5, 1.7), "INCONCLUSIVE", "on both sides of 1.5: more prompts would decide"),
    (ratio(1.0, 0.1, 9.0), "INCONCLUSIVE", "(95 % interval 0.100 to 9.000)"),
    (ratio(29.0), "INCONCLUSIVE", "29.000 times the reference's, too few prompts"),
    (ratio(None), "NOT_RUN", "Error over the whole vocabulary: there is none."),
    (point_guard(["EXACT"] * 3, judged=True), "PASS", "all 3 positions."),
    (
        point_guard(["EXACT", "TIE", "NEAR-TIE"], judged=True),
        "PASS",
        "all 3 positions; 2 flipped tokens, all within it.",
    ),
    (point_guard(["EXACT", "DIVERGENT"], judged=True), "FAIL", "1 of 2 positions fail"),
    (
        point_guard(["SILENT-DRIFT", "NONFINITE", "DIVERGENT", "DIVERGENT"], judged=True),
        "FAIL",
        "4 of 4 positions fail: 2 DIVERGENT, 1 NONFINITE, 1 SILENT-DRIFT.",
    ),
    (point_guard([None, "EXACT"], judged=False), "NOT_RUN", "no oracle and controls"),
    (point_guard(["NONFINITE"], judged=False), "NOT_RUN", "no oracle and controls"),
    (nonfinite_gate(5, 0, 0), "PASS", "All logits of 5 rows are finite."),
    (nonfinite_gate(5, 2, 0), "FAIL", "2 of 5 rows hold NaN or infinite logits."),
    (nonfinite_gate(5, 2, 5), "FAIL", "2 of 5 rows"),
    (nonfinite_gate(5, 0, 1), "FAIL", "1 of 5 rows of the reference are not"),
    (coverage_gate(8, 8, 0, 0), "PASS", "All 8 positions"),
    (coverage_gate(6, 8, 0, 1), "INCONCLUSIVE", "6 of 8 positions of the baseline were judged: 1 "),
    (coverage_gate(6, 8, 0, 2), "INCONCLUSIVE", "--context"),
    (coverage_gate(4, 8, 2, 0), "INCONCLUSIVE", "were judged: 2 prompts were not run."),
    (coverage_gate(3, 8, 1, 1), "INCONCLUSIVE", "1 prompt was not run, 1 prompt was judged up to"),
    (coverage_gate(8, 8, 0, 0, 2), "INCONCLUSIVE", "8 of 8 positions of the baseline were judged"),
    (coverage_gate(8, 8, 0, 0, 1), "INCONCLUSIVE", "1 prompt was stopped elsewhere"),
    (determinism_gate(4, 3, [0.3], [0.3], "hf-npu"), "WARN", "LCCL_DETERMINISTIC=1"),
    (determinism_gate(4, 3, [0.3], [0.3], "hf-gpu"), "WARN", "which CUBLAS_WORKSPACE_CONFIG="),
    (determinism_gate(4, 3, [0.3], [0.3], "hf-cpu"), "WARN", "does not repeat bit for bit."),
    (determinism_gate(0, 0, [], []), "NOT_RUN", "No prompt was run twice."),
    (determinism_gate(4, 4, [], []), "PASS", "same bits in all 4 rows"),
    (determinism_gate(4, 2, [0.1, -0.2], [0.3, 0.3]), "WARN", "2 of 4 rows differ"),
    (determinism_gate(4, 3, [0.3], [0.3]), "WARN", "all within the tolerance"),
    (determinism_gate(4, 3, [0.3], [None]), "WARN", "no tolerance known"),
    (determinism_gate(4, 2, [0.1, -0.5], [0.3, 0.3]), "FAIL", "by up to 0.5 logits"),
    (determinism_gate(4, 2, [0.1, -0.5], [None, 0.3]), "FAIL", "more than the noise explains"),
]


@pytest.mark.parametrize(("gate", "status", "words"), EVERY_GATE)
def test_status_and_sentence_of_every_outcome(gate: Gate, status: str, words: str) -> None:
    assert gate.status == status
    assert words in gate.sentence


@pytest.mark.parametrize("gate", [gate for gate, _, _ in EVERY_GATE])
def test_every_sentence_is_one_and_shows_no_missing_figure(gate: Gate) -> None:
    assert gate.sentence[0].isupper() or gate.sentence[0].isdigit()
    assert gate.sentence.endswith(".")
    assert not {"nan", "None", "inf"}.intersection(gate.sentence.replace(".", " ").split())
    assert gate.threshold is not None
    if gate.status in ("FAIL", "INCONCLUSIVE", "WARN"):
        assert gate.value is not None
        assert any(c.isdigit() for c in gate.sentence)


def test_a_missing_prompt_is_not_mended_by_a_replay() -> None:
    assert "--context" not in coverage_gate(4, 8, 2, 0).sentence


def test_a_limit_given_as_value_low_and_high_is_kept() -> None:
    gate = ratio(1.2, 1.1, 1.3)
    assert (gate.value, gate.low, gate.high, gate.threshold) == (1.2, 1.1, 1.3, 1.5)


@pytest.mark.parametrize(
    ("margin", "shift", "flip", "bad", "expected"),
    [
        (1.0, 0.1, False, False, "EXACT"),
        (1.0, 0.5, False, False, "EXACT"),
        (1.0, -0.51, False, False, "SILENT-DRIFT"),
        (1.0, 0.51, False, False, "SILENT-DRIFT"),
        (0.0, -0.1, True, False, "TIE"),
        (0.0, 0.0, True, False, "TIE"),
        (0.2, -0.5, True, False, "NEAR-TIE"),
        (0.2, -0.6, True, False, "DIVERGENT"),
        (0.0, -0.6, True, False, "DIVERGENT"),
        (1.0, 0.0, False, True, "NONFINITE"),
        (1.0, -9.0, True, True, "NONFINITE"),
        (0.0, 0.0, False, False, "EXACT"),
        # A flip that no shift explains: the choice did not follow the logits.
        (0.5, 0.0, True, False, "NEAR-TIE"),
        (0.6, 0.0, True, False, "DIVERGENT"),
        (9.0, 0.0, True, False, "DIVERGENT"),
    ],
)
def test_classes_at_a_tolerance_of_one_half(
    margin: float, shift: float, flip: bool, bad: bool, expected: PointClass
) -> None:
    assert classes_of(margin, shift, flip, bad) == [expected]


def classes_of(
    margin: float, shift: float, flip: bool, bad: bool = False, trailing: float = 0.0
) -> list[PointClass]:
    found = Margins(
        *(np.array([1]), np.array([margin]), np.array([shift]), np.array([flip])),
        *(np.array([False]), np.array([trailing])),
    )
    return classify(found, np.array([0.5]), np.array([bad]))


@pytest.mark.parametrize(("flip", "expected"), [(True, "DIVERGENT"), (False, "SILENT-DRIFT")])
def test_a_choice_far_below_the_best_of_its_own_row_fails(flip: bool, expected: str) -> None:
    assert classes_of(0.2, 0.1, flip, trailing=0.51) == [expected]
    assert classes_of(0.2, 0.1, flip, trailing=0.5) == ["NEAR-TIE" if flip else "EXACT"]


def test_gates_of_a_report_are_those_that_exist() -> None:
    made = {gate.name for gate, _, _ in EVERY_GATE} | {"top_k_error_ratio"}
    assert made == {*GATES, "determinism"}
