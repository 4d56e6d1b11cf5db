"""Rows in more and less detail: what is kept, folded, listed and fetched."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
import pytest

from harness.statistics.detail import (
    DETAILS,
    MOST_BUCKETS,
    MOST_LISTED,
    check_detail,
    detail_of,
    folded,
    name_of,
    reduced,
    shared,
)
from harness.statistics.lazy_rows import LazyRows, join
from harness.statistics.noise import squared_error
from harness.statistics.rows import (
    NORMAL,
    Detail,
    RowStatistics,
    concatenate,
    hashes,
    row_statistics,
)

WIDE = Detail(64, 1024)
ROWS = (3 * np.random.default_rng(5).standard_normal((6, 5000))).astype(np.float32)
NARROWER = [Detail(5, 8), Detail(10, 16), Detail(20, 32), NORMAL, Detail(20, 256), Detail(64, 512)]


def lazy(rows: RowStatistics) -> LazyRows:
    asked: dict[str, Any] = {f.name: getattr(rows, f.name) for f in fields(RowStatistics)}
    return LazyRows(len(rows), rows.whole, asked.__getitem__, detail_of(rows) or NORMAL)


def assert_same(mine: RowStatistics, theirs: RowStatistics) -> None:
    for field in fields(RowStatistics):
        a, b = getattr(mine, field.name), getattr(theirs, field.name)
        if field.name == "sketch":
            assert a == pytest.approx(b, rel=1e-5, abs=1e-4)
        else:
            assert np.array_equal(a, b), field.name


@pytest.mark.parametrize("detail", NARROWER, ids=str)
@pytest.mark.parametrize("put_away", [False, True])
def test_reduced_rows_are_those_that_are_made_in_that_detail(
    detail: Detail, put_away: bool
) -> None:
    wide = row_statistics(ROWS, WIDE)
    found = reduced(lazy(wide) if put_away else wide, detail)
    assert detail_of(found) == detail
    assert_same(found, row_statistics(ROWS, detail))
    assert_same(found[1:4], row_statistics(ROWS[1:4], detail))
    assert detail_of(found[1:4]) == detail


def test_a_known_sketch_folds_by_bucket_modulo_width() -> None:
    sketch = np.array([[1, 2, 4, 8, 16, 32, 64, 128]], np.float32)
    assert folded(sketch, 4).tolist() == [[17, 34, 68, 136]]
    assert folded(sketch, 2).tolist() == [[85, 170]]
    assert folded(sketch, 8) is sketch


@pytest.mark.parametrize("buckets", [8, 64, 1024])
def test_a_bucket_is_the_id_s_lowest_bits_of_one_hash_and_the_sign_is_the_same(
    buckets: int,
) -> None:
    widest, sign = hashes(3000, 1 << 20)
    mine, same = hashes(3000, buckets)
    assert (mine == widest % buckets).all()
    assert (same == sign).all()


def test_what_holds_no_more_is_left_as_it_is() -> None:
    rows = row_statistics(ROWS, Detail(10, 16))
    assert reduced(rows, NORMAL) is rows
    assert reduced(rows, Detail(10, 16)) is rows


def test_more_of_one_and_less_of_the_other_is_reduced_to_the_less_of_both() -> None:
    rows = row_statistics(ROWS, Detail(5, 256))
    assert detail_of(reduced(rows, Detail(20, 16))) == Detail(5, 16)
    assert shared([Detail(5, 256), Detail(20, 16)]) == Detail(5, 16)
    assert shared([]) is None


def test_sums_beyond_float32_end_at_its_limit_in_every_width() -> None:
    largest = np.finfo(np.float32).max
    broken = np.where(hashes(512, 64)[1] > 0, largest, -largest).astype(np.float32)
    wide = row_statistics(broken, Detail(20, 64))
    assert np.isfinite(reduced(wide, Detail(20, 8)).sketch).all()


def test_joined_rows_on_the_disk_keep_their_detail() -> None:
    rows = row_statistics(ROWS, Detail(10, 16))
    both = join([lazy(rows), rows])
    assert detail_of(both) == Detail(10, 16)
    assert_same(both, concatenate([rows, rows]))


def test_a_row_with_fewer_logits_than_are_listed_is_filled() -> None:
    found = row_statistics(ROWS[:, :7], Detail(10, 16))
    assert (found.top_ids[:, 7:] == -1).all()
    assert (found.top_ids[:, :7] >= 0).all()


@pytest.mark.parametrize("buckets", [8, 16, 32, 64, 256, 1024])
def test_each_width_estimates_the_same_error_as_sharply_as_it_should(buckets: int) -> None:
    """The variance of a squared norm is 2/w of its square, less what is known of few ids."""
    random, rows = np.random.default_rng(3), 400
    truth = np.zeros((rows, 4096), np.float32)
    error = random.standard_normal(truth.shape).astype(np.float32)
    exact = np.sum((error - error.mean(axis=1, keepdims=True)).astype(np.float64) ** 2, axis=1)
    detail = Detail(5, buckets)
    found = squared_error(row_statistics(truth + error, detail), row_statistics(truth, detail))
    relative = found / exact
    assert relative.mean() == pytest.approx(1.0, abs=4 * np.sqrt(2 / buckets / rows))
    assert relative.var() == pytest.approx(2 / buckets, rel=0.35)


@pytest.mark.parametrize(
    ("detail", "wrong"),
    [
        (Detail(20, 63), "power of two"),
        (Detail(20, 0), "power of two"),
        (Detail(20, -64), "power of two"),
        (Detail(20, 4), "power of two from 8"),
        (Detail(20, 2 * MOST_BUCKETS), "to 1024"),
        (Detail(20, 96), "power of two"),
        (Detail(4, 64), "listed must be 5"),
        (Detail(-1, 64), "listed must be 5"),
        (Detail(MOST_LISTED + 1, 64), "listed must be"),
    ],
)
def test_a_detail_that_cannot_be_folded_or_judged_is_refused(detail: Detail, wrong: str) -> None:
    with pytest.raises(ValueError, match=wrong):
        check_detail(detail)


def test_every_offered_detail_is_accepted_and_has_its_name() -> None:
    for name, detail in DETAILS.items():
        check_detail(detail)
        assert name_of(detail) == name
    assert DETAILS["normal"] == NORMAL == Detail(20, 64)
    assert name_of(Detail(7, 128)) == "128 buckets and 7 logits"
