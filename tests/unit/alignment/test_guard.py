"""The classes of positions, and that the pooled guard agrees with them."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from harness.alignment.gates.guard import classify
from harness.alignment.outcomes import FAILING, PointClass
from harness.baseline.floor import relative_push
from harness.statistics.margins import Margins
from harness.statistics.noise import tolerance


@pytest.mark.parametrize(
    ("margin", "shift", "flip", "bad", "expected"),
    [
        (1.0, 0.1, False, False, "EXACT"),
        (1.0, 0.5, False, False, "EXACT"),
        (1.0, -0.51, False, False, "SILENT_DRIFT"),
        (1.0, 0.51, False, False, "SILENT_DRIFT"),
        (0.0, -0.1, True, False, "TIE"),
        (0.0, 0.0, True, False, "TIE"),
        (0.2, -0.5, True, False, "NEAR_TIE"),
        (0.2, -0.6, True, False, "DIVERGENT"),
        (0.0, -0.6, True, False, "DIVERGENT"),
        (1.0, 0.0, False, True, "NONFINITE"),
        (1.0, -9.0, True, True, "NONFINITE"),
        (0.0, 0.0, False, False, "EXACT"),
        # A flip that no shift explains: the choice did not follow the logits.
        (0.5, 0.0, True, False, "NEAR_TIE"),
        (0.6, 0.0, True, False, "DIVERGENT"),
        (9.0, 0.0, True, False, "DIVERGENT"),
    ],
)
def test_classes_at_a_tolerance_of_one_half(
    margin: float, shift: float, flip: bool, bad: bool, expected: PointClass
) -> None:
    assert classes_of(margin, shift, flip, bad) == [expected]


def classes_of(
    margin: float, shift: float, flip: bool, bad: bool = False, unchosen: bool = False
) -> list[PointClass]:
    found = Margins(
        *(np.array([1]), np.array([margin]), np.array([shift]), np.array([flip])),
    )
    return classify(found, np.array([0.5]), np.array([bad]), np.array([unchosen]))


@pytest.mark.parametrize(("flip", "expected"), [(True, "DIVERGENT"), (False, "SILENT_DRIFT")])
def test_a_choice_that_is_not_the_best_of_its_own_row_fails(flip: bool, expected: str) -> None:
    """However small the shift and the margin are: no noise makes a device choose it."""
    assert classes_of(0.2, 0.1, flip, unchosen=True) == [expected]
    assert classes_of(0.2, 0.1, flip) == ["NEAR_TIE" if flip else "EXACT"]


def test_a_position_fails_exactly_where_its_push_is_beyond_kappa() -> None:
    """Two ways to say one thing: classes by tolerance, and the pooled guard."""
    random = np.random.default_rng(8)
    n, kappa = 4000, 3.0
    unit, noise = random.uniform(0.01, 0.3, n), random.uniform(0.02, 0.2, n)
    found = Margins(
        rival=np.ones(n, np.int64),
        margin=np.abs(random.normal(0, 0.5, n)),
        shift=random.normal(0, 0.5, n),
        flip=random.random(n) < 0.3,
    )
    limit = tolerance(kappa, noise, unit)
    classes = classify(found, limit, *np.zeros((2, n), np.bool_))
    beyond = relative_push(found, unit, noise) > kappa
    assert beyond.tolist() == [c in FAILING for c in classes]
    assert min(Counter(classes).values()) > 50
