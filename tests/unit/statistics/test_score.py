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
    Null,
    chance_limit,
    contrasts,
    inflation,
    inflations,
    least_t,
    likeness,
    metric_of,
    size_of,
    t_values,
)

PROMPTS, ROWS, WIDTH = 16, 12, 64


def arms(random: np.random.Generator, scales: np.ndarray) -> list[np.ndarray]:
    """Three arms whose rows of each prompt have this noise."""
    return [random.normal(0.0, s, (3, ROWS, WIDTH)) for s in scales]


def null_of(random: np.random.Generator, hypotheses: int, scale: np.ndarray) -> Null:
    """Normal scores of two contrasts of three arms, each prompt of its own scale."""
    scores = random.normal(size=(2, PROMPTS, hypotheses)) * scale[:, None]
    return Null.of(scores.reshape(-1, hypotheses), 3, 2)


def test_contrasts_are_orthonormal_and_hold_nothing_that_is_shared() -> None:
    given = np.random.default_rng(1).normal(size=(4, ROWS, WIDTH))
    found = contrasts(given, 3)
    assert contrasts(given + 7.0, 3) == pytest.approx(found)
    # All of what the arms do not share: the same sum of squares as around their mean.
    assert float(np.sum(found**2)) == pytest.approx(float(np.sum((given - given.mean(0)) ** 2)))
    assert contrasts(given, 2) == pytest.approx(found[:2])
    assert len(contrasts(given[:2], 3)) == 1


def test_t_is_the_sum_over_the_deviation_less_what_one_prompt_makes_alone() -> None:
    even, uneven = [1.0, 1.2, 0.9, 1.1, 0.8], [0.5, 0.5, 6.0, 0.5, 0.0]
    scores = np.array([even, uneven, [-x for x in uneven], [0.0] * 5, [9.0, -1, -1, -1, -2]]).T
    found = t_values(scores, np.array([4.0, 4.0, 4.0, 0.0, 1.0]))
    assert found.tolist() == pytest.approx([2.5, 1.0, -1.0, 0.0, 0.0])


def test_no_single_prompt_makes_an_effect() -> None:
    scores = np.random.default_rng(2).normal(size=(PROMPTS, 500))
    scores[3] += 100.0
    t = t_values(scores, np.full(500, float(PROMPTS)))
    assert float(np.abs(t).max()) < chance_limit(500, 0.001, 2 * PROMPTS)


def test_the_variance_of_a_candidate_less_the_arms_mean_is_known() -> None:
    """Four arms and a candidate of normal noise, 20,000 times."""
    random = np.random.default_rng(3)
    all_of = random.normal(size=(5, 20_000))
    null = Null(np.ones(1), 4, 8)
    for share in (0.0, 0.5, 1.0):
        found = float(np.var(all_of[4] - share * all_of[:4].mean(axis=0)))
        assert float(null.of_candidate(share)[0]) == pytest.approx(found, rel=0.03)


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_the_largest_of_many_errs_no_more_often_than_it_says(correlation: float) -> None:
    """Independent hypotheses and alike ones, prompts of different noise, a candidate whose
    rounding is twice as coarse."""
    random = np.random.default_rng(4)
    runs, beyond = 400, 0
    for _ in range(runs):
        scale = random.uniform(0.5, 2.0, PROMPTS)

        def rounding(scale: np.ndarray = scale) -> np.ndarray:
            common = random.normal(size=(PROMPTS, 1))
            own = random.normal(size=(PROMPTS, 60))
            made = math.sqrt(correlation) * common + math.sqrt(1.0 - correlation) * own
            return np.asarray(made * scale[:, None])

        given = np.stack([rounding() for _ in range(4)])
        apart = contrasts(given, 2)
        null = Null.of(apart.reshape(-1, 60), 4, 2)
        mean = given.mean(axis=0)
        candidate = 2.0 * rounding() - mean
        inflated = inflations(candidate + mean, mean, null, (1.0,))
        t = least_t(candidate + mean, mean, null, (1.0,), inflated)
        beyond += float(np.abs(t).max()) > chance_limit(60, 0.05, null.units)
    assert beyond / runs <= 0.05 + 2.0 * math.sqrt(0.05 / runs)


def test_an_effect_is_told_as_the_information_allows() -> None:
    """In prompts whose information differs a hundredfold, and whose effect differs too: what
    the effect does to the scatter between prompts hides nothing."""
    random = np.random.default_rng(10)
    information = 10.0 ** random.uniform(-1.0, 1.0, PROMPTS)
    root = np.sqrt(information)
    null = null_of(random, 200, root)
    scores = random.normal(size=(PROMPTS, 200)) * root[:, None]
    scores[:, 0] += 3.0 * information * random.uniform(0.2, 1.8, PROMPTS)
    variance = null.of_candidate(1.0) * inflation(scores, null.of_candidate(1.0))
    t = t_values(scores, variance)
    expected = 3.0 * math.sqrt(information.sum())
    assert t[0] == pytest.approx(expected, rel=0.35)
    assert float(np.abs(t[1:]).max()) < chance_limit(200, 0.001, null.units)


