"""Rao's score test (1948) of many directions of an error at once.

A candidate's centred row is the oracle's, plus a direction times an unknown size, plus
rounding, which has no direction of its own. The score of a direction in one prompt is the
sum over its rows of the product of error and direction, in the metric of the rounding. What
is tested is its sum over prompts. Rows of a prompt share their rounding, so prompts are
what is independent. How far scores scatter without an effect is seen in the arms: their
differences are rounding alone, whatever an effect does to the candidate's scatter.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.statistics.intervals import student_t

#: A row's noise is taken to be at least so many times that of the middle one, so that no
#: row governs whose arms agree by chance.
LEAST_NOISE = 0.05
#: So much of the noise's second moment is taken to be the same in all directions.
SHRINKAGE = 0.1
#: One prompt of a sum may make so much of it.
ONE_PROMPT = 0.25


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


def contrasts(arms: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """What rounding alone does: orthonormal differences of arms (Helmert, 1876), float64
    (C, n, 64), C at most ``most`` and one less than there are arms. What all arms share is in
    none of them.

    Args:
        arms: float64 (A, n, 64), the errors of each arm.
    """
    found = []
    for index in range(1, min(most + 1, len(arms))):
        others = arms[:index].sum(axis=0)
        found.append((others - index * arms[index]) / math.sqrt(index * (index + 1)))
    return np.stack(found)


@dataclass(frozen=True, eq=False)
class Null:
    """How the scores of rounding scatter.

    Attributes:
        variance: float64 (H,), of the sum over prompts of one arm's own scores.
        arms: how many there are.
        units: independent scores that the variance was taken from, its degrees of freedom.
    """

    variance: NDArray[np.float64]
    arms: int
    units: int

    @staticmethod
    def of(scores: NDArray[np.float64], arms: int, each: int) -> Null:
        """From the scores of contrasts, float64 (C p, H), ``each`` contrasts of a prompt."""
        return Null(np.sum(scores**2, axis=0) / each, arms, len(scores))

    def of_candidate(self, share: float) -> NDArray[np.float64]:
        """The variance of a candidate's scores less ``share`` of the arms' mean."""
        return self.variance * (1.0 + share**2 / self.arms)

    def variances(
        self, rounding: NDArray[np.float64], shares: Sequence[float]
    ) -> tuple[NDArray[np.float64], ...]:
        """``of_candidate`` for each share, and what it has of its own.

        A candidate whose systematic rounding correlates with the arms' by s has 1 - s² of its
        square elsewhere, with a sign that nobody knows. That matters in directions in which the
        arms round alike and far, as of activations that are large in all of them. s is the
        smallest share; one that may share nothing is of a higher precision, and has no such
        rounding.

        Args:
            rounding: float64 (p, H), scores of the arms' mean, of which ``variance`` makes a part.
        """
        least = min(shares)
        own = 1.0 - least**2 if least > 0.0 else 0.0
        systematic = np.sum(rounding**2, axis=0) - self.variance / self.arms
        wider = own * np.maximum(systematic, 0.0)
        return tuple(self.of_candidate(share) + wider for share in shares)


def inflation(scores: NDArray[np.float64], variance: NDArray[np.float64]) -> float:
    """How many times as much as rounding's a candidate's scores scatter, in the middle of all
    hypotheses, and at least 1 (the genomic control of Devlin and Roeder, 1999, from
    scatter): a candidate may round more coarsely than the arms, in its own way.

    Args:
        scores: float64 (p, H).
        variance: float64 (H,), of their sum where it rounds as the arms do.
    """
    seen = variance > 0.0
    if not seen.any():
        return 1.0
    return max(1.0, float(np.median(np.sum(scores[:, seen] ** 2, axis=0) / variance[seen])))


def t_values(scores: NDArray[np.float64], variance: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum over prompts over its deviation, float64 (p, H) to (H,); 0 where nothing
    scatters. No single prompt makes an effect: where the one that speaks most for it makes
    more than a share ``ONE_PROMPT`` of the sum, what the others say counts in its place.

    Without an effect it is nearer to 0 than Student's t of the variance's degrees of freedom.
    """
    total = scores.sum(axis=0)
    sign = np.where(total >= 0.0, 1.0, -1.0)
    most = np.maximum((scores * sign).max(axis=0), 0.0)
    others = np.maximum(np.abs(total) - most, 0.0) / (1.0 - ONE_PROMPT)
    return sign * _ratio(np.minimum(np.abs(total), others), np.sqrt(variance))


def inflations(
    candidate: NDArray[np.float64],
    rounding: NDArray[np.float64],
    null: Null,
    shares: Sequence[float],
) -> tuple[float, ...]:
    """``inflation`` of the candidate less each share of the arms' mean."""
    variances = null.variances(rounding, shares)
    each = zip(shares, variances, strict=True)
    return tuple(inflation(candidate - s * rounding, variance) for s, variance in each)


def least_t(
    candidate: NDArray[np.float64],
    rounding: NDArray[np.float64],
    null: Null,
    shares: Sequence[float],
    inflated: Sequence[float],
) -> NDArray[np.float64]:
    """The t of each hypothesis that is nearest to 0 over how much of the arms' own
    systematic rounding the candidate may share, float64 (H,): none in a higher
    precision, all of it in the arms' own. 0 where its sign is not the same for all.

    Args:
        candidate, rounding: float64 (p, H), scores of the candidate, and the mean of
            those of the arms.
        shares, inflated: see ``inflations``.
    """
    found = np.stack(
        [
            t_values(candidate - share * rounding, variance * times)
            for share, variance, times in zip(
                shares, null.variances(rounding, shares), inflated, strict=True
            )
        ]
    )
    one_sign = np.all(found > 0.0, axis=0) | np.all(found < 0.0, axis=0)
    nearest = np.take_along_axis(found, np.abs(found).argmin(axis=0)[None], axis=0)[0]
    return np.where(one_sign, nearest, 0.0)


def chance_limit(hypotheses: int, error: float, units: int) -> float:
    """What the largest ``|t|`` of so many hypotheses stays below but with probability
    ``error`` (Bonferroni).

    Args:
        units: degrees of freedom.
    """
    return student_t(1.0 - error / max(hypotheses, 1), units)


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
