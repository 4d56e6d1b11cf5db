"""Rao's score test (1948) of many directions of an error at once.

A candidate's centred row is the oracle's, plus a direction times an unknown size, plus
rounding, which has no direction of its own. The score of a direction in one prompt is the
sum over its rows of the product of error and direction, in the metric of the rounding. What
is tested is its mean over prompts. Rows of a prompt share their rounding, so prompts are
what is independent, and the deviation between them is the unit.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A row's noise is taken to be at least so many times that of the middle one, so that no
#: row governs whose arms agree by chance.
LEAST_NOISE = 0.05
#: So much of the noise's second moment is taken to be the same in all directions.
SHRINKAGE = 0.1
#: How often the signs of all prompts are drawn anew.
FLIPS = 20_000
#: Draws at a time; a product of this size fits a cache.
_CHUNK = 500


@dataclass(frozen=True, eq=False)
class Metric:
    """How rounding weighs an error.

    Attributes:
        weights: per prompt float64 (n,), one over the squared noise of each row.
        inverse: float64 (64, 64), of the noise's second moment; its mean is 1.
    """

    weights: tuple[NDArray[np.float64], ...]
    inverse: NDArray[np.float64]

    def weighed(self, prompt: int, error: NDArray[np.float64]) -> NDArray[np.float64]:
        """What the product with a direction is the score of: (n, 64) to (n, 64)."""
        return np.asarray((error * self.weights[prompt][:, None]) @ self.inverse)


def metric_of(arms: Sequence[NDArray[np.float64]]) -> Metric:
    """The metric of the arms' own errors, which for normal rounding is that of the
    likelihood.

    Args:
        arms: per prompt float64 (A, n, 64), sketches of each arm's error.

    Raises:
        ValueError: if no arm has an error.
    """
    noise = [np.asarray(np.sum(a * a, axis=-1).mean(axis=0), np.float64) for a in arms]
    seen = np.concatenate(noise) if noise else np.zeros(0)
    middle = float(np.median(seen[seen > 0.0])) if (seen > 0.0).any() else 0.0
    if not middle > 0.0:
        raise ValueError("the arms have no error")
    weights = tuple(
        np.asarray(1.0 / np.maximum(n, LEAST_NOISE * middle), np.float64) for n in noise
    )
    width = arms[0].shape[-1]
    moment = np.zeros((width, width))
    for errors, weight in zip(arms, weights, strict=True):
        for rows in errors:
            scaled = rows * np.sqrt(weight)[:, None]
            moment += scaled.T @ scaled
    moment /= np.trace(moment) / width
    shrunk = (1.0 - SHRINKAGE) * moment + SHRINKAGE * np.eye(width)
    return Metric(weights, np.asarray(np.linalg.inv(shrunk), np.float64))


def prompt_scales(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    """How large the scores of each prompt are, over all hypotheses: float64 (p,), with a
    mean square of 1; 1 where nothing is seen.

    A prompt's information differs from others', and nearly in the same way for all
    hypotheses. It is the same whatever the signs of its scores are.

    Args:
        scores: float64 (p, H).
    """
    mean_square = np.mean(scores**2, axis=0)
    seen = mean_square > 0.0
    if not seen.any():
        return np.ones(len(scores))
    found = np.sqrt(np.mean(scores[:, seen] ** 2 / mean_square[seen], axis=1))
    # A prompt without any score has no part in a sum, and must not be divided by.
    return np.asarray(np.where(found > 0.0, found, 1.0))


def t_values(
    scores: NDArray[np.float64], scales: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Student's t of each hypothesis over prompts, float64 (p, H) to (H,); 0 where no
    prompt has a score.

    An effect moves the score of a prompt by its information, and rounding by the root of
    that. So the scores over ``scales`` are fitted by a multiple of ``scales``, and t is that
    of the multiple; with ``scales`` of 1 it is the textbook's.

    Raises:
        ValueError: with fewer than two prompts.
    """
    prompts = len(scores)
    if prompts < 2:
        raise ValueError("a deviation between prompts needs two of them")
    scales = np.ones(prompts) if scales is None else scales
    squared = np.sum((scores / scales[:, None]) ** 2, axis=0)
    return _t(scores.sum(axis=0), squared, scales)


