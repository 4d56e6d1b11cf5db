"""Score tests against known answers: normal rounding, directions that are known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.statistics.intervals import student_t
from harness.statistics.score import (
    LEAST_NOISE,
    SHRINKAGE,
    Metric,
    largest_by_chance,
    least_t,
    likeness,
    metric_of,
    prompt_scales,
    size_of,
    t_values,
)

PROMPTS, ROWS, WIDTH = 16, 12, 64


def arms(random: np.random.Generator, scales: np.ndarray) -> list[np.ndarray]:
    """Three arms whose rows of each prompt have this noise."""
    return [random.normal(0.0, s, (3, ROWS, WIDTH)) for s in scales]


def test_t_is_that_of_a_textbook() -> None:
    scores = np.array([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]])
    assert t_values(scores).tolist() == pytest.approx([2.0 * math.sqrt(3.0), 0.0])


def test_a_single_prompt_has_no_t() -> None:
    with pytest.raises(ValueError, match="two"):
        t_values(np.ones((1, 3)))


def test_t_of_normal_scores_has_students_tail() -> None:
    t = t_values(np.random.default_rng(1).normal(size=(PROMPTS, 20_000)))
    assert float((np.abs(t) > student_t(0.99, PROMPTS - 1)).mean()) == pytest.approx(
        0.01, abs=0.002
    )


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_the_largest_of_many_errs_as_often_as_it_says(correlation: float) -> None:
    """Independent hypotheses and alike ones, prompts of different noise."""
    random = np.random.default_rng(2)
    runs, beyond = 300, 0
    for _ in range(runs):
        common = random.normal(size=(PROMPTS, 1))
        own = random.normal(size=(PROMPTS, 40))
        scores = math.sqrt(correlation) * common + math.sqrt(1.0 - correlation) * own
        scores *= random.uniform(0.5, 2.0, (PROMPTS, 1))
        scales = prompt_scales(scores)
        (limit,) = largest_by_chance(scores, (0.95,), scales, flips=1000)
        beyond += float(np.abs(t_values(scores, scales)).max()) > limit
    # Twice the deviation of 300 runs around 5 %.
    assert 0.025 <= beyond / runs <= 0.075


def test_the_limit_does_not_depend_on_the_unit_of_a_hypothesis() -> None:
    scores = np.random.default_rng(3).normal(size=(PROMPTS, 30))
    units = 10.0 ** np.arange(-12, 18)
    assert largest_by_chance(scores * units, (0.95,), flips=500) == pytest.approx(
        largest_by_chance(scores, (0.95,), flips=500), rel=1e-5
    )


def test_prompts_of_different_information_do_not_hide_an_effect() -> None:
    """An effect of one size, in prompts whose information differs a hundredfold: t is as
    large as the information allows, where the textbook's is not."""
    random = np.random.default_rng(10)
    information = 10.0 ** random.uniform(-1.0, 1.0, PROMPTS)
    noise = random.normal(size=(PROMPTS, 200)) * np.sqrt(information)[:, None]
    scores = noise.copy()
    scores[:, 0] += 3.0 * information
    scales = prompt_scales(noise)
    assert scales**2 == pytest.approx(information / information.mean(), rel=0.5)
    expected = 3.0 * math.sqrt(information.sum())
    assert t_values(scores, scales)[0] == pytest.approx(expected, rel=0.5)
    assert t_values(scores)[0] < 0.6 * expected
    assert float(np.abs(t_values(scores, scales)[1:]).max()) < 7.0


def test_a_hypothesis_without_scores_has_no_t_and_no_limit() -> None:
    scores = np.zeros((PROMPTS, 2))
    assert not t_values(scores).any()
    assert largest_by_chance(scores, (0.999,), flips=100) == (0.0,)


