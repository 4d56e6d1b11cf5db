"""The scales of the guards: tails of known power, standings by hand, outliers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from factories import RNG, arm_rows, assert_scales_equal

from harness.baseline.controls import RatioLimit
from harness.baseline.scales import (
    COMMON,
    HEAVIEST,
    LEAST_KAPPA,
    LIGHTEST,
    ROW_HEADROOM,
    SHIFT_HEADROOM,
    ArmRows,
    outlying,
    scales_of,
    tail_of,
)

LIMIT = RatioLimit()


def pareto(seed: int, power: float, count: int) -> np.ndarray:
    """``P(X > x) = x ** -power`` from 1 on."""
    return np.asarray(RNG(seed).random(count) ** (-1.0 / power))


def suite(
    shifts: np.ndarray | None = None, prompts: int = 50, rows: int = 20, seed: int = 1
) -> list[ArmRows]:
    """Three arms of normal errors; the controls' shifts, (2, prompts * rows)."""
    random = RNG(seed)
    if shifts is None:
        shifts = np.abs(random.standard_normal((2, prompts * rows)))
    parts = np.split(shifts, prompts, axis=1)
    return [
        ArmRows(random.standard_normal((3, rows, 64)) / 8, np.arange(rows), part) for part in parts
    ]


@pytest.mark.parametrize("power", [5.0, 7.0, 9.0])
def test_the_tail_of_pareto_draws_is_theirs(power: float) -> None:
    tails = [tail_of(pareto(seed, power, 4000)) for seed in range(200)]
    powers = [tail.power for tail in tails if tail is not None]
    assert len(powers) == 200
    assert np.median(powers) == pytest.approx(power, rel=0.1)
    assert all(HEAVIEST <= found <= LIGHTEST for found in powers)
    tail = tails[0]
    assert tail is not None
    assert (tail.values, tail.share) == (4000, 20 / 4000)
    assert np.sum(pareto(0, power, 4000) > tail.start) == 20


@pytest.mark.parametrize(("power", "taken"), [(2.0, HEAVIEST), (40.0, LIGHTEST)])
def test_no_tail_is_taken_to_be_heavier_or_lighter_than_seen_in_models(
    power: float, taken: float
) -> None:
    tails = [tail_of(pareto(seed, power, 4000)) for seed in range(20)]
    assert [tail.power for tail in tails if tail is not None] == [taken] * 20


@pytest.mark.parametrize("power", [5.0, 7.0])
def test_kappa_is_beyond_the_shift_of_one_position_in_a_suite(power: float) -> None:
    """Of 1000 positions one is beyond ``1000 ** (1 / power)``."""
    kappas = [
        scales_of(suite(pareto(seed, power, 2000).reshape(2, 1000)), LIMIT).kappa
        for seed in range(60)
    ]
    assert np.median(kappas) == pytest.approx(SHIFT_HEADROOM * 1000 ** (1 / power), rel=0.1)


def test_one_value_of_the_controls_hardly_moves_kappa() -> None:
    """Ten times the largest of all, one of the 20 values that make the tail: its mean
    logarithm grows by log(10) / 20, and one position in ten values lies beyond."""
    most = 10 ** (math.log(10) / 20)
    for seed in range(20):
        shifts = pareto(seed, 7.0, 2000)
        plain = scales_of(suite(shifts.reshape(2, 1000)), LIMIT).kappa
        far = shifts.copy()
        far[np.argmax(far)] *= 10
        moved = scales_of(suite(far.reshape(2, 1000)), LIMIT).kappa
        assert plain <= moved <= most * plain * (1 + 1e-12)
        assert moved < far.max()


def test_kappa_grows_slowly_with_the_length_of_a_suite() -> None:
    """The largest of eight times as many values is further out, by the tail's power."""
    one = scales_of(suite(pareto(3, 7.0, 2000).reshape(2, 1000)), LIMIT)
    eight = scales_of(suite(pareto(4, 7.0, 16_000).reshape(2, 8000), rows=160), LIMIT)
    assert one.kappa < eight.kappa < 2 * one.kappa


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_few_shifts_have_no_tail(count: int) -> None:
    assert tail_of(np.ones(count)) is None


def test_shifts_of_which_few_are_not_zero_have_the_tail_of_these() -> None:
    assert tail_of(np.zeros(400)) is None
    one = tail_of(np.where(np.arange(400) == 3, 0.5, 0.0))
    assert one is not None
    assert (one.share, one.start, one.power) == (1 / 400, 0.5, HEAVIEST)
    three = tail_of(np.array([*[0.0] * 397, 0.5, 1.0, 0.75]))
    assert three is not None
    assert (three.share, three.start) == (2 / 400, 0.5)
    equal = tail_of(np.ones(400))
    assert equal is not None
    assert (equal.start, equal.power) == (1.0, LIGHTEST)


