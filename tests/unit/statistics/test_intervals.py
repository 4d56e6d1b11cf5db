"""Intervals agree with tables, with sums by hand, and with what they promise."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.alignment.gates.decide import held_below
from harness.statistics.intervals import (
    Estimate,
    chance_of_more,
    error_ratio,
    freedom_of,
    geometric_ratio,
    jackknife_error,
    ratio_of_roots,
    student_t,
    t_at,
)


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
    # Weights 2/10 + 1/6, 3/10 + 2/6 and 5/10 + 3/6: 1.605 degrees of freedom,
    # between t = 12.7062 at 1 and 4.3027 at 2.
    freedom = 2**2 / sum(w * w for w in (11 / 30, 19 / 30, 1)) - 1
    share = (1 - 1 / freedom) / (1 - 1 / 2)
    t = 12.7062 * (4.30265 / 12.7062) ** share
    assert found.low == pytest.approx(math.exp(centre - t * error), rel=1e-5)
    assert found.high == pytest.approx(math.exp(centre + t * error), rel=1e-5)


def test_equal_weights_leave_one_degree_of_freedom_less_than_prompts() -> None:
    assert freedom_of(np.ones(7)) == pytest.approx(6.0)
    assert freedom_of(squares(1, 0, 0, 0)) == 1.0
    assert freedom_of(squares(1, 1, 0, 0)) == pytest.approx(1.0)
    assert freedom_of(np.zeros(4)) == 1.0
    assert 1.0 < freedom_of(squares(5, 1, 1, 1)) < 3.0


def test_t_between_whole_degrees_lies_between_theirs() -> None:
    for lower in (1, 2, 7, 30):
        assert t_at(0.95, lower) == student_t(0.95, lower)
        between = [t_at(0.95, lower + x) for x in (0.25, 0.5, 0.75)]
        ends = [student_t(0.95, lower), *between, student_t(0.95, lower + 1)]
        assert ends == sorted(ends, reverse=True)
    assert t_at(0.95, 1e9) == pytest.approx(1.96, rel=0.01)


def test_as_many_prompts_as_were_asked_for_decide() -> None:
    """The same prompts over again, as many times as it takes."""
    random = np.random.default_rng(6)
    for scale, status in ((1.35, "PASS"), (2.0, "FAIL")):
        reference = np.exp(random.normal(0.0, 0.5, 6))
        candidate = scale**2 * reference * np.exp(random.normal(0.0, 0.6, 6))
        found = ratio_of_roots(candidate, reference)
        assert held_below(found, 1.5) == "INCONCLUSIVE"
        wanted = found.prompts_to_decide(1.5)
        assert wanted is not None
        assert wanted > 6
        for factor, decided in ((0.5, False), (1.1, True)):
            times = max(int(wanted * factor / 6) + decided, 1)
            again = ratio_of_roots(np.tile(candidate, times), np.tile(reference, times))
            side = "PASS" if (found.value or 0.0) < 1.5 else "FAIL"
            assert (held_below(again, 1.5) == side) == decided, status


@pytest.mark.parametrize(
    "found", [Estimate(None), Estimate(1.2), Estimate(1.5, 0.1, 5.0, log=True, prompts=6)]
)
def test_where_more_prompts_decide_nothing_none_are_asked_for(found: Estimate) -> None:
    assert found.prompts_to_decide(1.5) is None


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


def test_the_geometric_ratio_of_three_prompts_by_hand() -> None:
    """Ratios 2, 3 and 1 of prompts with 1, 2 and 1 rows: (2 * 3^2 * 1)^(1/4)."""
    found = geometric_ratio(squares(4, 9, 1), squares(1, 1, 1), squares(1, 2, 1))
    assert found.value == pytest.approx(18**0.25)
    # Left out one by one: (3^2)^(1/3), 2^(1/2) and (2 * 3^2)^(1/3).
    logs = [2 / 3 * math.log(3), math.log(2) / 2, math.log(18) / 3]
    mean = sum(logs) / 3
    assert found.error == pytest.approx(math.sqrt(2 / 3 * sum((v - mean) ** 2 for v in logs)))
    assert found.freedom == pytest.approx(16 / 6 - 1)
    assert (found.log, found.prompts) == (True, 3)


def test_of_prompts_with_equal_rows_it_is_the_mean_of_logarithms() -> None:
    random = np.random.default_rng(2)
    ratios = np.exp(random.normal(0.0, 0.4, 12))
    size = np.exp(random.normal(0.0, 3.0, 12))
    found = geometric_ratio(ratios**2 * size, size, np.full(12, 7.0))
    assert found.value == pytest.approx(math.exp(float(np.log(ratios).mean())))
    assert found.error == pytest.approx(float(np.log(ratios).std(ddof=1)) / math.sqrt(12))
    assert found.freedom == pytest.approx(11.0)


def test_no_prompt_governs_the_geometric_ratio_by_its_size() -> None:
    """One prompt a million times as large in both arms; by sums it is all there is."""
    random = np.random.default_rng(3)
    reference = np.exp(random.normal(0.0, 0.3, 20))
    candidate = reference * np.exp(random.normal(0.0, 0.3, 20))
    rows = np.full(20, 10.0)
    plain = geometric_ratio(candidate, reference, rows)
    heavy = np.where(np.arange(20) == 4, 1e12, 1.0)
    found = geometric_ratio(candidate * heavy, reference * heavy, rows)
    assert found.value == pytest.approx(plain.value, rel=1e-12)
    assert found.error == pytest.approx(plain.error, rel=1e-9)
    moved = ratio_of_roots(candidate * heavy, reference * heavy)
    assert moved.value == pytest.approx(math.sqrt(candidate[4] / reference[4]), rel=1e-6)


def test_one_prompt_that_is_off_without_end_counts_a_thousandfold() -> None:
    rows, ones = np.ones(10), np.ones(10)
    for most in (1e12, math.inf):
        candidate = np.where(np.arange(10) == 2, most, 1.0) if most < math.inf else ones
        reference = ones if most < math.inf else np.where(np.arange(10) == 2, 0.0, 1.0)
        found = geometric_ratio(candidate, reference, rows)
        assert found.value == pytest.approx(1000 ** (1 / 10))
        assert found.error is not None
        assert math.isfinite(found.error)
    least = geometric_ratio(np.where(np.arange(10) == 2, 0.0, 1.0), ones, rows)
    assert least.value == pytest.approx(1000 ** (-1 / 10))


@pytest.mark.parametrize(
    ("candidate", "reference", "rows", "value", "prompts"),
    [
        ([], [], [], None, 0),
        ([0.0, 0.0], [0.0, 0.0], [1, 1], None, 0),
        ([1.0, 2.0], [0.0, 0.0], [1, 1], None, 2),
        ([0.0, 0.0], [1.0, 2.0], [1, 1], 0.0, 2),
        ([4.0], [1.0], [3], 2.0, 1),
        ([4.0, 0.0], [1.0, 0.0], [3, 3], 2.0, 1),
        ([4.0, 9.0], [1.0, 1.0], [3, 0], 2.0, 1),
        ([4.0, 9.0], [1.0, 1.0], [0, 0], None, 0),
    ],
)
def test_a_geometric_ratio_of_too_little_has_no_interval(
    candidate: list[float],
    reference: list[float],
    rows: list[float],
    value: float | None,
    prompts: int,
) -> None:
    found = geometric_ratio(*map(np.array, (candidate, reference, rows)))
    assert found.value == (None if value is None else pytest.approx(value))
    assert found.error is None
    assert found.prompts == prompts


@pytest.mark.parametrize("prompts", [8, 32])
def test_the_interval_covers_the_geometric_ratio_where_prompts_differ_without_bounds(
    prompts: int,
) -> None:
    """Sizes are log-normal with a deviation of 2: a few prompts hold all of the sum."""
    random = np.random.default_rng(21)
    trials, covered, wide = 2000, 0, 0
    for _ in range(trials):
        size = random.normal(0.0, 2.0, prompts)
        candidate = 1.3**2 * np.exp(size + random.normal(0.0, 0.3, prompts))
        reference = np.exp(size + random.normal(0.0, 0.3, prompts))
        found = geometric_ratio(candidate, reference, np.full(prompts, 16.0)).interval()
        assert found.low is not None
        assert found.high is not None
        covered += found.low <= 1.3 <= found.high
        by_sums = error_ratio(candidate, reference)
        assert by_sums.low is not None
        assert by_sums.high is not None
        wide += by_sums.high / by_sums.low > found.high / found.low
    assert 0.935 <= covered / trials <= 0.965
    assert wide / trials > 0.9


def test_a_jackknife_of_means_is_their_standard_error() -> None:
    values = np.random.default_rng(4).normal(size=9)
    left_out = (values.sum() - values) / 8
    assert jackknife_error(left_out) == pytest.approx(values.std(ddof=1) / 3)


def test_two_counts_are_held_against_each_other_exactly() -> None:
    """Binomial tails that are easy by hand."""
    assert chance_of_more(0, 5, 0.25) == 1.0
    assert chance_of_more(3, 0, 0.25) == pytest.approx(0.25**3)
    assert chance_of_more(1, 1, 0.5) == pytest.approx(0.75)
    assert chance_of_more(2, 2, 0.5) == pytest.approx(11 / 16)
    assert chance_of_more(200, 600, 0.25) == pytest.approx(0.51, abs=0.03)
