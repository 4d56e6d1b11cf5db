"""The reference's own noise: errors against the oracle, and the tolerance.

All from sketches and top-20 lists, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.statistics.margins import logit_of
from harness.statistics.rows import NO_TOKEN, RowStatistics, squared_norm

#: Bits of the significand after the leading one.
FRACTION_BITS = {"bfloat16": 7, "float16": 10, "float32": 23}


def squared_error(arm: RowStatistics, oracle: RowStatistics) -> NDArray[np.float64]:
    """Squared norm of ``centred(z_arm) - centred(z_oracle)`` per position,
    over the whole vocabulary, estimated from the sketches. Shape (n,).

    Raises:
        ValueError: if one of them does not hold whole rows.
    """
    if arm.sketch is None or oracle.sketch is None:
        raise ValueError("rows without a sketch have no error over the whole vocabulary")
    return squared_norm(arm.sketch.astype(np.float64) - oracle.sketch.astype(np.float64))


def rms_error(arm: RowStatistics, oracle: RowStatistics, width: int) -> NDArray[np.float64]:
    """Root-mean-square logit error per position, float64 (n,), in logits.

    Args:
        width: size of the vocabulary. Masked ids, as far as they are known,
            have no error and do not count.
    """
    masked = np.maximum(np.maximum(arm.masked, oracle.masked), 0)
    return np.asarray(np.sqrt(squared_error(arm, oracle) / np.maximum(width - masked, 1)))


def top_k_squared_errors(
    arms: Sequence[RowStatistics], oracle: RowStatistics
) -> tuple[list[NDArray[np.float64]], NDArray[np.int64]]:
    """Squared errors over the ids of the oracle's top 20, or of as many as the
    shortest list has, each row re-centred on those ids.

    An id that an arm does not list counts with the last logit that the arm
    lists, an upper bound. If it were left out, the error of a likely token
    that a fault pushed down would be lost.

    Returns:
        One float64 (n,) per arm, and the number of ids, int64 (n,). Positions
        with fewer than two ids carry no information about differences and
        have 0 and 0.
    """
    told = [np.sum(rows.top_ids != NO_TOKEN, axis=1) for rows in (oracle, *arms)]
    counts = np.min(told, axis=0)
    counts = np.where(counts >= 2, counts, 0).astype(np.int64)
    used = np.arange(oracle.top_ids.shape[1])[None, :] < counts[:, None]
    base = _centred(oracle.top_logits, used)
    return [np.sum((_centred(_at(arm, oracle), used) - base) ** 2, axis=1) for arm in arms], counts


def top_k_rms_errors(
    arms: Sequence[RowStatistics], oracle: RowStatistics
) -> list[NDArray[np.float64]]:
    """Root-mean-square error of each arm among the oracle's likeliest ids, float64
    (n,) each, in logits: one degree of freedom is that of the centring. 0 where
    fewer than two ids are told."""
    squares, counts = top_k_squared_errors(arms, oracle)
    return [np.sqrt(found / np.maximum(counts - 1, 1)) for found in squares]


def _at(arm: RowStatistics, oracle: RowStatistics) -> NDArray[np.float32]:
    """The arm's logits of the oracle's largest ids, (n, 20)."""
    match = oracle.top_ids[:, :, None] == arm.top_ids[:, None, :]
    logits = np.take_along_axis(arm.top_logits, match.argmax(axis=2), axis=1)
    last = np.maximum(np.sum(arm.top_ids != NO_TOKEN, axis=1) - 1, 0)[:, None]
    return np.where(match.any(axis=2), logits, np.take_along_axis(arm.top_logits, last, axis=1))


def _centred(logits: NDArray[np.float32], shared: NDArray[np.bool_]) -> NDArray[np.float64]:
    wide = np.where(shared, logits, 0.0).astype(np.float64)
    count = np.maximum(shared.sum(axis=1), 1)
    return np.where(shared, wide - (wide.sum(axis=1) / count)[:, None], 0.0)


def spacing(dtype: str, magnitude: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance between neighbouring numbers of ``dtype`` at ``magnitude``.

    ``2 ** (floor(log2 |z|) - fraction bits)``, for normal numbers.

    Raises:
        ValueError: for a dtype that is not bfloat16, float16 or float32.
    """
    if dtype not in FRACTION_BITS:
        raise ValueError(f"the spacing of {dtype} is not known")
    _, exponent = np.frexp(np.maximum(np.abs(magnitude), np.finfo(np.float64).tiny))
    return np.asarray(np.ldexp(1.0, exponent - 1 - FRACTION_BITS[dtype]))