def test_a_coarser_candidate_is_held_against_its_own_scatter() -> None:
    random = np.random.default_rng(11)
    null = null_of(random, 400, np.ones(PROMPTS))
    for coarse in (1.0, 3.0):
        scores = coarse * random.normal(size=(PROMPTS, 400))
        assert inflation(scores, null.variance) == pytest.approx(coarse**2, rel=0.3)
    assert inflation(0.01 * scores, null.variance) == 1.0
    assert inflation(np.zeros((PROMPTS, 2)), np.zeros(2)) == 1.0


def test_a_hypothesis_without_scores_has_no_t() -> None:
    assert not t_values(np.zeros((PROMPTS, 2)), np.zeros(2)).any()


def test_a_limit_grows_with_what_is_asked() -> None:
    assert chance_limit(1, 0.05, 1000) == pytest.approx(1.96, abs=0.01)
    assert chance_limit(0, 0.05, 1000) == chance_limit(1, 0.05, 1000)
    few, many = chance_limit(10, 0.001, 72), chance_limit(10**8, 0.001, 72)
    assert few == pytest.approx(student_t(1.0 - 1e-4, 72))
    assert 7.0 < many < 9.0
    assert chance_limit(10, 0.001, 16) > few


def test_what_rounding_shares_is_no_effect() -> None:
    """A candidate that has all, half or none of the arms' systematic rounding."""
    random = np.random.default_rng(4)
    rounding = random.normal(1.0, 0.1, (PROMPTS, 1))
    null = Null(np.full(1, 0.04 * PROMPTS), 4, 2 * PROMPTS)
    shares, inflated = (0.0, 0.5, 1.0), (1.0, 1.0, 1.0)
    for share in shares:
        candidate = share * rounding + random.normal(0.0, 0.2, (PROMPTS, 1))
        assert abs(least_t(candidate, rounding, null, shares, inflated)[0]) < 3.0
    assert least_t(3.0 * rounding, rounding, null, shares, inflated)[0] > 10.0
    between = 0.25 * rounding  # of either sign, by what is taken off
    assert least_t(between, rounding, null, shares, inflated)[0] == 0.0


def test_what_a_candidate_does_not_share_has_a_sign_of_its_own() -> None:
    """The arms round alike, and in some directions ten times as far as they differ; a candidate
    of the same precision correlates with that by 0.8 and 0.95."""
    random = np.random.default_rng(6)
    far = np.where(np.arange(60) < 12, 10.0, 0.3)
    runs = 300
    for share in (0.8, 0.95):
        beyond = unaware = 0
        for _ in range(runs):
            systematic = far * random.normal(size=(PROMPTS, 60))
            own = far * random.normal(size=(PROMPTS, 60))
            arms_ = systematic + random.normal(size=(4, PROMPTS, 60))
            null, mean = Null.of(contrasts(arms_, 2).reshape(-1, 60), 4, 2), arms_.mean(axis=0)
            mine = share * systematic + math.sqrt(1.0 - share**2) * own
            mine = mine + random.normal(size=(PROMPTS, 60))
            limit = chance_limit(60, 0.05, null.units)
            t = least_t(mine, mean, null, (share,), inflations(mine, mean, null, (share,)))
            beyond += float(np.abs(t).max()) > limit
            plain = t_values(mine - share * mean, null.of_candidate(share))
            unaware += float(np.abs(plain).max()) > limit
        assert beyond / runs <= 0.05 + 2.0 * math.sqrt(0.05 / runs)
        assert unaware / runs > 0.5


def test_one_that_shares_all_or_nothing_has_nothing_of_its_own() -> None:
    null, mean = Null(np.array([4.0, 4.0]), 4, 8), np.array([[9.0, 0.0], [-9.0, 0.5]])
    for shares in ((1.0,), (0.0, 0.5, 1.0)):
        given = [float(v[0]) for v in null.variances(mean, shares)]
        assert given == [float(null.of_candidate(share)[0]) for share in shares]
    wider, plain = null.variances(mean, (0.6, 1.0))[0] - null.of_candidate(0.6)
    # 1 - 0.6² of 162, less the quarter of the variance that is in the mean by chance.
    assert wider == pytest.approx(0.64 * (162.0 - 1.0))
    assert plain == 0.0


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
