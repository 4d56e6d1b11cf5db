"""Systematic errors: what does not average out over prompts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import Estimate, freedom_of, jackknife_error

#: Fewer prompts give no products to average.
FEWEST_PROMPTS = 3
#: Products that are held at once: all of them up to 2,048 prompts.
_AT_ONCE = 1 << 22


def systematic_share(
    sums: NDArray[np.float64], counts: NDArray[np.float64], errors: NDArray[np.float64]
) -> Estimate:
    """Squared norm of a mean error, over a mean squared error.

    With ``d_i`` the summed error of prompt i and ``n_i`` its positions,
    ``sum(d_i . d_j) / sum(n_i n_j)`` over ``i != j``: products within a prompt,
    which noise makes positive, are left out, so noise alone gives 0 on average.

    The error has two parts. Prompts scatter: delete-one-prompt jackknife. And the
    sketch estimates the norm of one direction with a relative variance of
    ``2 / w``, which no number of prompts makes smaller (Charikar, Chen and
    Farach-Colton, 2002). Degrees of freedom by Welch and Satterthwaite.

    Args:
        sums: float64 (p, w), sketched errors summed over each prompt.
        counts: float64 (p,), positions of each prompt.
        errors: float64 (p,), squared errors summed over each prompt, by whose mean
            the share is taken.
    """
    prompts = len(counts)
    if prompts < FEWEST_PROMPTS or errors.sum() <= 0.0:
        return Estimate(None, prompts=prompts)
    own, pairs, total = _off_diagonal(sums)
    # Exact: counts are whole numbers.
    weights = counts * (counts.sum() - counts)
    value = float(_share(total, weights.sum(), errors.sum(), counts.sum()))
    # Without prompt k both of its rows and columns go.
    left_out = _share(
        total - 2.0 * pairs,
        weights.sum() - 2.0 * weights,
        errors.sum() - errors,
        counts.sum() - counts,
    )
    scatter = jackknife_error(left_out)
    sketched = math.sqrt(2.0 / sums.shape[1]) * max(value, 0.0)
    error = math.hypot(scatter, sketched)
    freedom = freedom_of(own)
    if scatter > 0.0:
        freedom = freedom * (error / scatter) ** 4
    return Estimate(value, error, freedom, prompts=prompts)


def _off_diagonal(
    sums: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Of the products of all prompts: the diagonal, the sum of each row without it, and the
    sum of these; a few rows at a time, where there are many prompts."""
    count = len(sums)
    step = max(1, _AT_ONCE // count)
    own, rows, total = np.zeros(count), np.zeros(count), 0.0
    for start in range(0, count, step):
        products = sums[start : start + step] @ sums.T
        at = np.arange(len(products))
        own[start : start + step] = products[at, start + at]
        products[at, start + at] = 0.0
        rows[start : start + step] = products.sum(axis=1)
        total += float(products.sum())
    return own, rows, np.asarray(total)


def _share(
    pairs: NDArray[np.float64],
    weights: NDArray[np.float64],
    errors: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    return np.asarray((pairs / weights) / (errors / counts))
