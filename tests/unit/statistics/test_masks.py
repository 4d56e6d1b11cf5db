"""Masks are told from logits by the gap above them, whatever their size and number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.statistics.masks import GAP, MASK_BYTES, mask_border, mask_digest
from harness.statistics.rows import (
    NO_TOKEN,
    UNTOLD,
    RowStatistics,
    concatenate,
    hashes,
    row_statistics,
    same_masks,
    untold_masks,
)

LOWEST = {
    "float32": float(np.finfo(np.float32).min),
    "bfloat16": -3.3895313892515355e38,
    "float16": -65504.0,
}
FILLS = [-100.0, -1e3, -1e4, -1e9, *LOWEST.values(), -np.inf]
WIDTH = 2000


def ordinary(width: int = WIDTH, seed: int = 0) -> np.ndarray:
    """Logits within 12 of zero, the largest close to 12."""
    row = np.clip(3 * np.random.default_rng(seed).standard_normal(width), -12, 9)
    row[width // 2 : width // 2 + 25] = np.linspace(9, 12, 25)
    return row.astype(np.float32)


def bfloat16(row: np.ndarray) -> np.ndarray:
    """To bfloat16 and back, towards zero."""
    return (row.astype(np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32)


def masked_by_search(row: np.ndarray) -> set[int]:
    """The rule, one logit after the other."""
    finite = sorted((float(row[i]) for i in range(row.size) if np.isfinite(row[i])), reverse=True)
    gone = {i for i in range(row.size) if row[i] == -np.inf} if finite else set()
    for i in range(1, len(finite)):
        gap, span = finite[i - 1] - finite[i], finite[0] - finite[i - 1]
        end = i
        while end + 1 < len(finite) and finite[end] - finite[end + 1] <= gap / 4:
            end += 1
        if (
            finite[i] < -64
            and gap > 64 + 2 * max(span - 64, 0)
            and gap > 2 * (finite[i] - finite[end])
        ):
            border = finite[i]
            return gone | {j for j in range(row.size) if float(row[j]) <= border}
    return gone


def assert_described_without(row: np.ndarray, ids: np.ndarray) -> None:
    """All figures are those of the row without ``ids``, and the ids are told."""
    rows, rest = row_statistics(row), row_statistics(np.delete(row, ids))
    assert (rows.masked[0], rows.nonfinite[0]) == (ids.size, 0)
    assert rows.mask[0].tobytes() == mask_digest(np.sort(ids))
    assert rows.mask[0].any()
    assert rows.mean[0] == pytest.approx(rest.mean[0], rel=1e-12, abs=1e-12)
    assert rows.logsumexp[0] == pytest.approx(rest.logsumexp[0], rel=1e-12)
    assert rows.top_logits.tolist() == rest.top_logits.tolist()
    back = np.delete(np.arange(row.size), ids)
    listed = rest.top_ids[0]
    expected = np.where(listed == NO_TOKEN, NO_TOKEN, back[np.maximum(listed, 0)])
    assert rows.top_ids[0].tolist() == expected.tolist()
    kept = np.zeros(row.size)
    kept[back] = row[back].astype(np.float64) - rest.mean[0]
    bucket, sign = hashes(row.size)
    sketch = np.bincount(bucket, weights=kept * sign, minlength=64)
    assert rows.sketch[0] == pytest.approx(sketch, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("count", [1, 40, WIDTH * 9 // 10, WIDTH - 1])
def test_ids_of_any_number_and_fill_are_masks(fill: float, count: int) -> None:
    row = ordinary()
    ids = np.random.default_rng(1).permutation(WIDTH)[:count]
    row[ids] = fill
    assert_described_without(row, ids)
    assert_described_without(bfloat16(row), ids)


@pytest.mark.parametrize("left", [2, 3, 21])
@pytest.mark.parametrize("fill", FILLS)
def test_a_few_ids_that_are_left_are_all_that_counts(fill: float, left: int) -> None:
    row = ordinary()
    ids = np.setdiff1d(np.arange(WIDTH), WIDTH // 2 + np.arange(left))
    row[ids] = fill
    assert_described_without(row, ids)


@pytest.mark.parametrize("fills", [(-100.0, -1e4), (-1e3, LOWEST["float32"]), (-100.0, -np.inf)])
@pytest.mark.parametrize("count", [40, 1200])
def test_masks_of_two_sizes_are_all_masks(fills: tuple[float, float], count: int) -> None:
    row = ordinary()
    ids = np.random.default_rng(2).permutation(WIDTH)[:count]
    row[ids[::2]], row[ids[1::2]] = fills
    assert_described_without(row, ids)


@pytest.mark.parametrize("added", [-100.0, -1e3, -1e4, -1e9])
def test_masks_that_are_added_to_logits_are_masks(added: float) -> None:
    row = ordinary()
    ids = np.arange(60, 100)
    row[ids] += np.float32(added)
    assert_described_without(row, ids)


@pytest.mark.parametrize("offset", [0.0, -20.0, 30.0, -200.0])
def test_an_offset_of_all_logits_changes_no_masks(offset: float) -> None:
    row = ordinary()
    row[5:45] = -1000.0
    assert row_statistics(row + np.float32(offset)).masked.tolist() == [40]


def test_rounding_moves_no_id_across_the_border() -> None:
    """Forty ids at -100, where the largest logit lies anywhere from 0 to 60."""
    random = np.random.default_rng(3)
    for peak in np.linspace(0, 60, 121):
        row = ordinary()
        row[WIDTH // 2 : WIDTH // 2 + 25] = 0
        row[7], row[200:240] = peak, -100
        arms = [bfloat16(row + 0.1 * random.standard_normal(WIDTH)) for _ in range(2)]
        a, b = (row_statistics(arm) for arm in arms)
        assert a.masked.tolist() == [40]
        equal = same_masks(a, b)
        assert equal is not None
        assert equal.all()


# --- what is not a mask


UNMASKED = {
    "a flat row of a random model": 0.01 * ordinary(),
    "unused ids at -30": np.where(np.arange(WIDTH) % 50 == 3, np.float32(-30), ordinary()),
    "one id 50 below the others": np.where(np.arange(WIDTH) == 3, np.float32(-62), ordinary()),
    "one id 40 above the mean": np.where(np.arange(WIDTH) == 3, np.float32(40), ordinary()),
    "all far below zero": ordinary() - np.float32(300),
    "one id far above a row of large scale": np.where(
        np.arange(WIDTH) == 3, np.float32(800), 20 * ordinary()
    ),
    "the same below zero": np.where(np.arange(WIDTH) == 3, np.float32(800), 20 * ordinary())
    - np.float32(2000),
    "a row of large scale and a low outlier": np.where(
        np.arange(WIDTH) == 3, np.float32(-900), 20 * ordinary()
    ),
    "equal logits": np.full(WIDTH, -1e4, np.float32),
    "one logit": np.array([-1e4], np.float32),
    "a steep ramp": np.linspace(-1e5, 0, WIDTH, dtype=np.float32),
    "a peak over zeros": np.array([4000, 0, 0, 0], np.float32),
}


@pytest.mark.parametrize("name", UNMASKED)
def test_logits_are_not_masks(name: str) -> None:
    rows = row_statistics(UNMASKED[name].astype(np.float32))
    assert rows.masked.tolist() == [0]
    assert not rows.mask.any()


@pytest.mark.parametrize("shape", [(3, 64), (3, 49_152), (2, 5119)])
@pytest.mark.parametrize("scale", [0.01, 3.0, 8.0])
def test_rows_without_masks_have_the_figures_they_always_had(
    shape: tuple[int, int], scale: float
) -> None:
    """Bit for bit: the formulas of all recordings of before."""
    block = (scale * np.random.default_rng(4).standard_normal(shape)).astype(np.float32)
    block[0] = bfloat16(block[0])
    rows = row_statistics(block)
    bucket, sign = hashes(shape[1])
    for t, row in enumerate(block):
        mean = float(row.sum(dtype=np.float64)) / row.size
        wide = row.astype(np.float64) - mean
        sketch = np.bincount(bucket, weights=wide * sign, minlength=64).astype(np.float32)
        peak = float(row.max())
        wide -= peak - mean
        assert rows.mean[t] == mean
        assert rows.sketch[t].tobytes() == sketch.tobytes()
        assert rows.logsumexp[t] == peak + float(np.log(np.exp(wide).sum()))
    assert rows.masked.tolist() == [0] * shape[0]
    assert rows.nonfinite.tolist() == [0] * shape[0]


@settings(max_examples=150, deadline=None)
@given(
    hnp.arrays(
        np.float32,
        st.integers(1, 30),
        elements=st.one_of(
            st.floats(-300, 100, width=32),
            st.sampled_from([0.0, 1.0, -64.0, -65.0, -100.0, -1e4, -np.inf, np.nan]),
            # As float32 has them: an older numpy is asked for the very value.
            st.sampled_from([float(np.float32(-3e38)), float(np.float32(3e38))]),
        ),
    )
)
def test_masked_ids_of_any_row_are_those_of_a_search(row: np.ndarray) -> None:
    ids = np.array(sorted(masked_by_search(row)), np.intp)
    rows = row_statistics(row)
    finite = np.isfinite(row).any()
    expected = np.count_nonzero(np.isnan(row) | (row == np.inf)) if finite else row.size
    assert rows.masked.tolist() == [ids.size]
    assert rows.mask[0].tobytes() == mask_digest(ids)
    assert rows.nonfinite.tolist() == [expected]
    for column in (rows.mean, rows.logsumexp, rows.top_logits, rows.sketch):
        assert np.isfinite(column).all()


@pytest.mark.parametrize("below", [-63.0, -64.0, -65.0])
def test_the_border_is_a_gap_of_64(below: float) -> None:
    assert GAP == 64.0
    found = mask_border(np.array([0.0, 0.0, below, -40.0 + below, 0.0], np.float32))
    assert found == (None if below >= -64 else np.float32(below))


# --- which ids


def test_other_ids_of_equal_number_are_other_masks() -> None:
    block = np.stack([ordinary()] * 4)
    for t, start in enumerate((5, 5, 6, 300)):
        block[t, start : start + 40] = -1000.0
    block[1, 5:45] = -np.inf  # the same ids, by another fill
    rows = row_statistics(block)
    assert rows.masked.tolist() == [40] * 4
    same = same_masks(rows[:1], rows[1:2])
    assert same is not None
    assert same.tolist() == [True]
    assert len({digest.tobytes() for digest in rows.mask}) == 3


def test_the_digest_of_masked_ids_is_frozen() -> None:
    ids = np.array([5, 700, 70_000])
    assert mask_digest(ids).hex() == "81fac3eefc61f016"
    assert len(mask_digest(ids)) == MASK_BYTES == 8
    assert mask_digest(np.zeros(0, np.intp)) == bytes(8)


# --- rows that do not tell them


def untold(rows: RowStatistics) -> RowStatistics:
    return replace(rows, **untold_masks(len(rows)))


def test_masks_of_rows_of_before_are_not_known() -> None:
    rows = row_statistics(np.stack([ordinary()] * 2))
    assert same_masks(rows, untold(rows)) is None
    assert same_masks(untold(rows), rows) is None
    joined = concatenate([rows, untold(rows)])
    assert joined.whole
    assert not joined.masks_told
    assert joined.masked.tolist() == [0, 0, UNTOLD, UNTOLD]
    assert joined[:2].masks_told
    assert not untold(rows)[:1].masks_told