def test_a_row_stands_at_its_error_over_the_other_arms_by_hand() -> None:
    """Squared errors 1, 4 and 9 at one position, 0 of all at another."""
    error = np.zeros((3, 2, 64))
    error[:, 0, 5] = 1.0, 2.0, -3.0
    found = ArmRows(error, np.arange(2), np.zeros((2, 2)))
    assert found.squared.tolist() == [[1, 0], [4, 0], [9, 0]]
    wanted = [np.sqrt(2 / 13), np.sqrt(8 / 10), np.sqrt(18 / 5)]
    assert found.standing[:, 0].tolist() == pytest.approx(wanted)
    assert found.standing[:, 1].tolist() == [0.0] * 3
    assert found.prompt_standing.tolist() == pytest.approx(wanted)


def test_a_single_arm_stands_nowhere() -> None:
    found = ArmRows(np.ones((1, 4, 64)), np.arange(4), np.zeros((0, 4)))
    assert found.standing.tolist() == [[0.0] * 4]
    assert found.prompt_standing.tolist() == [0.0]


def test_a_prompt_stands_by_its_typical_row() -> None:
    error = np.zeros((3, 2, 64))
    error[:, 0, 0], error[:, 1, 1] = [1.0, 1.0, 1.0], [7.0, 1.0, 1.0]
    found = ArmRows(error, np.arange(2), np.zeros((2, 2)))
    assert found.prompt_standing[0] == pytest.approx(np.sqrt(7.0))
    assert found.prompt_standing[1] == pytest.approx(np.sqrt(1.0 / 5.0))


def test_limits_are_headroom_over_what_the_arms_show() -> None:
    prompts = suite()
    found = scales_of(prompts, LIMIT)
    rows = np.stack([p.standing for p in prompts])
    assert found.row_largest == pytest.approx(rows.max())
    assert found.row_limit == pytest.approx(ROW_HEADROOM * rows.max())
    assert found.row_common == pytest.approx(np.quantile(rows, COMMON))
    whole = max(float(p.prompt_standing.max()) for p in prompts)
    assert found.prompt_largest == pytest.approx(whole)
    assert found.prompt_limit == 1.8
    assert found.arms == 3
    wide = scales_of(prompts, RatioLimit(value=3.0, size=2.0))
    assert wide.row_limit == pytest.approx(2 * found.row_limit)
    assert wide.prompt_limit == pytest.approx(2 * found.prompt_limit)


def with_outlier(arms: list[int], times: float) -> list[ArmRows]:
    """The rows of a suite, of which one of each named arm is so many times too large."""
    prompts = suite()
    for k, arm in enumerate(arms):
        error = prompts[k].error.copy()
        error[arm, 4] *= times
        prompts[k] = ArmRows(error, prompts[k].positions, prompts[k].shift)
    return prompts


@pytest.mark.parametrize("arm", [0, 1, 2])
def test_an_arm_with_an_outlier_of_its_own_sets_no_limit_of_rows(arm: int) -> None:
    plain, found = scales_of(suite(), LIMIT), scales_of(with_outlier([arm], 24.0), LIMIT)
    assert plain.row_largest / 1.2 < found.row_largest <= plain.row_largest
    assert found.row_limit < 24 / 3
    # And what all but one in a hundred do is not moved either.
    assert found.row_common == pytest.approx(plain.row_common, rel=0.02)


def test_what_no_arm_has_alone_does_set_it() -> None:
    """Hard positions are hard for all arms: such a row stands out by less than three
    times, and is noise."""
    found = scales_of(with_outlier([1], 2.5), LIMIT)
    assert found.row_largest > scales_of(suite(), LIMIT).row_largest


@pytest.mark.parametrize(
    ("largest", "arm", "alone"),
    [
        ([1.0, 1.2, 3.7], 2, True),
        ([1.0, 1.2, 2.9], 2, False),
        ([9.0, 1.2, 3.5], 0, True),
        ([9.0, 1.2, 8.0, 1.1], 0, True),
        ([9.0, 1.2, 8.0, 1.1], 2, True),
        ([1.0, 9.0], 1, False),
        ([1.0], 0, False),
    ],
)
def test_an_arm_is_outlying_by_three_times(largest: list[float], arm: int, alone: bool) -> None:
    assert outlying(largest, arm) == alone


def test_no_prompts_and_no_rows_have_no_scales() -> None:
    empty = ArmRows(np.zeros((3, 0, 64)), np.arange(0), np.zeros((2, 0)))
    for prompts in ([], [empty]):
        found = scales_of(prompts, LIMIT)
        assert (found.kappa, found.tail) == (LEAST_KAPPA, None)
        assert found.row_largest == found.row_limit == found.row_common == 0.0
        assert found.prompt_largest == 0.0


def test_a_prompt_without_a_finite_row_moves_nothing() -> None:
    empty = ArmRows(np.zeros((3, 0, 64)), np.arange(0), np.zeros((2, 0)))
    assert_scales_equal(scales_of([*suite(), empty], LIMIT), scales_of(suite(), LIMIT))


def test_equal_arms_stand_at_one() -> None:
    found = scales_of([arm_rows() for _ in range(5)], LIMIT)
    assert found.row_largest == found.row_common == found.prompt_largest == 1.0
