"""Places in outputs, from the start and from the end."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics.places import FEWEST, places_of

LENGTHS = [3, 4, 5, 6]


def table(standing: list[np.ndarray], lengths: list[int] = LENGTHS) -> dict[int, float]:
    at = [np.arange(len(rows)) for rows in standing]
    found = places_of(standing, at, lengths)
    return dict(zip(found.index.tolist(), found.standing.tolist(), strict=True))


def test_places_that_too_few_outputs_reach_are_left_out() -> None:
    assert set(table([np.ones(n) for n in LENGTHS])) == {0, 1, 2, -1, -2, -3}
    assert len(LENGTHS) == FEWEST


def test_a_place_has_the_geometric_mean_of_its_rows() -> None:
    found = table([np.array([1.0, 2.0, 4.0])] * 3 + [np.array([1.0, 32.0, 4.0])], [3] * 4)
    assert found[1] == pytest.approx(4.0)
    assert found[-2] == pytest.approx(4.0)
    assert found[0] == pytest.approx(1.0)


def test_the_last_token_of_outputs_of_any_length_is_one_place() -> None:
    found = table([np.where(np.arange(n) == n - 1, 3.0, 1.0) for n in LENGTHS])
    assert found[-1] == pytest.approx(3.0)
    assert max(value for place, value in found.items() if place != -1) < 2.0


def test_rows_without_an_error_and_rows_that_are_missing_are_not_counted() -> None:
    rows = [np.array([1.0, 0.0, 2.0])] * 4
    assert set(table(rows, [3] * 4)) == {0, 2, -1, -3}
    at = [np.array([0, 2])] * 4
    found = places_of([np.array([1.0, 5.0])] * 4, at, [4] * 4)
    assert dict(zip(found.index.tolist(), found.standing.tolist(), strict=True)) == pytest.approx(
        {0: 1.0, 2: 5.0, -4: 1.0, -2: 5.0}
    )


def test_no_outputs_have_no_places() -> None:
    assert not len(places_of([], [], []).index)
