"""Bias and slope against sums by hand, and against the whole vocabulary."""

from __future__ import annotations

import math

import numpy as np
import pytest
from factories import RNG, by_part, evidence

from harness.alignment.evidence import Evidence, Held, gather
from harness.alignment.gates.bias import (
    bias_gate,
    bias_shares,
    slope_differences,
    slope_gate,
)
from harness.statistics.margins import margins
from harness.statistics.rows import row_statistics

VOCABULARY, PROMPTS, POSITIONS = 2000, 20, 10
#: How a message calls what a share is held against.
POINTS = {"reference": "reference", "oracle": "nearest point between oracle and reference"}


def of_one_row(mean_error: np.ndarray, **changes: np.ndarray) -> Evidence:
    """Three prompts of one row each, with a squared error of 1."""
    fields = {
        "rows": np.tile([1, 0], (3, 1)),
        "reference_error": np.tile([1.0, 0.0], (3, 1)),
        "arm_error": np.zeros((3, 3, 64)),
    }
    return evidence(3, mean_error=mean_error, **(fields | changes))


def three() -> np.ndarray:
    found = np.zeros((3, 64))
    found[0, 0], found[1, 0], found[2, 1] = 1.0, 2.0, 3.0
    return found


def test_bias_of_three_prompts_by_hand() -> None:
    """Products of different prompts: (1,0).(2,0) = 2 and two of 0, each twice."""
    found = bias_shares(of_one_row(three()))
    # Left out one by one: 0, 0 and 2 * 2 / 2. And a sketch's own spread, sqrt(2 / 64).
    scatter = math.sqrt(2 / 3 * (4 * (0 - 2 / 3) ** 2 / 2 + (2 - 2 / 3) ** 2))
    for share in found:
        assert share.value == pytest.approx(4 / 6)
        assert share.error == pytest.approx(math.hypot(scatter, 4 / 6 * math.sqrt(2 / 64)))


def test_bias_is_told_against_the_reference_and_against_the_oracle() -> None:
    """A reference with the same systematic error leaves nothing against itself, and
    nothing against what lies between it and the oracle; a perfect candidate leaves its
    distance to the reference, and nothing against the oracle."""
    theirs = np.zeros((3, 3, 64))
    theirs[:, 0] = three()
    shared = bias_shares(of_one_row(three(), arm_error=theirs))
    assert [share.value for share in shared] == pytest.approx([0.0, 0.0])
    perfect = bias_shares(of_one_row(np.zeros((3, 64)), arm_error=theirs))
    assert [share.value for share in perfect] == pytest.approx([4 / 6, 0.0])
    for found in (shared, perfect):
        assert min(share.value or 0.0 for share in found) == 0.0


@pytest.mark.parametrize(
    ("mine", "theirs", "status", "against"),
    [
        (1.0, 1.0, "PASS", "reference"),
        (0.0, 1.0, "PASS", "oracle"),
        (1.0, 0.0, "FAIL", "reference"),
        (1.0, -1.0, "FAIL", "oracle"),
        (2.0, 1.0, "FAIL", "reference"),
    ],
)
def test_only_what_parts_it_from_both_is_charged(
    mine: float, theirs: float, status: str, against: str
) -> None:
    constant = 10 * np.ones((20, 64)) / 8
    arms = np.zeros((20, 3, 64))
    arms[:, 0] = theirs * constant
    gate = bias_gate(evidence(mean_error=mine * constant, arm_error=arms), None)
    assert gate.status == status
    assert f"from the {POINTS[against]} is" in gate.sentence
    along, base = (by_part(10 * x * np.ones(20)) for x in (mine, theirs))
    gate = slope_gate(evidence(along=along, reference_along=base), None)
    assert gate.status == status
    assert f"that of the {POINTS[against]} by" in gate.sentence


def test_slope_of_three_prompts_by_hand() -> None:
    along, power = by_part(np.array([1.0, 2.0, 3.0])), by_part(np.array([10.0, 10.0, 20.0]))
    reference = by_part(np.array([-1.0, -1.0, -1.0]))
    found = slope_differences(evidence(3, along=along, power=power, reference_along=reference))
    assert found[0].value == pytest.approx(9 / 40)
    assert found[0].error == pytest.approx(jackknife_by_hand(np.array([7 / 30, 6 / 30, 5 / 20])))
    assert found[1].value == pytest.approx(6 / 40)
    assert found[1].error == pytest.approx(jackknife_by_hand(np.array([5 / 30, 4 / 30, 3 / 20])))