def _t(
    total: NDArray[np.float64], squared: NDArray[np.float64], scales: NDArray[np.float64]
) -> NDArray[np.float64]:
    """t from the sum of scores and the sum of their squares over ``scales``."""
    whole = float(np.sum(scales**2))
    left = np.maximum(squared - total**2 / whole, 1e-12 * squared)
    return _ratio(total * math.sqrt(len(scales) - 1), np.sqrt(left * whole))


def least_t(
    candidate: NDArray[np.float64],
    rounding: NDArray[np.float64],
    shares: Sequence[float],
    scales: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """The t of each hypothesis that is nearest to 0 over how much of the arms' own
    systematic rounding the candidate may share, float64 (H,): none in a higher
    precision, all of it in the arms' own. 0 where its sign is not the same for all.

    Args:
        candidate, rounding: float64 (p, H), scores of the candidate, and the mean of
            those of the arms.
        scales: see ``t_values``.
    """
    found = np.stack([t_values(candidate - share * rounding, scales) for share in shares])
    one_sign = np.all(found > 0.0, axis=0) | np.all(found < 0.0, axis=0)
    nearest = np.take_along_axis(found, np.abs(found).argmin(axis=0)[None], axis=0)[0]
    return np.where(one_sign, nearest, 0.0)


def largest_by_chance(
    scores: NDArray[np.float64],
    levels: Sequence[float],
    scales: NDArray[np.float64] | None = None,
    *,
    flips: int = FLIPS,
    seed: int = 0,
) -> tuple[float, ...]:
    """What the largest of all ``|t|`` stays below with these probabilities, if each
    prompt's scores may as well have the other sign.

    Exact for scores that are symmetric around 0 and independent between prompts
    (Fisher's randomization, 1935; Westfall and Young's largest statistic, 1993), with
    any correlation between hypotheses.

    Args:
        scores: float64 (p, H).
        scales: see ``t_values``; they must not depend on the signs.
    """
    random = np.random.default_rng(seed)
    prompts = len(scores)
    scales = np.ones(prompts) if scales is None else scales
    # Each hypothesis on a scale of its own: nothing may overflow or vanish.
    squared = np.sum((scores / scales[:, None]) ** 2, axis=0)
    seen = squared > 0.0
    if not seen.any():
        return tuple(0.0 for _ in levels)
    units = (scores[:, seen] / np.sqrt(squared[seen])).astype(np.float32)
    largest = np.empty(flips)
    for begin in range(0, flips, _CHUNK):
        count = min(_CHUNK, flips - begin)
        signs = 2.0 * random.integers(0, 2, (count, prompts)).astype(np.float32) - 1.0
        # Each has the same sum of squares, so that of the largest sum is the largest t.
        sums = np.abs(signs @ units).max(axis=1).astype(np.float64)
        largest[begin : begin + count] = _t(sums, np.ones(count), scales)
    return tuple(float(np.quantile(largest, level)) for level in levels)


@dataclass(frozen=True)
class Size:
    """How large an effect is, in the unit of its direction.

    Attributes:
        value, low, high: the size, and its 95 % interval.
        explained: by how much its direction lowers the squared error, in the metric.
    """

    value: float
    low: float
    high: float
    explained: float


def size_of(scores: NDArray[np.float64], information: NDArray[np.float64], quantile: float) -> Size:
    """The size that fits best, by least squares in the metric, with an interval from the
    scatter between prompts.

    Args:
        scores: float64 (p,), products of error and direction.
        information: float64 (p,), of the direction with itself.
        quantile: of Student's t, for the interval.

    Raises:
        ValueError: if the direction is 0.
    """
    total = float(information.sum())
    if not total > 0.0:
        raise ValueError("the direction is 0")
    value = float(scores.sum()) / total
    prompts = len(scores)
    residual = scores - value * information
    # Each prompt left out in turn, to first order; the largest lends leverage.
    leverage = 1.0 - information / total
    safe = np.where(leverage > 0.0, leverage, 1.0)
    error = math.sqrt(float(np.sum((residual / safe) ** 2)) * (prompts - 1) / prompts) / total
    return Size(
        value=value,
        low=value - quantile * error,
        high=value + quantile * error,
        explained=value * value * total,
    )


def likeness(one: NDArray[np.float64], other: NDArray[np.float64], product: float) -> float:
    """The correlation of two directions, from their information (p,) and their product."""
    norm = math.sqrt(float(one.sum()) * float(other.sum()))
    return product / norm if norm > 0.0 else 0.0


def _ratio(above: NDArray[np.float64], below: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(below > 0.0, above / np.where(below > 0.0, below, 1.0), 0.0)
