"""Margins and shifts of rows made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from harness.statistics.margins import logit_of, margins, runner_up
from harness.statistics.rows import NO_TOKEN, RowStatistics, row_statistics

WIDTH = 40


def rows(*logits: Mapping[int, float]) -> RowStatistics:
    """Rows with the given logits; every other token has -id."""
    block = np.tile(-np.arange(WIDTH, dtype=np.float32) - 1, (len(logits), 1))
    for row, given in zip(block, logits, strict=True):
        for token, value in given.items():
            row[token] = value
    return row_statistics(block)


def ids(*tokens: int) -> np.ndarray:
    return np.array(tokens, np.int64)


def test_without_a_flip_the_rival_is_the_references_runner_up() -> None:
    found = margins(rows({3: 9.0, 5: 7.0}), rows({3: 9.5, 5: 7.25}), ids(3), ids(3))
    assert found.rival.tolist() == [5]
    assert found.margin.tolist() == [2.0]
    assert found.shift.tolist() == [0.25]
    assert not found.flip[0]


def test_with_a_flip_the_rival_is_the_candidates_choice() -> None:
    found = margins(rows({3: 9.0, 5: 8.0, 7: 7.0}), rows({3: 8.0, 5: 7.0, 7: 8.5}), ids(3), ids(7))
    assert found.rival.tolist() == [7]
    assert found.margin.tolist() == [2.0]
    assert found.shift.tolist() == [-2.5]
    assert found.flip[0]


def test_a_flip_means_that_the_shift_outweighs_the_margin() -> None:
    random = np.random.default_rng(1)
    truth = random.standard_normal((300, WIDTH)).astype(np.float32)
    other = (truth + 0.3 * random.standard_normal(truth.shape)).astype(np.float32)
    a, b = row_statistics(truth), row_statistics(other)
    found = margins(a, b, a.top_ids[:, 0].astype(np.int64), b.top_ids[:, 0].astype(np.int64))
    assert 20 < found.flip.sum() < 280
    assert ((found.shift < -found.margin) == found.flip).all()


def test_an_offset_of_the_whole_row_changes_nothing() -> None:
    a, b = {3: 9.0, 5: 7.0}, {3: 9.5, 5: 7.25}
    shifted = row_statistics(
        np.array([[b.get(i, -i - 1.0) + 64.0 for i in range(WIDTH)]], np.float32)
    )
    assert margins(rows(a), shifted, ids(3), ids(3)).shift.tolist() == [0.25]


def test_a_token_outside_the_top_20_is_bounded_by_the_20th() -> None:
    reference = rows({3: 9.0})
    found = margins(reference, rows({39: 9.0}), ids(3), ids(39))
    twentieth = float(reference.top_logits[0, 19])
    assert 39 not in reference.top_ids[0]
    assert found.margin[0] == 9.0 - twentieth < 9.0 - -40.0


def short(found: RowStatistics, count: int) -> RowStatistics:
    """As of a server that lists so many."""
    ids, logits = found.top_ids.copy(), found.top_logits.copy()
    ids[:, count:], logits[:, count:] = NO_TOKEN, 0.0
    return replace(found, top_ids=ids, top_logits=logits)


def test_a_bound_proves_no_shift_that_it_does_not_show() -> None:
    """One id listed: its rival lies anywhere below it, so no margin is known to shrink."""
    reference = rows({3: 9.0, 5: 7.0})
    found = margins(reference, short(reference, 1), ids(3), ids(3))
    assert (found.margin[0], found.shift[0], bool(found.flip[0])) == (2.0, 0.0, False)


def test_a_bound_proves_a_margin_that_grew() -> None:
    """The rival is not among two ids, the second of which is 4 below: it grew by 2."""
    found = margins(
        rows({3: 9.0, 5: 7.0}), short(rows({3: 9.0, 8: 5.0, 5: -30.0}), 2), ids(3), ids(3)
    )
    assert found.shift.tolist() == [2.0]


def test_a_flip_to_a_list_of_one_crossed_the_margin_at_least() -> None:
    found = margins(rows({3: 9.0, 5: 7.0}), short(rows({5: 9.0, 3: 8.0}), 1), ids(3), ids(5))
    assert found.shift.tolist() == [-2.0]
    assert found.flip[0]


def test_a_tie_has_no_margin() -> None:
    reference = rows({3: 9.0, 5: 9.0})
    found = margins(reference, rows({3: 8.9, 5: 9.0}), ids(3), ids(5))
    assert found.margin.tolist() == [0.0]
    assert found.flip[0]
    same = margins(reference, reference, ids(3), ids(3))
    assert (same.margin[0], same.shift[0], bool(same.flip[0])) == (0.0, 0.0, False)


def test_a_device_may_break_ties_to_the_higher_id() -> None:
    reference = rows({3: 9.0, 5: 9.0})
    assert runner_up(reference, ids(5)).tolist() == [3]
    assert runner_up(reference, ids(3)).tolist() == [5]


def test_the_reference_may_not_hold_its_own_token() -> None:
    """A forced context can go where neither arm would."""
    found = margins(rows({3: 9.0, 5: 7.0}), rows({3: 9.0, 5: 7.0}), ids(39), ids(39))
    assert found.shift.tolist() == [0.0]


@pytest.mark.parametrize("finite", [0, 1])
def test_rows_without_a_rival_have_finite_margins(finite: int) -> None:
    broken = np.full((1, WIDTH), np.nan, np.float32)
    broken[0, :finite] = 1.0
    for a, b in (
        (row_statistics(broken), rows({3: 9.0})),
        (rows({3: 9.0}), row_statistics(broken)),
    ):
        tokens = [r.top_ids[:, 0].astype(np.int64) for r in (a, b)]
        found = margins(a, b, *tokens)
        assert np.isfinite(found.margin).all()
        assert np.isfinite(found.shift).all()


def test_logits_are_looked_up_row_by_row() -> None:
    logits = logit_of(rows({3: 9.0}, {5: 4.5}, {}), ids(3, 5, 39))
    assert logits.tolist() == [9.0, 4.5, -20.0]


def test_no_rows_have_no_margins() -> None:
    empty = row_statistics(np.zeros((0, WIDTH), np.float32))
    assert len(margins(empty, empty, ids(), ids()).shift) == 0


def test_different_lengths_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"\[1, 2\]"):
        margins(rows({}), rows({}, {}), ids(1), ids(1))
