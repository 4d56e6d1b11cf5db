"""Many prompts are judged a few rows at a time, and the figure is the same."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics import systematic
from harness.statistics.systematic import systematic_share


@pytest.mark.parametrize("at_once", [1, 7, 40, 99, 1600])
def test_the_share_does_not_depend_on_how_many_are_held_at_once(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    random = np.random.default_rng(5)
    sums = random.standard_normal((40, 64)) + 0.2
    counts, errors = random.integers(1, 70, 40).astype(float), 90 * random.random(40)
    monkeypatch.setattr(systematic, "_AT_ONCE", at_once)
    found = systematic_share(sums, counts, errors)
    products = sums @ sums.T - np.diag(np.sum(sums * sums, axis=1))
    weights = np.outer(counts, counts) - np.diag(counts**2)
    wanted = products.sum() / weights.sum() / (errors.sum() / counts.sum())
    assert found.value == pytest.approx(wanted)
    monkeypatch.undo()
    whole = systematic_share(sums, counts, errors)
    assert (found.error, found.freedom) == pytest.approx((whole.error, whole.freedom))
