"""Estimates over prompts, with the intervals that decide a gate.

Assumption: prompts are exchangeable and independent; positions within a
prompt are not, which is why whole prompts are left out.

Two confidences. A gate passes by its 95 % interval: a port is called aligned
only if every gate passes, so the chance of calling a wrong one aligned stays
below 2.5 % however many gates there are (an intersection-union test, Berger
1982). It fails by its 99.9 % interval: any one gate fails a port, so here the
chances of false alarms add up and each must be small.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from harness.files.strict_model import StrictModel

#: Confidence of the interval that is shown; a gate passes by it.
CONFIDENCE = 0.95
#: Confidence of the interval that must lie beyond the limit for a gate to fail.
FAIL_CONFIDENCE = 0.999
_LARGEST_LOG = 700.0
#: The largest ratio that one prompt counts with.
MOST_TIMES = 1000.0
#: Beyond so many degrees of freedom t changes by less than half a percent.
_MANY = 200.0


class Interval(StrictModel):
    """An estimate with the ends of its 95 % interval; None if there are
    too few prompts."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Estimate:
    """A figure estimated over prompts.

    Attributes:
        value: the figure; None without data.
        error: its standard error, of the logarithm where ``log``; None where
            there are too few prompts for one.
        freedom: degrees of freedom of the error, a real number of at least 1.
        log: whether the interval is symmetric on the logarithm.
        prompts: how many prompts carry it.
    """

    value: float | None
    error: float | None = None
    freedom: float = 1.0
    log: bool = False
    prompts: int = 0

    def interval(self, confidence: float = CONFIDENCE) -> Interval:
        """Student's t around the value; no ends without an error."""
        if self.value is None or self.error is None:
            return Interval(value=self.value, low=None, high=None)
        reach = t_at(confidence, self.freedom) * self.error
        if not self.log:
            return Interval(value=self.value, low=self.value - reach, high=self.value + reach)
        reach = min(reach, _LARGEST_LOG - abs(math.log(self.value)))
        return Interval(
            value=self.value,
            low=self.value * math.exp(-reach),
            high=self.value * math.exp(reach),
        )

    def prompts_to_decide(self, limit: float) -> int | None:
        """How many prompts like these would put the whole interval on the
        value's side of ``limit``; the width shrinks with the root of their
        number. None where the value is at the limit or has no error."""
        if self.value is None or not self.error or self.value == limit:
            return None
        gap = abs(math.log(limit / self.value)) if self.log else abs(limit - self.value)
        confidence = CONFIDENCE if abs(self.value) < abs(limit) else FAIL_CONFIDENCE
        share = self.freedom / max(self.prompts - 1, 1)
        low, high = self.prompts, self.prompts
        while not _decides(self, gap, confidence, share, high):
            low, high = high, 2 * high
            if high > _MOST_PROMPTS:
                return None
        while high - low > 1:
            middle = (low + high) // 2
            enough = _decides(self, gap, confidence, share, middle)
            low, high = (low, middle) if enough else (middle, high)
        return high


#: Beyond this many prompts the value is at its limit, and more do not help.
_MOST_PROMPTS = 1_000_000


def _decides(found: Estimate, gap: float, confidence: float, share: float, prompts: int) -> bool:
    assert found.error is not None  # the caller checked it
    error = found.error * math.sqrt(found.prompts / prompts)
    return t_at(confidence, max(share * (prompts - 1), 1.0)) * error <= gap


def ratio_of_roots(candidate: NDArray[np.float64], reference: NDArray[np.float64]) -> Estimate:
    """``sqrt(sum(candidate) / sum(reference))`` with its jackknife error.

    Delete-one-prompt jackknife (Quenouille 1956, Tukey 1958) of the log
    ratio. Degrees of freedom: see :func:`freedom_of`.

    Args:
        candidate, reference: float64 (n,), squared errors summed over the
            positions of each prompt, for the same positions.

    Returns:
        No value where the reference's error is 0 or no prompt is given; no
        error with fewer than two prompts, or where a prompt alone carries all
        of either sum.
    """
    n = len(candidate)
    total_d, total_b = float(candidate.sum()), float(reference.sum())
    if total_b <= 0.0:
        return Estimate(None, prompts=n)
    if total_d <= 0.0:
        return Estimate(0.0, prompts=n)
    value = math.exp(0.5 * math.log(total_d / total_b))
    rest_d, rest_b = total_d - candidate, total_b - reference
    if n < 2 or (rest_d <= 0).any() or (rest_b <= 0).any():
        return Estimate(value, prompts=n)
    left_out = 0.5 * np.log(rest_d / rest_b)
    freedom = freedom_of(candidate / total_d + reference / total_b)
    return Estimate(value, jackknife_error(left_out), freedom, log=True, prompts=n)


