"""Errors among the likeliest tokens, where a row lists those alone.

A server lists the k largest log-probabilities of a position. Which ids these are depends on
its own rounding, so ids are chosen by the oracle: its likeliest ones, as far above its k-th
as rounding reaches. No value that is looked at then was selected by its own error. Each row
is centred on its ids, which takes off whatever it was normalized by.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.statistics.rows import NO_TOKEN, RowStatistics
from harness.statistics.score import LEAST_NOISE, SHRINKAGE, Metric

#: An id is looked at where the oracle has it so many times the local noise above its k-th.
REACH = 3.0
#: Two ids make a difference.
FEWEST_IDS = 2
#: A row's own noise is seen in a few values, so it counts beside so many of the middle row's.
PRIOR = 16.0


def listed_count(rows: RowStatistics) -> NDArray[np.int64]:
    """How many ids each row lists, int64 (n,)."""
    return np.asarray(np.sum(rows.top_ids != NO_TOKEN, axis=1), np.int64)


def ids_within_reach(
    oracle: RowStatistics, noise: NDArray[np.float64], listed: NDArray[np.int64]
) -> NDArray[np.int32]:
    """The ids of each row that are looked at, int32 (n, 20), likeliest first and ``NO_TOKEN``
    after the last; none where there are fewer than ``FEWEST_IDS``.

    Args:
        noise: float64 (n,), local noise of differences, logits.
        listed: int64 (n,), how many ids the candidate lists.
    """
    most = np.minimum(listed, listed_count(oracle))
    last = np.take_along_axis(oracle.top_logits, np.maximum(most - 1, 0)[:, None], axis=1)
    logits = oracle.top_logits.astype(np.float64)
    found = (logits - last >= REACH * noise[:, None]) & (
        np.arange(logits.shape[1])[None, :] < most[:, None]
    )
    found &= found.sum(axis=1, keepdims=True) >= FEWEST_IDS
    return np.where(found, oracle.top_ids, NO_TOKEN).astype(np.int32)


def centred_at(
    rows: RowStatistics, ids: NDArray[np.int32], listed: NDArray[np.int64]
) -> NDArray[np.float64]:
    """A device's logits, or log-probabilities, at ``ids``, centred on them: float64 (n, 20),
    0 where there is no id.

    An id that is not among the first ``listed`` of a row counts with the last of those, which
    is an upper bound.

    Args:
        listed: int64 (n,).
    """
    count = np.minimum(listed, listed_count(rows))
    mine = np.where(np.arange(rows.top_ids.shape[1]) < count[:, None], rows.top_ids, NO_TOKEN - 1)
    match = ids[:, :, None] == mine[:, None, :]
    last = np.maximum(count - 1, 0)[:, None]
    at = np.where(match.any(axis=2), match.argmax(axis=2), last)
    return _centred(np.take_along_axis(rows.top_logits, at, axis=1).astype(np.float64), ids)


def missing_at(
    rows: RowStatistics, ids: NDArray[np.int32], listed: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Which ids a row does not list among its first ``listed``, bool (n, 20)."""
    mine = np.where(np.arange(rows.top_ids.shape[1]) < listed[:, None], rows.top_ids, NO_TOKEN - 1)
    return np.asarray((ids != NO_TOKEN) & ~(ids[:, :, None] == mine[:, None, :]).any(axis=2))


def listed_metric(arms: Sequence[NDArray[np.float64]], ids: Sequence[NDArray[np.int32]]) -> Metric:
    """As ``metric_of``, of rows with a different number of ids each.

    Args:
        arms: per prompt float64 (A, n, k), each arm's error at the ids.
        ids: per prompt int32 (n, k).

    Raises:
        ValueError: if no arm has an error.
    """
    squares = [np.sum(a * a, axis=(0, 2)) for a in arms]
    freedom = [
        len(a) * np.maximum(np.sum(i != NO_TOKEN, axis=1) - 1.0, 0.0)
        for a, i in zip(arms, ids, strict=True)
    ]
    own = [s / np.maximum(f, 1.0) for s, f in zip(squares, freedom, strict=True)]
    seen = np.concatenate(own) if own else np.zeros(0)
    middle = float(np.median(seen[seen > 0.0])) if (seen > 0.0).any() else 0.0
    if not middle > 0.0:
        raise ValueError("the arms have no error")
    noise = [
        np.maximum((s + PRIOR * middle) / (f + PRIOR), LEAST_NOISE * middle)
        for s, f in zip(squares, freedom, strict=True)
    ]
    weights = tuple(np.asarray(1.0 / n, np.float64) for n in noise)
    return Metric(weights, _inverse(arms, ids, weights))


def _inverse(
    arms: Sequence[NDArray[np.float64]],
    ids: Sequence[NDArray[np.int32]],
    weights: Sequence[NDArray[np.float64]],
) -> NDArray[np.float64]:
    """Of the second moment by rank, over the rows that have an id of that rank."""
    width = arms[0].shape[-1]
    moment, count = np.zeros((width, width)), np.zeros(width)
    for errors, chosen, weight in zip(arms, ids, weights, strict=True):
        count += len(errors) * np.sum(chosen != NO_TOKEN, axis=0)
        for rows in errors:
            scaled = rows * np.sqrt(weight)[:, None]
            moment += scaled.T @ scaled
    root = np.sqrt(np.maximum(count, 1.0))
    moment /= root[:, None] * root[None, :]
    moment /= np.trace(moment) / max(int((count > 0).sum()), 1)
    shrunk = (1.0 - SHRINKAGE) * moment + SHRINKAGE * np.eye(width)
    return np.asarray(np.linalg.inv(shrunk), np.float64)


def _centred(values: NDArray[np.float64], ids: NDArray[np.int32]) -> NDArray[np.float64]:
    there = ids != NO_TOKEN
    held = np.where(there, values, 0.0)
    count = np.maximum(there.sum(axis=1, keepdims=True), 1)
    return np.where(there, held - held.sum(axis=1, keepdims=True) / count, 0.0)
