"""Directions of an error: by hand, of noise alone, and of faults that change their sign."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics.directions import (
    LARGEST_ROW,
    SHRINKAGE,
    along_one,
    bounded,
    furthest,
    outer_sum,
    whitening,
)

WIDTH = 64


def noise(seed: int, prompts: int = 32, rows: int = 24) -> list[np.ndarray]:
    """Rows of length 1 on average, the same in all directions."""
    random = np.random.default_rng(seed)
    return list(random.standard_normal((prompts, rows, WIDTH)) / np.sqrt(WIDTH))


def second_moment(rows: np.ndarray) -> np.ndarray:
    return outer_sum(rows) / len(rows)


USUAL = whitening(second_moment(np.concatenate([*noise(1), *noise(2), *noise(3)])))
assert USUAL is not None


def test_rows_are_told_in_units_of_what_is_usual_at_their_position() -> None:
    found = bounded(np.array([[3.0, 4.0], [3.0, 4.0]]), np.array([5.0, 2.5]))
    assert found.tolist() == [[0.6, 0.8], [1.2, 1.6]]


def test_no_row_is_longer_than_the_bound_and_none_is_known_where_nothing_is_usual() -> None:
    found = bounded(np.array([[30.0, 40.0], [3.0, 4.0]]), np.array([5.0, 0.0]))
    assert np.linalg.norm(found[0]) == pytest.approx(LARGEST_ROW)
    assert found[0] == pytest.approx(LARGEST_ROW * np.array([0.6, 0.8]))
    assert found[1].tolist() == [0.0, 0.0]


def test_a_sum_of_outer_products_by_hand() -> None:
    assert outer_sum(np.array([[2.0, 0.0], [0.0, 4.0]])).tolist() == [[4.0, 0.0], [0.0, 16.0]]
    assert not outer_sum(np.zeros((0, 3))).any()


def test_the_furthest_direction_by_hand() -> None:
    """Errors of 3 and 4 where 1 and 2 are usual: three times as large along the first."""
    assert furthest(np.diag([9.0, 16.0]), np.diag([1.0, 0.5])) == pytest.approx(3.0)


def test_a_whitened_error_is_the_same_in_all_directions_but_for_the_shrinkage() -> None:
    moment = np.diag([4.0, 1.0, 1.0])
    white = whitening(moment)
    assert white is not None
    level = 2.0
    expected = [m / ((1 - SHRINKAGE) * m + SHRINKAGE * level) for m in (4.0, 1.0, 1.0)]
    assert np.diag(white.T @ moment @ white) == pytest.approx(expected)


def test_an_error_that_is_nothing_has_no_whitening() -> None:
    assert whitening(np.zeros((3, 3))) is None


def test_a_moment_of_fewer_rows_than_directions_can_be_whitened() -> None:
    white = whitening(second_moment(noise(1)[0][:2]))
    assert white is not None
    assert np.isfinite(white).all()


def test_the_prompt_that_has_most_of_a_direction_does_not_count() -> None:
    """Two rows of (3, 0), and four of (1, 0) and (-1, 0), which alone count."""
    one = np.array([[3.0, 0.0], [3.0, 0.0]])
    other = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert along_one([one, other, np.zeros((0, 2)), other], np.eye(2)) == pytest.approx(1.0)


@pytest.mark.parametrize("prompts", [[], [np.zeros((0, 2))]])
def test_nothing_has_no_direction(prompts: list[np.ndarray]) -> None:
    assert along_one(prompts, np.eye(2)) == 0.0


def test_one_prompt_alone_is_not_judged() -> None:
    assert along_one([np.ones((4, 2))], np.eye(2)) == 0.0


@pytest.mark.parametrize("seed", range(10, 20))
def test_noise_has_no_direction_of_its_own(seed: int) -> None:
    """The largest eigenvalue of n rows of noise in d dimensions is (1 + sqrt(d / n))^2
    (Marchenko and Pastur, 1967): 1.29 for its root here."""
    rows = noise(seed)
    whole = furthest(second_moment(np.concatenate(rows)), USUAL)
    assert along_one(rows, USUAL) < whole < 1.1 * (1 + np.sqrt(WIDTH / (32 * 24)))


@pytest.mark.parametrize("signs", ["same", "rows", "halves", "prompts"])
def test_a_fault_in_one_direction_is_told_whatever_its_sign(signs: str) -> None:
    """A fifth of the squared error in one direction, which has 1 in 64 by chance."""
    direction = np.random.default_rng(4).standard_normal(WIDTH)
    direction *= np.sqrt(0.2) / np.linalg.norm(direction)
    made = []
    for k, rows in enumerate(noise(30)):
        index = np.arange(len(rows))
        sign = {
            "same": np.ones(len(rows)),
            "rows": np.where(index % 2, 1.0, -1.0),
            "halves": np.where(index < len(rows) // 2, 1.0, -1.0),
            "prompts": np.full(len(rows), 1.0 if k % 2 else -1.0),
        }[signs]
        made.append(rows + sign[:, None] * direction)
    assert along_one(made, USUAL) > 3.0
