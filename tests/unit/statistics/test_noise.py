"""Noise, tolerance and the errors they are made of."""

from __future__ import annotations

import math

import numpy as np
import pytest
from factories import told

from harness.statistics.noise import (
    local_noise,
    rms_error,
    row_spacing,
    shared_error,
    spacing,
    squared_error,
    tolerance,
    top_k_squared_errors,
)
from harness.statistics.rows import row_statistics


def array(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


@pytest.mark.parametrize(
    ("dtype", "magnitude", "unit"),
    [
        ("bfloat16", 16.0, 0.125),
        ("bfloat16", 31.9, 0.125),
        ("bfloat16", 32.0, 0.25),
        ("bfloat16", 15.99, 0.0625),
        ("bfloat16", -20.0, 0.125),
        ("bfloat16", 1.0, 2.0**-7),
        ("float16", 16.0, 2.0**-6),
        ("float16", 1.0, 2.0**-10),
        ("float32", 1.0, 2.0**-23),
        ("float32", 0.999, 2.0**-24),
        ("float32", 24.0, 2.0**-19),
    ],
)
def test_spacing_is_that_of_neighbouring_numbers(dtype: str, magnitude: float, unit: float) -> None:
    assert spacing(dtype, array(magnitude)).tolist() == [unit]


def test_spacing_agrees_with_numpy_where_numpy_knows_it() -> None:
    values = np.random.default_rng(1).uniform(0.001, 60000, 500)
    for dtype in (np.float16, np.float32):
        exact = values.astype(dtype)
        mine = spacing(np.dtype(dtype).name, exact.astype(np.float64))
        assert (mine == np.spacing(exact).astype(np.float64)).all()


def test_spacing_of_zero_is_positive_and_of_other_dtypes_unknown() -> None:
    assert spacing("bfloat16", array(0.0))[0] > 0
    with pytest.raises(ValueError, match="int8"):
        spacing("int8", array(1.0))


def test_row_spacing_takes_the_largest_magnitude() -> None:
    block = np.zeros((2, 30), np.float32)
    block[0, 4] = 17.0
    block[1] = -40.0
    assert row_spacing("bfloat16", row_statistics(block)).tolist() == [0.125, 0.25]


def test_tolerance_is_the_larger_of_two_units_and_the_scaled_noise() -> None:
    noise, unit = array(0.1, 0.01, 0.2), array(0.125, 0.125, 0.0625)
    assert tolerance(4.0, noise, unit).tolist() == pytest.approx([0.4, 0.25, 0.8])
    assert tolerance(0.0, noise, unit).tolist() == [0.25, 0.25, 0.125]


def test_local_noise_pools_the_arms_and_never_falls_below_one_rounding() -> None:
    found = local_noise([array(0.3, 0.0), array(0.4, 0.0)], array(0.1, 0.12))
    assert found.tolist() == pytest.approx([math.sqrt(0.125), 0.12 / math.sqrt(12)])


def test_the_error_is_that_over_the_whole_vocabulary() -> None:
    random = np.random.default_rng(2)
    truth: np.ndarray = 3 * random.standard_normal((400, 2000))
    error = 0.05 * random.standard_normal(truth.shape)
    arm = row_statistics((truth + error).astype(np.float32))
    oracle = row_statistics(truth.astype(np.float32))
    assert squared_error(arm, oracle).shape == (400,)
    rms = rms_error(arm, oracle, 2000)
    assert math.sqrt(float(np.mean(rms**2))) == pytest.approx(0.05, rel=0.02)
    assert (rms_error(oracle, oracle, 2000) == 0).all()


def test_an_offset_is_no_error() -> None:
    eighths = np.random.default_rng(3).integers(-64, 64, (3, 500))
    truth = np.asarray(eighths / 8, np.float32)
    found = squared_error(row_statistics(truth + np.float32(32)), row_statistics(truth))
    assert found == pytest.approx(np.zeros(3), abs=1e-6)


def one_row(logits: dict[int, float], width: int = 60) -> np.ndarray:
    row = np.full((1, width), -100.0, np.float32)
    row[0, list(logits)] = list(logits.values())
    return row


def test_top_k_error_recentres_on_the_ids_of_the_oracle() -> None:
    """Off by +-1 around an offset of 5."""
    oracle = row_statistics(one_row({i: float(i) for i in range(20)}))
    arm = one_row({i: i + 5.0 + (1 if i % 2 else -1) for i in range(20)})
    (errors,), counts = top_k_squared_errors([row_statistics(arm)], oracle)
    assert counts.tolist() == [20]
    assert errors.tolist() == pytest.approx([20.0])


def test_an_id_that_an_arm_does_not_list_counts_with_its_last_logit() -> None:
    """Id 19, the oracle's likeliest, fell out of the arm's list, which ends at 0.
    Off by -19 at one of 20 ids: 19^2 (1 - 1/20)."""
    oracle = row_statistics(one_row({i: float(i) for i in range(20)}))
    arm = row_statistics(one_row({i: float(i) for i in range(19)} | {40: 0.0, 19: -50.0}))
    near = row_statistics(one_row({i: float(i) + (i == 0) for i in range(20)}))
    errors, counts = top_k_squared_errors([arm, near], oracle)
    assert counts.tolist() == [20]
    assert errors[0].tolist() == pytest.approx([361 * 19 / 20])
    assert errors[1].tolist() == pytest.approx([1 - 1 / 20])


def test_an_arm_with_other_ids_altogether_is_as_far_off_as_the_oracle_is_spread() -> None:
    oracle = row_statistics(one_row({i: float(i) for i in range(20)}))
    arm = row_statistics(one_row({i: 50.0 + i for i in range(20, 40)}))
    (errors,), counts = top_k_squared_errors([arm], oracle)
    assert counts.tolist() == [20]
    assert errors.tolist() == pytest.approx([sum((i - 9.5) ** 2 for i in range(20))])


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_short_list_is_held_against_as_many_of_the_oracle(length: int) -> None:
    oracle = row_statistics(one_row({i: float(i) for i in range(20)}))
    short = told(one_row({i: float(i) + (i == 19) for i in range(20)}), length)
    (errors,), counts = top_k_squared_errors([short], oracle)
    assert counts.tolist() == [length if length >= 2 else 0]
    assert errors.tolist() == pytest.approx([1 - 1 / length], abs=1e-5)


def test_broken_rows_have_as_many_ids_as_are_finite() -> None:
    broken = np.full((1, 60), np.nan, np.float32)
    broken[0, :3] = [1.0, 2.0, 3.0]
    rows = row_statistics(broken)
    (errors,), counts = top_k_squared_errors([rows], rows)
    assert counts.tolist() == [3]
    assert errors.tolist() == [0.0]


def test_the_correlation_of_errors_by_hand() -> None:
    """Products 2 and -6 over errors of 1 + 9 and 4 + 4."""
    one, other = np.array([[1.0, 0.0]]), np.array([[2.0, 0.0]])
    pairs = [(one, other), (np.array([[3.0]]), np.array([[-2.0]]))]
    assert shared_error(pairs) == pytest.approx(-4.0 / np.sqrt(80.0))
    assert shared_error([(one, one)]) == pytest.approx(1.0)


@pytest.mark.parametrize("pairs", [[], [(np.zeros((1, 2)), np.ones((1, 2)))]])
def test_nothing_shares_no_error(pairs: list[tuple[np.ndarray, np.ndarray]]) -> None:
    assert shared_error(pairs) == 0.0