def row_spacing(dtype: str, rows: RowStatistics) -> NDArray[np.float64]:
    """Spacing at the largest magnitude among each row's top 20, float64 (n,)."""
    return spacing(dtype, np.abs(rows.top_logits.astype(np.float64)).max(axis=1))


def on_grid(dtype: str, logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Whether all of a row's values are numbers of ``dtype``, bool (n,).

    Args:
        logits: float32 (n, k).
    """
    if dtype == "bfloat16":
        fits = (np.ascontiguousarray(logits).view(np.uint32) & np.uint32(0xFFFF)) == 0
    elif dtype == "float16":
        with np.errstate(over="ignore"):
            fits = logits.astype(np.float16).astype(np.float32) == logits
    else:
        fits = np.ones(logits.shape, np.bool_)
    return np.asarray(fits.all(axis=1))


def below_the_best(rows: RowStatistics, tokens: NDArray[np.int64], dtype: str) -> NDArray[np.bool_]:
    """Where a chosen token lies below the largest logit of its own row, bool (n,).

    A greedy device takes the largest, whatever the noise between two devices is. Only
    where its logits are finer than its dtype may it have compared rounded ones: then two
    are the same that differ by less than half a unit, or round to one number. Rows with
    NaN or infinities say nothing.
    """
    best, chosen = rows.top_logits[:, 0].astype(np.float64), logit_of(rows, tokens)
    unit = row_spacing(dtype, rows)
    same = np.rint(best / unit) == np.rint(chosen / unit)
    finer = ~on_grid(dtype, rows.top_logits) & (same | (best - chosen < 0.5 * unit))
    return np.asarray((rows.nonfinite == 0) & (chosen < best) & ~finer)


def shared_error(pairs: Iterable[tuple[NDArray[np.float64], NDArray[np.float64]]]) -> float:
    """Correlation of two computations' errors over all prompts, -1 to 1; 0 where one has
    none.

    Args:
        pairs: of each prompt, the errors of both, float64 (n, d).
    """
    return correlation(sum((products(one, other) for one, other in pairs), np.zeros(3)))


def products(one: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of two errors in one prompt, float64 (n, d): their product, and each one's with itself;
    float64 (3,), which may be added up over prompts."""
    return np.array([np.sum(one * other), np.sum(one * one), np.sum(other * other)])


def correlation(added: NDArray[np.float64]) -> float:
    """Of errors whose :func:`products` were added up; 0 where one of them is 0."""
    both, mine, theirs = map(float, added)
    size = math.sqrt(mine) * math.sqrt(theirs)
    return both / size if size > 0.0 else 0.0


def local_noise(
    errors: Sequence[NDArray[np.float64]], unit: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``s_t``: root-mean-square over the model-dtype baseline arms of their
    rms error among the likeliest tokens at position t, at least
    ``unit / sqrt(12)``, the standard deviation of one rounding. Shape (n,)."""
    pooled = np.sqrt(np.mean(np.square(np.stack(errors)), axis=0))
    return np.asarray(np.maximum(pooled, unit / np.sqrt(12.0)))


def tolerance(
    kappa: float, noise: NDArray[np.float64], unit: NDArray[np.float64]
) -> NDArray[np.float64]:
    """``tau_t = max(2 u, kappa s_t)``: the largest margin shift at each position
    that the reference's own variations explain. Shape (n,)."""
    return np.asarray(np.maximum(2.0 * unit, kappa * noise))