def test_what_rounding_shares_is_no_effect() -> None:
    """A candidate that has all, half or none of the arms' systematic rounding."""
    random = np.random.default_rng(4)
    rounding = random.normal(1.0, 0.1, (PROMPTS, 1))
    for share in (0.0, 0.5, 1.0):
        candidate = share * rounding + random.normal(0.0, 0.2, (PROMPTS, 1))
        assert abs(least_t(candidate, rounding, (0.0, 0.5, 1.0))[0]) < 3.0
    beyond = 3.0 * rounding
    assert least_t(beyond, rounding, (0.0, 0.5, 1.0))[0] > 10.0
    between = 0.25 * rounding  # of either sign, by what is taken off
    assert least_t(between, rounding, (0.0, 0.5, 1.0))[0] == 0.0


def test_rows_weigh_by_their_noise() -> None:
    scales = np.array([1.0, 2.0, 4.0])
    metric = metric_of(arms(np.random.default_rng(5), scales))
    found = [float(np.median(w)) for w in metric.weights]
    assert found == pytest.approx((1.0 / (WIDTH * scales**2)).tolist(), rel=0.1)


def test_a_row_in_which_the_arms_agree_does_not_govern() -> None:
    given = arms(np.random.default_rng(6), np.ones(8))
    given[0][:, 3] = 0.0
    metric = metric_of(given)
    middle = float(np.median(np.concatenate(metric.weights)))
    assert metric.weights[0][3] == pytest.approx(middle / LEAST_NOISE, rel=0.1)


def test_directions_weigh_by_their_noise() -> None:
    """Noise that is three times as large in one direction counts a ninth there, but for
    the shrinkage."""
    random = np.random.default_rng(7)
    given = arms(random, np.ones(60))
    for rows in given:
        rows[..., 0] *= 3.0
    inverse = metric_of(given).inverse
    level = (WIDTH + 8.0) / WIDTH
    expected = (9.0 / level * (1.0 - SHRINKAGE) + SHRINKAGE) / (
        1.0 / level * (1.0 - SHRINKAGE) + SHRINKAGE
    )
    assert inverse[1, 1] / inverse[0, 0] == pytest.approx(expected, rel=0.1)


def test_arms_without_an_error_have_no_metric() -> None:
    with pytest.raises(ValueError, match="no error"):
        metric_of([np.zeros((3, ROWS, WIDTH))])
    with pytest.raises(ValueError, match="no error"):
        metric_of([])


def test_the_size_of_an_error_without_rounding_is_exact() -> None:
    information = np.array([1.0, 4.0, 9.0, 2.0])
    found = size_of(0.3 * information, information, 2.0)
    assert (found.value, found.low, found.high) == pytest.approx((0.3, 0.3, 0.3))
    assert found.explained == pytest.approx(0.09 * 16.0)


def test_a_direction_of_nothing_has_no_size() -> None:
    with pytest.raises(ValueError, match="direction is 0"):
        size_of(np.zeros(4), np.zeros(4), 2.0)


def test_intervals_of_sizes_cover_what_they_say() -> None:
    """Normal rounding, a linear model: prompts of different length and noise."""
    random = np.random.default_rng(8)
    direction = random.normal(size=(PROMPTS, ROWS, WIDTH))
    noise = random.uniform(0.5, 2.0, PROMPTS)
    metric = Metric(tuple(np.full(ROWS, 1.0 / n**2) for n in noise), np.eye(WIDTH))
    weighed = [metric.weighed(i, d) for i, d in enumerate(direction)]
    information = np.array([np.sum(w * d) for w, d in zip(weighed, direction, strict=True)])
    inside, runs = 0, 1000
    for _ in range(runs):
        rounding = random.normal(size=direction.shape) * noise[:, None, None]
        error = 0.02 * direction + rounding
        scores = np.array([np.sum(w * e) for w, e in zip(weighed, error, strict=True)])
        found = size_of(scores, information, student_t(0.95, PROMPTS - 1))
        inside += found.low <= 0.02 <= found.high
    assert 0.935 <= inside / runs <= 0.975


def test_likeness_is_a_correlation() -> None:
    one, other = np.array([1.0, 3.0]), np.array([9.0, 7.0])
    assert likeness(one, other, 8.0) == pytest.approx(1.0)
    assert likeness(one, np.zeros(2), 0.0) == 0.0
