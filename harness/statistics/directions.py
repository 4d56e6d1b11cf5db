"""Directions of an error: rounding points everywhere, as the arms' errors do, and a
fault points where its cause lies, also where it changes its sign."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import DTypeLike, NDArray

#: Rows count with at most so many times the error that is usual at their position, so
#: that no row governs: single rows have a guard of their own.
LARGEST_ROW = 3.0
#: So much of the arms' second moment is taken to be the same in all directions. Without it
#: a direction in which three arms have no error by chance would count as a fault.
SHRINKAGE = 0.1


def bounded(errors: NDArray[np.float64], usual: NDArray[np.float64]) -> NDArray[np.float64]:
    """Errors over the usual size of one at their position, none longer than
    ``LARGEST_ROW``; 0 where that size is 0.

    Args:
        errors: float64 (n, d); ``usual`` float64 (n,), both in logits.
    """
    known = usual > 0.0
    rows = np.where(known[:, None], errors / np.where(known, usual, 1.0)[:, None], 0.0)
    length = np.sqrt(np.sum(rows * rows, axis=1))
    within = np.minimum(1.0, LARGEST_ROW / np.maximum(length, LARGEST_ROW * 1e-6))
    return np.asarray(rows * within[:, None])


def outer_sum(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of the outer products of rows (n, d) with themselves, float64 (d, d).

    For one prompt at a time: threads of a product of large matrices wait for each other
    on a busy machine far longer than the product takes.
    """
    return np.asarray(rows.T @ rows)


def whitening(moment: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The transformation after which an error with this second moment is the same in
    all directions, float64 (d, d); None of a moment that is 0.

    The moment is shrunk towards one that is the same in all directions (Ledoit and
    Wolf, 2004, with a fixed ``SHRINKAGE``).
    """
    width = len(moment)
    level = float(np.trace(moment)) / width
    if not level > 0.0:
        return None
    shrunk = (1.0 - SHRINKAGE) * moment + SHRINKAGE * level * np.eye(width)
    return np.asarray(np.linalg.inv(np.linalg.cholesky(shrunk)).T)


def furthest(moment: NDArray[np.float64], white: NDArray[np.float64]) -> float:
    """How many times as large as usual an error is in the direction where it is most so:
    the root of the largest eigenvalue of its whitened second moment (d, d)."""
    values = np.linalg.eigvalsh(white.T @ moment @ white)
    return math.sqrt(max(float(values[-1]), 0.0))


class Later:
    """An array that is made whenever it is asked for, with ``np.asarray``.

    Args:
        count: its length.
    """

    def __init__(self, count: int, make: Callable[[], NDArray[np.float64]]) -> None:
        self._count, self._make = count, make

    def __len__(self) -> int:
        return self._count

    def __array__(
        self, dtype: DTypeLike | None = None, copy: bool | None = None
    ) -> NDArray[np.float64]:
        return self._make()


def along_one(prompts: Sequence[NDArray[np.float64] | Later], white: NDArray[np.float64]) -> float:
    """How many times as large as usual the error of these prompts is in the direction
    where it is most so, without the prompt that has the largest part in it, so that no
    prompt governs; 0 with fewer than two.

    Args:
        prompts: ``bounded`` rows of each, float64 (n, d).
        white: ``whitening`` of the usual error.
    """
    seen = [rows for rows in prompts if len(rows)]
    if len(seen) < 2:
        return 0.0
    sizes = np.array([len(rows) for rows in seen])
    moment = sum((outer_sum(np.asarray(rows)) for rows in seen), 0.0 * white) / sizes.sum()
    direction = white @ np.linalg.eigh(white.T @ moment @ white)[1][:, -1]
    parts = np.array([float(np.sum((np.asarray(rows) @ direction) ** 2)) for rows in seen])
    worst = int(np.argmax(parts))
    return math.sqrt((parts.sum() - parts[worst]) / (sizes.sum() - sizes[worst]))