def jackknife_by_hand(left_out: np.ndarray) -> float:
    return math.sqrt(2 / 3 * float(np.sum((left_out - left_out.mean()) ** 2)))


def test_a_part_without_a_row_has_no_scale() -> None:
    """A prompt whose rows all came by prefill says nothing of decode."""
    power = by_part(np.ones(3))
    power[1:, 4] = 0.0
    found = slope_differences(evidence(3, power=power), 4)
    assert [slope.prompts for slope in found] == [1, 1]
    power[0, 4] = 0.0
    assert slope_differences(evidence(3, power=power), 4)[0].value is None


@pytest.mark.parametrize(
    ("parts", "where"),
    [
        ([0.0, 0.01, -0.01, 0.0, 0.0], "in the first half of the outputs"),
        ([0.0, 0.0, -0.01, 0.0, 0.0], "in the second half of the outputs"),
        ([0.0, 0.0, 0.0, 0.01, -0.001], "of the prefill path"),
        ([0.0, 0.0, 0.0, 0.001, -0.01], "of the decode path"),
    ],
)
def test_a_scale_that_averages_out_over_all_rows_is_told_by_a_part(
    parts: list[float], where: str
) -> None:
    power = evidence().power
    gate = slope_gate(evidence(along=power * parts), None)
    assert gate.status == "FAIL"
    assert where in gate.sentence
    whole = slope_gate(evidence(along=power * 0.002), None)
    assert whole.status == "PASS"


def test_a_part_that_only_may_be_off_does_not_undo_a_pass() -> None:
    """Its interval holds the limit: one row of prefill a prompt is often so."""
    scatter = np.linspace(-1, 1, 20)[:, None] * np.array([0.0, 0.0, 0.0, 0.04, 0.0])
    gate = slope_gate(evidence(along=evidence().power * scatter), None)
    assert gate.status == "PASS"


@pytest.mark.parametrize(
    ("slope", "constant"), [(0.0, 0.0), (0.01, 0.0), (0.0, 0.03), (0.01, 0.03)]
)
def test_sketches_give_the_bias_and_slope_of_the_whole_vocabulary(
    slope: float, constant: float
) -> None:
    random = RNG(5)
    truth: np.ndarray = 3 * random.standard_normal((PROMPTS, POSITIONS, VOCABULARY))
    fixed = constant * random.standard_normal(VOCABULARY)
    reference, candidate = (
        (truth + 0.05 * random.standard_normal(truth.shape) + extra).astype(np.float32)
        for extra in (0.0, slope * truth + fixed)
    )
    found = gather(
        [_held(i, *(a[i] for a in (candidate, reference, truth))) for i in range(PROMPTS)], None
    )
    o = _centred(truth)
    noise = float(np.mean(np.sum((_centred(reference) - o) ** 2, axis=2)))
    for base, measured, charged in zip(
        (_centred(reference), o), slope_differences(found), bias_shares(found), strict=True
    ):
        d = _centred(candidate) - base
        exact = float(np.sum(d * o) / np.sum(o * o))
        assert exact == pytest.approx(slope, abs=2e-4)
        assert measured.value == pytest.approx(exact, abs=6e-4)
        assert measured.error is not None
        assert abs((measured.value or 0.0) - exact) < 4 * measured.error
        sums = d.sum(axis=1)
        products = sums @ sums.T
        pairs = (products.sum() - np.trace(products)) / (PROMPTS * (PROMPTS - 1) * POSITIONS**2)
        share = float(pairs / noise)
        assert share == pytest.approx((constant / 0.05) ** 2, abs=0.03)
        assert charged.value == pytest.approx(share, abs=0.09)
        interval = charged.interval()
        assert interval.low is not None
        assert interval.high is not None
        assert interval.low <= share <= interval.high


def _held(i: int, candidate: np.ndarray, reference: np.ndarray, truth: np.ndarray) -> Held:
    rows, base = row_statistics(candidate), row_statistics(reference)
    chosen = [r.top_ids[:, 0].astype(np.int64) for r in (base, rows)]
    return Held(
        id=f"p{i}",
        rows=rows,
        reference=base,
        truth=row_statistics(truth.astype(np.float32)),
        chosen=chosen[1],
        found=margins(base, rows, *chosen),
        prefill=np.arange(POSITIONS) == 0,
        expected=POSITIONS,
        divergence=None,
        ended=False,
        unchosen=np.zeros(POSITIONS, np.bool_),
        astray=np.zeros(POSITIONS, np.bool_),
    )


def _centred(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    return np.asarray(wide - wide.mean(axis=-1, keepdims=True))
