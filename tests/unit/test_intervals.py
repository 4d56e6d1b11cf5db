"""Intervals agree with tables, with sums by hand, and with what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.alignment.intervals import error_ratio, student_t


def squares(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


@pytest.mark.parametrize(
    ("degrees", "t"),
    [
        (1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (5, 2.5706), (7, 2.3646),
        (10, 2.2281), (15, 2.1314), (30, 2.0423), (31, 2.0395), (60, 2.0003), (120, 1.9799),
        (1000, 1.9623),
    ],
)  # fmt: skip
def test_student_t_at_95_percent_is_that_of_the_table(degrees: int, t: float) -> None:
    assert student_t(0.95, degrees) == pytest.approx(t, abs=5e-5)


@pytest.mark.parametrize(
    ("confidence", "degrees", "t"),
    [(0.99, 1, 63.6567), (0.99, 5, 4.0321), (0.9, 8, 1.8595), (0.5, 1, 1.0), (0.999, 30, 3.6460)],
)
def test_student_t_at_other_levels(confidence: float, degrees: int, t: float) -> None:
    assert student_t(confidence, degrees) == pytest.approx(t, abs=5e-5)


@pytest.mark.parametrize(("confidence", "degrees"), [(0.0, 3), (1.0, 3), (-1, 3), (0.95, 0)])
def test_student_t_elsewhere_is_an_error(confidence: float, degrees: int) -> None:
    with pytest.raises(ValueError, match="no t"):
        student_t(confidence, degrees)


def test_the_ratio_of_three_prompts_by_hand() -> None:
    """Left out one by one: ratios 8/5, 7/4 and 5/3 of sums, in logs halved."""
    found = error_ratio(squares(2, 3, 5), squares(1, 2, 3))
    logs = [0.5 * math.log(v) for v in (8 / 5, 7 / 4, 5 / 3)]
    mean = sum(logs) / 3
    error = math.sqrt(2 / 3 * sum((v - mean) ** 2 for v in logs))
    centre = 0.5 * math.log(10 / 6)
    assert found.value == pytest.approx(math.sqrt(10 / 6))
    assert found.low == pytest.approx(math.exp(centre - 4.30265 * error), rel=1e-5)
    assert found.high == pytest.approx(math.exp(centre + 4.30265 * error), rel=1e-5)


def test_equal_errors_have_an_interval_of_no_width() -> None:
    found = error_ratio(squares(1, 2, 3), squares(1, 2, 3))
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_the_scale_of_the_logits_does_not_matter() -> None:
    a, b = squares(2, 3, 5, 1), squares(1, 2, 3, 1)
    near = error_ratio(a, b)
    for scale in (1e-12, 1e12):
        far = error_ratio(a * scale, b * scale)
        for mine, theirs in ((far.value, near.value), (far.low, near.low), (far.high, near.high)):
            assert mine == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("candidate", "reference", "value"),
    [
        ([], [], None),
        ([1.0, 2.0], [0.0, 0.0], None),
        ([0.0, 0.0], [0.0, 0.0], None),
        ([0.0, 0.0], [1.0, 2.0], 0.0),
        ([4.0], [1.0], 2.0),
        ([4.0, 0.0, 0.0], [1.0, 0.5, 0.5], math.sqrt(2.0)),
        ([1.0, 1.0, 2.0], [0.0, 1.0, 0.0], 2.0),
    ],
)
def test_too_little_for_an_interval(
    candidate: list[float], reference: list[float], value: float | None
) -> None:
    found = error_ratio(squares(*candidate), squares(*reference))
    assert found.value == (None if value is None else pytest.approx(value))
    assert found.low is found.high is None


def test_an_absurd_spread_stays_finite() -> None:
    found = error_ratio(squares(1e-200, 1e60, 1e-100), squares(1e50, 1e-200, 1e-100))
    assert all(v is None or math.isfinite(v) for v in (found.value, found.low, found.high))


@pytest.mark.parametrize("prompts", [4, 8, 32])
def test_the_interval_covers_the_true_ratio_as_often_as_it_says(prompts: int) -> None:
    """Prompts differ in size (shared) and in how they hit each arm (own)."""
    random = np.random.default_rng(11)
    trials, covered = 2000, 0
    for _ in range(trials):
        size = random.normal(0.0, 0.5, prompts)
        candidate = 1.3**2 * np.exp(size + random.normal(0.0, 0.3, prompts))
        reference = np.exp(size + random.normal(0.0, 0.3, prompts))
        found = error_ratio(candidate, reference)
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.3 <= found.high
    assert 0.92 <= covered / trials <= 0.98
