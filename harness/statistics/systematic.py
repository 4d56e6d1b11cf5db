"""Systematic errors: what does not average out over prompts."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import Estimate, freedom_of, jackknife_error
from harness.statistics.rows import SKETCH_WIDTH

#: Fewer prompts give no products to average.
FEWEST_PROMPTS = 3


def systematic_share(
    sums: NDArray[np.float64], counts: NDArray[np.float64], errors: NDArray[np.float64]
) -> Estimate:
    """Squared norm of a mean error, over a mean squared error.

    With ``d_i`` the summed error of prompt i and ``n_i`` its positions,
    ``sum(d_i . d_j) / sum(n_i n_j)`` over ``i != j``: products within a prompt,
    which noise makes positive, are left out, so noise alone gives 0 on average.

    The error has two parts. Prompts scatter: delete-one-prompt jackknife. And the
    sketch estimates the norm of one direction with a relative variance of
    ``2 / 64``, which no number of prompts makes smaller (Charikar, Chen and
    Farach-Colton, 2002). Degrees of freedom by Welch and Satterthwaite.

    Args:
        sums: float64 (p, 64), sketched errors summed over each prompt.
        counts: float64 (p,), positions of each prompt.
        errors: float64 (p,), squared errors summed over each prompt, by whose mean
            the share is taken.
    """
    prompts = len(counts)
    if prompts < FEWEST_PROMPTS or errors.sum() <= 0.0:
        return Estimate(None, prompts=prompts)
    products = sums @ sums.T
    pairs, weights = _off_diagonal(products), _off_diagonal(np.outer(counts, counts))
    value = float(_share(pairs.sum(), weights.sum(), errors.sum(), counts.sum()))
    # Without prompt k both of its rows and columns go.
    left_out = _share(
        pairs.sum() - 2.0 * pairs.sum(axis=1),
        weights.sum() - 2.0 * weights.sum(axis=1),
        errors.sum() - errors,
        counts.sum() - counts,
    )
    scatter = jackknife_error(left_out)
    sketched = math.sqrt(2.0 / SKETCH_WIDTH) * max(value, 0.0)
    error = math.hypot(scatter, sketched)
    freedom = freedom_of(np.diag(products))
    if scatter > 0.0:
        freedom = freedom * (error / scatter) ** 4
    return Estimate(value, error, freedom, prompts=prompts)


def _off_diagonal(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return matrix - np.diag(np.diag(matrix))


def _share(
    pairs: NDArray[np.float64],
    weights: NDArray[np.float64],
    errors: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    return np.asarray((pairs / weights) / (errors / counts))