def geometric_ratio(
    candidate: NDArray[np.float64], reference: NDArray[np.float64], rows: NDArray[np.float64]
) -> Estimate:
    """Geometric mean over prompts of ``sqrt(candidate / reference)``, each weighed by
    its rows, with its jackknife error.

    No prompt governs it: one whose error is a thousand times as large as the others',
    in both arms, weighs as much as they do. So the interval holds where the size of
    prompts has a heavy tail. A ratio beyond ``MOST_TIMES``, or below its inverse,
    counts as that: of a prompt in which one of the two has no error at all.

    Args:
        candidate, reference: float64 (n,), squared errors summed over the positions
            of each prompt, for the same positions.
        rows: float64 (n,), how many positions.

    Returns:
        No value where no prompt has rows, or the reference no error in any; 0 where
        the candidate has none in any; no error with fewer than two prompts.
    """
    told = (rows > 0) & ((candidate > 0.0) | (reference > 0.0))
    n = int(told.sum())
    mine, theirs, weights = candidate[told], reference[told], rows[told].astype(np.float64)
    if not n or not theirs.any():
        return Estimate(None, prompts=n)
    if not mine.any():
        return Estimate(0.0, prompts=n)
    most = 2.0 * math.log(MOST_TIMES)
    with np.errstate(divide="ignore"):  # of 0: clipped
        logs = 0.5 * np.clip(np.log(mine) - np.log(theirs), -most, most)
    value = math.exp(float(np.sum(weights * logs) / weights.sum()))
    if n < 2:
        return Estimate(value, prompts=n)
    left_out = (np.sum(weights * logs) - weights * logs) / (weights.sum() - weights)
    return Estimate(value, jackknife_error(left_out), freedom_of(weights), log=True, prompts=n)


def error_ratio(candidate: NDArray[np.float64], reference: NDArray[np.float64]) -> Interval:
    """:func:`ratio_of_roots` with its 95 % interval."""
    return ratio_of_roots(candidate, reference).interval()


def jackknife_error(left_out: NDArray[np.float64]) -> float:
    """Standard error from the n estimates that each leave one prompt out."""
    n = len(left_out)
    return math.sqrt((n - 1) / n * float(np.sum((left_out - left_out.mean()) ** 2)))


def freedom_of(weights: NDArray[np.float64]) -> float:
    """Degrees of freedom of a spread over prompts that weigh unequally.

    ``(sum w)^2 / sum w^2 - 1``: n - 1 for equal weights. Where a few prompts
    carry most of the error, the spread is known from those few only; with
    n - 1 an interval over prompts of heavy-tailed size covers 87 % instead of
    95 % (measured, see docs/verdict.md).
    """
    squares = float(np.sum(weights * weights))
    total = float(weights.sum())
    return max(total * total / squares - 1.0, 1.0) if squares > 0.0 else 1.0


def t_at(confidence: float, freedom: float) -> float:
    """Student's t at a real number of degrees of freedom, at least 1:
    between whole ones, log t is interpolated in ``1 / freedom``."""
    lower = int(min(freedom, _MANY))
    t = student_t(confidence, lower)
    if freedom <= lower:
        return t
    share = (1.0 / lower - 1.0 / freedom) / (1.0 / lower - 1.0 / (lower + 1))
    return t * math.exp(min(share, 1.0) * math.log(student_t(confidence, lower + 1) / t))


@lru_cache(maxsize=1024)
def student_t(confidence: float, degrees: int) -> float:
    """The t with ``P(|T| <= t) = confidence`` at the given degrees of freedom.

    Bisection on the exact distribution function for integer degrees
    (Abramowitz and Stegun 26.7.3 and 26.7.4), to full double precision.

    Raises:
        ValueError: for a confidence outside (0, 1) or degrees below 1.
    """
    if not 0.0 < confidence < 1.0 or degrees < 1:
        raise ValueError(f"no t at confidence {confidence} with {degrees} degrees of freedom")
    low, high = 0.0, 1.0
    while _within(high, degrees) < confidence:
        high *= 2.0
    while (middle := (low + high) / 2.0) not in (low, high):
        low, high = (middle, high) if _within(middle, degrees) < confidence else (low, middle)
    return high


def _within(t: float, degrees: int) -> float:
    """``P(|T| <= t)``."""
    angle = math.atan(t / math.sqrt(degrees))
    sine, cosine = math.sin(angle), math.cos(angle)
    odd = degrees % 2 == 1
    term = cosine if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(3 if odd else 2, degrees - 1, 2):
        term *= (k - 1) / k * cosine * cosine
        total += term
    return 2.0 / math.pi * (angle + sine * total) if odd else sine * total


def chance_of_more(mine: int, theirs: int, share: float) -> float:
    """The chance of at least ``mine`` of all events, if each is mine with probability ``share``.

    The exact test of two Poisson counts (Przyborowski and Wilenski, 1940): given their sum, one
    of them is binomial. Two-sided confidence c is reached where this is below ``(1 - c) / 2``.
    """
    total = mine + theirs
    if not mine:
        return 1.0
    logs = [
        math.lgamma(total + 1)
        - math.lgamma(k + 1)
        - math.lgamma(total - k + 1)
        + k * math.log(share)
        + (total - k) * math.log1p(-share)
        for k in range(mine, total + 1)
    ]
    return min(sum(map(math.exp, logs)), 1.0)
