"""Bias and slope against sums by hand, and against the whole vocabulary."""

from __future__ import annotations

import math

import numpy as np
import pytest
from factories import RNG, evidence

from harness.alignment.evidence import Held, gather
from harness.alignment.gates.bias import bias_share, slope_difference
from harness.statistics.margins import margins
from harness.statistics.rows import row_statistics

VOCABULARY, PROMPTS, POSITIONS = 2000, 20, 10


def test_bias_of_three_prompts_by_hand() -> None:
    """Products of different prompts: (1,0).(2,0) = 2 and two of 0, each twice."""
    drift = np.zeros((3, 64))
    drift[0, 0], drift[1, 0], drift[2, 1] = 1.0, 2.0, 3.0
    rows, errors = np.tile([1, 0], (3, 1)), np.tile([1.0, 0.0], (3, 1))
    found = bias_share(evidence(3, drift=drift, rows=rows, reference_error=errors))
    assert found.value == pytest.approx(4 / 6)
    # Left out one by one: 0, 0 and 2 * 2 / 2.
    assert found.error == pytest.approx(
        math.sqrt(2 / 3 * (4 * (0 - 2 / 3) ** 2 / 2 + (2 - 2 / 3) ** 2))
    )


def test_slope_of_three_prompts_by_hand() -> None:
    found = slope_difference(
        evidence(3, along=np.array([1.0, 2.0, 3.0]), power=np.array([10.0, 10.0, 20.0]))
    )
    assert found.value == pytest.approx(6 / 40)
    left_out = np.array([5 / 30, 4 / 30, 3 / 20])
    assert found.error == pytest.approx(jackknife_by_hand(left_out))


def jackknife_by_hand(left_out: np.ndarray) -> float:
    return math.sqrt(2 / 3 * float(np.sum((left_out - left_out.mean()) ** 2)))


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
        [_held(i, *(a[i] for a in (candidate, reference, truth))) for i in range(PROMPTS)],
        [None] * PROMPTS,
        0,
    )
    d, o = (_centred(candidate) - _centred(reference)), _centred(truth)
    exact = float(np.sum(d * o) / np.sum(o * o))
    measured = slope_difference(found)
    assert exact == pytest.approx(slope, abs=1e-4)
    assert measured.value == pytest.approx(exact, abs=6e-4)
    assert measured.error is not None
    assert abs((measured.value or 0.0) - exact) < 4 * measured.error
    sums = d.sum(axis=1)
    products = sums @ sums.T
    pairs = (products.sum() - np.trace(products)) / (PROMPTS * (PROMPTS - 1) * POSITIONS**2)
    share = float(pairs / np.mean(np.sum((_centred(reference) - o) ** 2, axis=2)))
    assert share == pytest.approx((constant / 0.05) ** 2, abs=0.03)
    assert bias_share(found).value == pytest.approx(share, abs=0.05)


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
    )


def _centred(rows: np.ndarray) -> np.ndarray:
    wide = rows.astype(np.float64)
    return np.asarray(wide - wide.mean(axis=-1, keepdims=True))
