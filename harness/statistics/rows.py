"""Row statistics: the figures kept of the raw logits of one position.

One function serves every device, so that two recordings differ only in their
logits. NumPy alone: the engines' worker processes and a reviewer's laptop
compute the same bits.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.statistics.masks import MASK_BYTES, mask_border, mask_digest

#: How many of the largest logits are kept, in normal detail.
TOP_K = 20
#: Number of buckets of the count-sketch, in normal detail.
SKETCH_WIDTH = 64
#: Bytes of a row's digest.
DIGEST_BYTES = 16
#: The id in ``top_ids`` where a row has fewer than TOP_K finite logits.
NO_TOKEN = -1

#: Columns that only whole rows have.
WHOLE_ONLY = ("mean", "digest", "sketch")

#: Columns that recordings of before lack, and rows that are not whole.
MASK_COLUMNS = ("masked", "mask")
#: The number of masked ids where it is not known.
UNTOLD = -1

_LARGEST = float(np.finfo(np.float32).max)
_GROUP = 128  # logits per group in the search for the k-th largest


@dataclass(frozen=True)
class Detail:
    """How much is kept of a whole row.

    Attributes:
        listed: how many of the largest logits, ``k``.
        buckets: of the count-sketch, ``w``; a power of two, so that a wide sketch
            can be folded into a narrow one (``harness.statistics.detail``).
    """

    listed: int = TOP_K
    buckets: int = SKETCH_WIDTH


NORMAL = Detail()


@dataclass(frozen=True, eq=False)
class RowStatistics:
    """Statistics of ``n`` rows, one entry per row in every array.

    All figures but the digest are of the logits that are finite and not masked
    (``masks.mask_border``): one mask would outweigh all other logits.

    Attributes:
        top_ids: int32 (n, k), ids of the largest logits, largest first,
            ties to the lower id; NO_TOKEN where there are fewer.
        top_logits: float32 (n, k), their logits; 0 beside NO_TOKEN.
        mean: float64 (n,).
        logsumexp: float64 (n,), natural log.
        nonfinite: int32 (n,), how many logits are NaN or +infinity; in rows
            without a finite logit, and in rows that do not tell masks,
            -infinity counts as well. Elsewhere it is a mask.
        digest: uint8 (n, 16), BLAKE2b-128 of the row as little-endian float32
            with -0 written as +0. Equal digests mean bit-equal logits.
        sketch: float32 (n, w), count-sketch of the mean-centred row; sums
            beyond float32, which only a broken model has, end at its limit.
        masked: int32 (n,), how many ids are masked; UNTOLD in rows whose masks
            are not known.
        mask: uint8 (n, 8), digest of the masked ids; zeros where there are none.

    A server gives only its largest log-probabilities of a row.
    Its rows are not ``whole``: ``mean``, ``digest`` and ``sketch`` are None
    together, ``top_logits`` are log-probabilities and ``logsumexp`` is 0, as
    it is for them.
    """

    top_ids: NDArray[np.int32]
    top_logits: NDArray[np.float32]
    mean: NDArray[np.float64] | None
    logsumexp: NDArray[np.float64]
    nonfinite: NDArray[np.int32]
    digest: NDArray[np.uint8] | None
    sketch: NDArray[np.float32] | None
    masked: NDArray[np.int32]
    mask: NDArray[np.uint8]

    def __post_init__(self) -> None:
        if len({getattr(self, name) is None for name in WHOLE_ONLY}) != 1:
            raise ValueError(f"{', '.join(WHOLE_ONLY)} must be given together or not at all")

    def __len__(self) -> int:
        return len(self.top_ids)

    def __getitem__(self, index: slice | NDArray[np.bool_]) -> RowStatistics:
        columns = {f.name: getattr(self, f.name) for f in fields(self)}
        taken: dict[str, Any] = {n: None if c is None else c[index] for n, c in columns.items()}
        return RowStatistics(**taken)

    @property
    def whole(self) -> bool:
        """Whether the figures are of whole rows, not of their largest entries alone."""
        return self.digest is not None

    @property
    def masks_told(self) -> bool:
        """Whether the masks of every row are known."""
        return bool((self.masked != UNTOLD).all())


def untold_masks(count: int) -> dict[str, NDArray[Any]]:
    """The columns of masks of rows whose masks are not known."""
    return {
        "masked": np.full(count, UNTOLD, np.int32),
        "mask": np.zeros((count, MASK_BYTES), np.uint8),
    }


def concatenate(parts: list[RowStatistics]) -> RowStatistics:
    """The rows of all parts, in order; whole where all are. An empty list gives no
    rows."""
    if not parts:
        return _empty()
    columns: dict[str, Any] = {}
    for name in (f.name for f in fields(RowStatistics)):
        found = [getattr(part, name) for part in parts]
        columns[name] = None if any(c is None for c in found) else np.concatenate(found)
    return RowStatistics(**columns)


def bit_equal(a: RowStatistics, b: RowStatistics) -> NDArray[np.bool_] | None:
    """Which rows are bit-equal, bool (n,); None where one side has no digests."""
    if a.digest is None or b.digest is None:
        return None
    return np.asarray((a.digest == b.digest).all(axis=1))


def same_masks(a: RowStatistics, b: RowStatistics) -> NDArray[np.bool_] | None:
    """Which rows mask the same ids, bool (n,); None where one side does not tell."""
    if not (a.masks_told and b.masks_told):
        return None
    return np.asarray((a.masked == b.masked) & (a.mask == b.mask).all(axis=1))


def same_rows(a: RowStatistics, b: RowStatistics) -> NDArray[np.bool_]:
    """Which rows are the same as far as is known, bool (n,): bit-equal, or
    with the same largest entries where one side has no digest."""
    equal = bit_equal(a, b)
    if equal is None:
        equal = (a.top_ids == b.top_ids).all(axis=1) & (a.top_logits == b.top_logits).all(axis=1)
    return np.asarray(equal)


def row_statistics(rows: NDArray[np.float32], detail: Detail = NORMAL) -> RowStatistics:
    """Statistics of raw logits.

    Args:
        rows: float32, shape (n, vocabulary) or (vocabulary,). float16 and
            bfloat16 logits are widened by the caller, which loses nothing.
        detail: how many logits and buckets are kept of a row.

    Raises:
        ValueError: if the array is not float32, or has no vocabulary.
    """
    if rows.dtype != np.float32:
        raise ValueError(f"rows are {rows.dtype}, not float32")
    rows = np.atleast_2d(rows)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise ValueError(f"rows have shape {rows.shape}, not (n, vocabulary)")
    return concatenate([_one_row(np.ascontiguousarray(row), detail) for row in rows])


def squared_norm(sketch: NDArray[np.floating]) -> NDArray[np.float64]:
    """Unbiased estimate of the squared norm of the sketched vector.

    Args:
        sketch: (..., w), usually a difference of two sketches.

    Charikar, Chen and Farach-Colton (2002); the variance of the estimate is
    at most 2/w of its square, so a sum over many rows is sharp.
    """
    wide = sketch.astype(np.float64)
    return np.asarray(np.sum(wide * wide, axis=-1))


def _one_row(row: NDArray[np.float32], detail: Detail) -> RowStatistics:
    with np.errstate(invalid="ignore"):  # infinities of both signs
        total = row.sum(dtype=np.float64)
    keep = _kept(row, bool(np.isfinite(total)))  # float64 cannot overflow on float32 sums
    count = row.size if keep is None else int(np.count_nonzero(keep))
    top_ids, top_logits = _top(
        row if keep is None else np.where(keep, row, -np.inf), count, detail.listed
    )
    peak = float(top_logits[0])
    wide = row.astype(np.float64)
    if keep is None:
        mean = float(total) / count
    else:
        mean = float(row.sum(dtype=np.float64, where=keep)) / count if count else 0.0
        wide[~keep] = mean
    bucket, sign = hashes(row.size, detail.buckets)
    wide -= mean
    sketch = np.bincount(bucket, weights=wide * sign, minlength=detail.buckets)
    wide -= peak - mean
    np.exp(wide, out=wide)
    if keep is not None:
        wide[~keep] = 0.0
    logsumexp = peak + float(np.log(wide.sum())) if count else 0.0
    masked = np.zeros(0, np.intp)
    if keep is not None and count:
        masked = np.flatnonzero(~keep & (row < np.float32(np.inf)))  # neither NaN nor +infinity
    nonfinite = row.size - count - masked.size
    return RowStatistics(
        top_ids=top_ids[None],
        top_logits=top_logits[None],
        mean=np.array([mean]),
        logsumexp=np.array([logsumexp]),
        nonfinite=np.array([nonfinite], dtype=np.int32),
        digest=np.frombuffer(_digest(row), dtype=np.uint8)[None],
        sketch=np.clip(sketch, -_LARGEST, _LARGEST).astype(np.float32)[None],
        masked=np.array([masked.size], dtype=np.int32),
        mask=np.frombuffer(mask_digest(masked), dtype=np.uint8)[None],
    )


def _kept(row: NDArray[np.float32], finite: bool) -> NDArray[np.bool_] | None:
    """Which logits are finite and not masked, bool (vocabulary,); None for all."""
    keep = None if finite else np.isfinite(row)
    logits = row if keep is None else row[keep]
    border = mask_border(logits) if logits.size else None
    if border is None:
        return keep
    unmasked = row > border
    return unmasked if keep is None else np.asarray(unmasked & keep)


def _digest(row: NDArray[np.float32]) -> bytes:
    # Adding +0 turns -0 into +0 and changes no other value.
    plain = (row + np.float32(0.0)).astype("<f4", copy=False)
    return hashlib.blake2b(plain.data, digest_size=DIGEST_BYTES).digest()


def _top(
    row: NDArray[np.float32], finite: int, listed: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """The ``listed`` largest, ties to the lower id; -inf replaces non-finite logits."""
    k = min(listed, finite)
    ids = np.full(listed, NO_TOKEN, dtype=np.int32)
    logits = np.zeros(listed, dtype=np.float32)
    if k:
        candidates = np.flatnonzero(row >= _lower_bound(row, k))
        # A stable sort keeps the lower id first among equals.
        order = np.argsort(-row[candidates], kind="stable")[:k]
        ids[:k] = candidates[order]
        logits[:k] = row[ids[:k]]
    return ids, logits


def _lower_bound(row: NDArray[np.float32], k: int) -> float:
    """A value that at least the k largest entries reach, found in one pass.

    The k-th largest maximum over disjoint groups: each of k groups holds an
    entry that is at least that large. Cheaper than a partition of the row.
    """
    whole = row.size // _GROUP
    if whole < 2 * k:
        return float(np.partition(row, row.size - k)[row.size - k])
    peaks = row[: whole * _GROUP].reshape(whole, _GROUP).max(axis=1)
    return float(np.partition(peaks, whole - k)[whole - k])


@lru_cache(maxsize=8)
def hashes(width: int, buckets: int = SKETCH_WIDTH) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Bucket (from 0) and sign (+1, -1) of every token id below ``width``.

    splitmix64's finalizer (Steele, Lea and Flood 2014) of the id: fixed for
    ever, since sketches of different machines and versions are subtracted. The
    bucket is its lowest bits, and the sign is bit 32 whatever the number of buckets,
    so a bucket of a narrow sketch is the sum of those of a wide one.
    """
    x = np.arange(width, dtype=np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x ^= x >> np.uint64(31)
    bucket = (x & np.uint64(buckets - 1)).astype(np.intp)
    sign = np.where((x >> np.uint64(32)) & np.uint64(1), 1.0, -1.0)
    bucket.setflags(write=False)
    sign.setflags(write=False)
    return bucket, sign


def _empty() -> RowStatistics:
    """No rows, in normal detail."""
    return RowStatistics(
        top_ids=np.zeros((0, TOP_K), np.int32),
        top_logits=np.zeros((0, TOP_K), np.float32),
        mean=np.zeros(0),
        logsumexp=np.zeros(0),
        nonfinite=np.zeros(0, np.int32),
        digest=np.zeros((0, DIGEST_BYTES), np.uint8),
        sketch=np.zeros((0, SKETCH_WIDTH), np.float32),
        masked=np.zeros(0, np.int32),
        mask=np.zeros((0, MASK_BYTES), np.uint8),
    )
