"""Errors at listed ids against known answers."""

from __future__ import annotations

import numpy as np
import pytest

from harness.statistics.listed import (
    centred_at,
    ids_within_reach,
    listed_count,
    listed_metric,
    missing_at,
)
from harness.statistics.rows import NO_TOKEN, RowStatistics, row_statistics

ROWS, VOCABULARY, NOISE = 1000, 200, 0.05


def rows_of(logits: np.ndarray) -> RowStatistics:
    return row_statistics(logits.astype(np.float32))


def test_ids_are_the_oracles_as_far_as_rounding_does_not_reach_its_last() -> None:
    oracle = rows_of(np.array([[5.0, 4.0, 3.0, 2.95, 2.9], [1.0, 1.0, 1.0, 1.0, 1.0]]))
    noise, listed = np.array([0.02, 0.02]), np.array([5, 5])
    found = ids_within_reach(oracle, noise, listed)
    assert found.shape == (2, 20)
    assert [i for i in found[0].tolist() if i != NO_TOKEN] == [0, 1, 2]
    assert (found[1] == NO_TOKEN).all()


def test_one_id_alone_makes_no_difference() -> None:
    oracle = rows_of(np.array([[5.0, 3.0, 3.0, 3.0]]))
    assert (ids_within_reach(oracle, np.array([0.1]), np.array([4])) == NO_TOKEN).all()
    assert (ids_within_reach(oracle, np.array([0.1]), np.array([0])) == NO_TOKEN).all()


def test_what_a_row_was_normalized_by_does_not_count() -> None:
    logits = np.random.default_rng(1).normal(size=(3, VOCABULARY))
    one, other = rows_of(logits), rows_of(logits - 7.5)
    ids, listed = ids_within_reach(one, np.full(3, 0.01), np.full(3, 20)), np.full(3, 20)
    assert centred_at(one, ids, listed) == pytest.approx(centred_at(other, ids, listed), abs=1e-5)
    assert centred_at(one, ids, listed).sum(axis=1) == pytest.approx(np.zeros(3), abs=1e-12)


def test_an_id_that_is_not_listed_counts_with_the_last_that_is() -> None:
    mine = rows_of(np.array([[4.0, 0.5, 3.0, 2.0, 1.0]]))
    ids = np.full((1, 20), NO_TOKEN, np.int32)
    ids[0, :3] = [0, 1, 2]
    found = centred_at(mine, ids, np.array([3]))[0, :3]
    values = np.array([4.0, 2.0, 3.0])
    assert found == pytest.approx(values - values.mean())
    assert missing_at(mine, ids, np.array([3]))[0].tolist() == [False, True, False] + [False] * 17
    assert listed_count(mine).tolist() == [5]


@pytest.mark.parametrize("coarse", [1.0, 2.0])
def test_the_choice_of_ids_selects_no_error(coarse: float) -> None:
    """Errors have mean 0 at each rank, also of a candidate that rounds twice as coarsely."""
    random = np.random.default_rng(2)
    truth = 2.0 * random.normal(size=(ROWS, VOCABULARY))
    mine = truth + coarse * NOISE * random.normal(size=truth.shape)
    oracle, candidate = rows_of(truth), rows_of(mine)
    listed = np.full(ROWS, 20)
    ids = ids_within_reach(oracle, np.full(ROWS, NOISE), listed)
    there = ids != NO_TOKEN
    assert 14.0 < float(there.sum(axis=1).mean()) < 20.0
    error = centred_at(candidate, ids, listed) - centred_at(oracle, ids, listed)
    count = there.sum(axis=0)
    seen = count > 100
    mean = error.sum(axis=0)[seen] / count[seen]
    spread = coarse * NOISE / np.sqrt(count[seen])
    assert float(np.abs(mean / spread).max()) < 4.0
    assert int(missing_at(candidate, ids, listed).sum()) < 0.004 * int(there.sum())


def test_ids_in_common_would_select_errors() -> None:
    """Why ids are not all that candidate and oracle list: near the last, those stay whose
    error is positive."""
    random = np.random.default_rng(2)
    truth = 2.0 * random.normal(size=(ROWS, VOCABULARY))
    mine = truth + 4.0 * NOISE * random.normal(size=truth.shape)
    oracle, candidate = rows_of(truth), rows_of(mine)
    last = oracle.top_ids[:, 19].astype(np.int64)
    stays = ~missing_at(candidate, oracle.top_ids, np.full(ROWS, 20))[:, 19]
    error = (mine - truth)[np.arange(ROWS), last]
    assert float(error[stays].mean()) > 5.0 * float(error.std()) / np.sqrt(stays.sum())


def test_rows_weigh_by_their_noise_whatever_the_number_of_ids() -> None:
    random = np.random.default_rng(3)
    ids = np.tile(np.arange(20, dtype=np.int32), (40, 1))
    ids[20:, 8:] = NO_TOKEN
    scale = np.where(np.arange(40) % 2, 1.0, 3.0)
    arms = []
    for _ in range(30):
        made = random.normal(size=(4, 40, 20)) * scale[:, None]
        there = ids != NO_TOKEN
        made = np.where(there, made, 0.0)
        mean = made.sum(-1, keepdims=True) / there.sum(1)[:, None]
        arms.append(np.where(there, made - mean, 0.0))
    metric = listed_metric(arms, [ids] * 30)
    weights = np.mean(metric.weights, axis=0)
    long, short = weights[:20].reshape(-1, 2).mean(0), weights[20:].reshape(-1, 2).mean(0)
    assert short == pytest.approx(long, rel=0.5)
    assert long[1] / long[0] > 4.0
    assert short[1] / short[0] > 2.5
    # Ranks that few rows have weigh no more than others.
    diagonal = np.diag(metric.inverse)
    assert diagonal[12] == pytest.approx(diagonal[3], rel=0.3)


def test_arms_without_an_error_have_no_metric() -> None:
    ids = np.zeros((3, 20), np.int32)
    with pytest.raises(ValueError, match="no error"):
        listed_metric([np.zeros((2, 3, 20))], [ids])
    with pytest.raises(ValueError, match="no error"):
        listed_metric([], [])
