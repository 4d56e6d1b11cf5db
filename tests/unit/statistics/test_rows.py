"""Row statistics are exact, finite for any row, and the same for ever."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.statistics.masks import mask_border
from harness.statistics.rows import (
    NO_TOKEN,
    SKETCH_WIDTH,
    TOP_K,
    RowStatistics,
    bit_equal,
    concatenate,
    hashes,
    row_statistics,
    same_rows,
    squared_norm,
)

FEW_VALUES = [-2.0, -0.0, 0.0, 1.0, 1.5, 3e38, -3e38]
WIDTHS = st.one_of(st.integers(1, 40), st.integers(5100, 5300))


def fixed_row(width: int = 1000) -> np.ndarray:
    """Reproducible without a random generator: exact in float32."""
    j = np.arange(width, dtype=np.int64)
    return (((j * 7919 + 13) % 1009) / 64.0 - 8.0).astype(np.float32)


def top_by_sorting(row: np.ndarray) -> tuple[list[int], list[float]]:
    finite = row[np.isfinite(row)]
    border = mask_border(finite) if finite.size else None
    lowest = -np.inf if border is None else border
    kept = [i for i in range(row.size) if np.isfinite(row[i]) and row[i] > lowest]
    ids = sorted(kept, key=lambda i: (-float(row[i]), i))[:TOP_K]
    padding = TOP_K - len(ids)
    return ids + [NO_TOKEN] * padding, [float(row[i]) for i in ids] + [0.0] * padding


def arrays_of(rows: RowStatistics) -> list[np.ndarray]:
    return [
        rows.top_logits,
        rows.mean,
        rows.logsumexp,
        rows.sketch,
    ]


@settings(max_examples=60, deadline=None)
@given(
    WIDTHS.flatmap(
        lambda n: hnp.arrays(np.float32, n, elements=st.floats(width=32), fill=st.just(-1.0))
    )
)
def test_top_k_of_any_row_is_that_of_a_sort(row: np.ndarray) -> None:
    rows = row_statistics(row)
    ids, logits = top_by_sorting(row)
    assert rows.top_ids[0].tolist() == ids
    assert rows.top_logits[0].tolist() == logits
    broken = np.isnan(row) | (row == np.inf)
    if not np.isfinite(row).any():
        broken[:] = True
    assert rows.nonfinite[0] == np.count_nonzero(broken)
    assert all(np.isfinite(a).all() for a in arrays_of(rows))


@settings(max_examples=60, deadline=None)
@given(width=WIDTHS, seed=st.integers(0, 2**32 - 1))
def test_ties_go_to_the_lower_id(width: int, seed: int) -> None:
    row = np.random.default_rng(seed).choice(FEW_VALUES, width).astype(np.float32)
    assert row_statistics(row).top_ids[0].tolist() == top_by_sorting(row)[0]


@pytest.mark.parametrize("width", [1, 2, 19, 20, 21, 127, 5119, 5120, 5121, 73_448])
@pytest.mark.parametrize("order", ["rising", "falling", "equal", "random"])
def test_top_k_is_exact_at_the_widths_where_the_search_changes(width: int, order: str) -> None:
    row = np.arange(width, dtype=np.float32)
    if order == "falling":
        row = row[::-1].copy()
    elif order == "equal":
        row[:] = 2.5
    elif order == "random":
        np.random.default_rng(width).shuffle(row)
    ids, logits = top_by_sorting(row)
    rows = row_statistics(row)
    assert rows.top_ids[0].tolist() == ids
    assert rows.top_logits[0].tolist() == logits


def test_all_of_the_largest_may_stand_in_one_group_or_in_the_ragged_end() -> None:
    for start in (128 * 17, 10_000 - 25):
        row = np.zeros(10_000, np.float32)
        row[start : start + 25] = np.arange(25, dtype=np.float32) + 1
        assert row_statistics(row).top_ids[0].tolist() == list(range(start + 24, start + 4, -1))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1e-30, 1.0, 1e2]))
def test_mean_and_logsumexp_agree_with_exact_sums(seed: int, scale: float) -> None:
    row = (np.random.default_rng(seed).standard_normal(777) * scale).astype(np.float32)
    rows = row_statistics(row)
    values = [float(z) for z in row]
    peak = max(values)
    assert rows.mean[0] == pytest.approx(math.fsum(values) / 777, rel=1e-12, abs=scale * 1e-15)
    expected = peak + math.log(math.fsum(math.exp(z - peak) for z in values))
    assert rows.logsumexp[0] == pytest.approx(expected, rel=1e-13, abs=1e-12)


def test_known_mean_and_logsumexp() -> None:
    rows = row_statistics(np.array([[0.0, 0.0, 0.0, 0.0], [4e3, 0.0, 0.0, 0.0]], np.float32))
    assert rows.mean.tolist() == [0.0, 1000.0]
    assert rows.logsumexp.tolist() == [pytest.approx(math.log(4.0), abs=1e-15), 4e3]


@pytest.mark.parametrize("mask", [-1e4, -65504.0, -1e9, float(np.finfo(np.float32).min)])
def test_a_mask_hides_no_other_logit(mask: float) -> None:
    row = fixed_row()
    row[700:] = row.min()  # not among the largest
    masked = row.copy()
    masked[[3, 900]] = mask
    row[[3, 900]] = row[700]
    rows, plain = row_statistics(masked), row_statistics(np.delete(row, [3, 900]))
    assert rows.nonfinite[0] == 0
    assert rows.mean[0] == pytest.approx(plain.mean[0], rel=1e-12)
    assert rows.logsumexp[0] == pytest.approx(plain.logsumexp[0], rel=1e-12)
    kept = row.astype(np.float64) - plain.mean[0]
    kept[[3, 900]] = 0.0
    bucket, sign = hashes(row.size)
    expected = np.bincount(bucket, weights=kept * sign, minlength=64)
    assert rows.sketch[0] == pytest.approx(expected, rel=1e-5, abs=1e-4)
    assert (rows.digest != row_statistics(row).digest).any()


def test_digest_is_frozen() -> None:
    rows = row_statistics(np.stack([fixed_row(), np.zeros(1000, np.float32)]))
    assert rows.digest[0].tobytes().hex() == "c9a5ea2eaf9140b9858c183440a2c8b1"
    assert rows.digest[1].tobytes().hex() == "2260bf40667eb258fa2872766bc6159f"


def test_digest_takes_minus_zero_for_zero_and_nothing_else() -> None:
    row = fixed_row()
    row[17] = 0.0
    negative, next_up = row.copy(), row.copy()
    negative[17] = -0.0
    next_up[500] = np.nextafter(next_up[500], np.float32(np.inf))
    digests = row_statistics(np.stack([row, negative, next_up])).digest
    assert np.signbit(negative[17])
    assert digests[0].tobytes() == digests[1].tobytes() != digests[2].tobytes()


def test_digest_does_not_depend_on_memory_layout() -> None:
    wide = np.zeros((3, 2000), np.float32)
    wide[:, ::2] = fixed_row()
    strided = row_statistics(wide[:, ::2]).digest
    assert (strided == row_statistics(fixed_row()).digest).all()


def test_bucket_and_sign_of_token_ids_are_frozen() -> None:
    bucket, sign = hashes(100_000)
    ids = [0, 1, 2, 3, 4, 100, 1000, 49_151, 73_447, 99_999]
    assert bucket[ids].tolist() == [47, 1, 14, 45, 10, 4, 8, 3, 26, 38]
    assert sign[ids].tolist() == [1.0, -1.0, -1.0, -1.0, -1.0, -1.0, 1.0, -1.0, 1.0, -1.0]


def test_bucket_and_sign_do_not_depend_on_the_width() -> None:
    narrow, wide = hashes(100), hashes(70_000)
    assert (narrow[0] == wide[0][:100]).all()
    assert (narrow[1] == wide[1][:100]).all()


def test_buckets_and_signs_are_balanced_and_independent() -> None:
    bucket, sign = hashes(73_448)
    counts = np.bincount(bucket, minlength=SKETCH_WIDTH)
    mean = 73_448 / SKETCH_WIDTH
    assert np.abs(counts - mean).max() < 5 * math.sqrt(mean)
    assert abs(sign.sum()) < 4 * math.sqrt(73_448)
    sums = np.bincount(bucket, weights=sign, minlength=SKETCH_WIDTH)
    assert np.abs(sums).max() < 5 * math.sqrt(mean)


def test_sketch_is_frozen() -> None:
    sketch = row_statistics(fixed_row()).sketch[0]
    assert sketch[:4].tolist() == pytest.approx(
        [8.953125, -1.36509371, -5.7743907, -11.3349848], rel=1e-6
    )


def test_sketch_is_linear() -> None:
    random = np.random.default_rng(1)
    a, b = (random.integers(-512, 512, 3000).astype(np.float32) / 8 for _ in range(2))
    rows = row_statistics(np.stack([a, b, a - b]))
    difference = rows.sketch[0].astype(np.float64) - rows.sketch[1]
    assert difference == pytest.approx(rows.sketch[2], abs=1e-3)


def test_sketch_ignores_a_constant_offset() -> None:
    rows = row_statistics(np.stack([fixed_row(), fixed_row() + np.float32(64.0)]))
    assert rows.sketch[0] == pytest.approx(rows.sketch[1], abs=1e-4)


def test_squared_distance_of_many_pairs_is_estimated_without_bias() -> None:
    """Over 2,000 rows the ratio of two errors is within 2 %."""
    random = np.random.default_rng(3)
    shape = (2000, 1024)
    truth = (3 * random.standard_normal(shape)).astype(np.float32)
    small = (truth + 0.05 * random.standard_normal(shape)).astype(np.float32)
    large = (truth + 0.08 * random.standard_normal(shape)).astype(np.float32)
    sketches = [row_statistics(rows).sketch.astype(np.float64) for rows in (truth, small, large)]
    estimates, exact = [], []
    for arm, sketch in zip((small, large), sketches[1:], strict=True):
        error = arm.astype(np.float64) - truth
        error -= error.mean(axis=1, keepdims=True)
        exact.append(float((error**2).sum()))
        estimates.append(float(squared_norm(sketch - sketches[0]).sum()))
    assert estimates == pytest.approx(exact, rel=0.02)
    ratio, known = (math.sqrt(v[1] / v[0]) for v in (estimates, exact))
    assert ratio == pytest.approx(known, rel=0.02)


def test_variance_of_one_estimate_is_two_over_the_width() -> None:
    random = np.random.default_rng(4)
    rows = random.standard_normal((1500, 1024)).astype(np.float32)
    exact = ((rows - rows.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)
    relative = squared_norm(row_statistics(rows).sketch) / exact
    assert relative.mean() == pytest.approx(1.0, abs=0.02)
    assert relative.var() == pytest.approx(2 / SKETCH_WIDTH, rel=0.2)


@pytest.mark.parametrize(
    "bad", [[np.nan], [np.inf], [-np.inf], [np.inf, -np.inf], [np.nan, np.inf, -np.inf]]
)
def test_nonfinite_logits_are_counted_and_the_rest_described(bad: list[float]) -> None:
    row = fixed_row()
    finite = row[len(bad) :].copy()
    row[: len(bad)] = bad
    rows = row_statistics(row)
    masks = bad.count(-np.inf)
    assert (rows.nonfinite[0], rows.masked[0]) == (len(bad) - masks, masks)
    assert rows.mean[0] == pytest.approx(finite.astype(np.float64).mean(), rel=1e-12)
    assert rows.top_logits[0].tolist() == row_statistics(finite).top_logits[0].tolist()
    assert rows.logsumexp[0] == pytest.approx(row_statistics(finite).logsumexp[0], rel=1e-13)
    assert all(np.isfinite(a).all() for a in arrays_of(rows))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_without_any_finite_logit_has_finite_statistics(value: float) -> None:
    rows = row_statistics(np.full((2, 300), value, np.float32))
    assert rows.nonfinite.tolist() == [300, 300]
    assert rows.masked.tolist() == [0, 0]
    assert (rows.top_ids == NO_TOKEN).all()
    assert all((a == 0).all() for a in arrays_of(rows))


def test_the_largest_floats_overflow_nothing() -> None:
    largest = np.finfo(np.float32).max
    row = np.where(hashes(20_000)[1] > 0, largest, -largest).astype(np.float32)
    rows = row_statistics(row)
    assert all(np.isfinite(a).all() for a in arrays_of(rows))
    assert np.isfinite(squared_norm(rows.sketch)).all()


@pytest.mark.parametrize("dtype", [np.float16, np.float64, np.int32])
def test_other_dtypes_are_refused(dtype: type) -> None:
    with pytest.raises(ValueError, match="not float32"):
        row_statistics(np.zeros((2, 8), dtype))


@pytest.mark.parametrize("shape", [(0,), (3, 0), (2, 3, 4)])
def test_shapes_that_are_no_rows_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="shape"):
        row_statistics(np.zeros(shape, np.float32))


def test_no_rows_are_no_statistics() -> None:
    for rows in (row_statistics(np.zeros((0, 5), np.float32)), concatenate([])):
        assert len(rows) == 0
        assert rows.top_ids.shape == (0, TOP_K)
        assert rows.sketch.dtype == np.float32


def test_rows_one_by_one_equal_rows_together() -> None:
    block = np.random.default_rng(5).standard_normal((4, 6000)).astype(np.float32)
    together = row_statistics(block)
    apart = concatenate([row_statistics(row) for row in block])
    for name in (
        "top_ids",
        "top_logits",
        "mean",
        "logsumexp",
        "digest",
        "sketch",
        "nonfinite",
        "mask",
    ):
        assert getattr(together, name).tobytes() == getattr(apart, name).tobytes()
    assert len(together[1:3]) == 2
    assert together[1:3].digest.tobytes() == apart.digest[1:3].tobytes()


# --- rows that are not whole


def told(rows: RowStatistics) -> RowStatistics:
    return replace(rows, mean=None, digest=None, sketch=None)


def test_rows_without_digest_are_not_whole_and_keep_their_length() -> None:
    rows = row_statistics(np.stack([fixed_row()] * 3))
    assert rows.whole
    assert not told(rows).whole
    assert len(told(rows)) == 3
    assert len(told(rows)[1:]) == 2
    assert told(rows)[1:].digest is None


@pytest.mark.parametrize("names", [["digest"], ["mean", "sketch"]])
def test_the_columns_of_whole_rows_go_together(names: list[str]) -> None:
    rows = row_statistics(fixed_row())
    with pytest.raises(ValueError, match="together or not at all"):
        replace(rows, **dict.fromkeys(names))


def test_joined_rows_are_whole_where_all_parts_are() -> None:
    rows = row_statistics(fixed_row())
    assert concatenate([rows, rows]).whole
    mixed = concatenate([rows, told(rows)])
    assert not mixed.whole
    assert len(mixed) == 2


def test_bits_are_compared_only_where_both_sides_are_whole() -> None:
    other = fixed_row()
    other[7] += 1e-3  # not among the largest
    a, b = (row_statistics(np.stack([fixed_row(), row])) for row in (fixed_row(), other))
    equal = bit_equal(a, b)
    assert equal is not None
    assert equal.tolist() == [True, False]
    assert bit_equal(a, told(b)) is None
    assert same_rows(a, b).tolist() == [True, False]
    shifted = replace(told(b), top_logits=b.top_logits + np.float32([[0], [1]]))
    assert same_rows(a, shifted).tolist() == [True, False]
