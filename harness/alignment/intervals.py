"""Ratios of pooled errors with their jackknife intervals.

Assumption: prompts are exchangeable and independent; positions within a
prompt are not, which is why whole prompts are left out.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness.alignment.result import Interval

CONFIDENCE = 0.95


def error_ratio(candidate: NDArray[np.float64], reference: NDArray[np.float64]) -> Interval:
    """``sqrt(sum(candidate) / sum(reference))`` and its interval.

    Delete-one-prompt jackknife (Quenouille 1956, Tukey 1958) of the log
    ratio, with Student's t at n - 1 degrees of freedom.

    Args:
        candidate, reference: float64 (n,), squared errors summed over the
            positions of each prompt, for the same positions.

    Returns:
        No value where the reference's error is 0 or there is no prompt; no
        ends with fewer than two prompts, or where a prompt alone carries all
        of either error.
    """
    total_d, total_b = float(candidate.sum()), float(reference.sum())
    if total_b <= 0.0:
        return Interval(value=None, low=None, high=None)
    if total_d <= 0.0:
        return Interval(value=0.0, low=None, high=None)
    log_ratio = 0.5 * math.log(total_d / total_b)
    value = math.exp(log_ratio)
    rest_d, rest_b = total_d - candidate, total_b - reference
    n = len(candidate)
    if n < 2 or (rest_d <= 0).any() or (rest_b <= 0).any():
        return Interval(value=value, low=None, high=None)
    left_out = 0.5 * np.log(rest_d / rest_b)
    variance = (n - 1) / n * float(np.sum((left_out - left_out.mean()) ** 2))
    reach = student_t(CONFIDENCE, n - 1) * math.sqrt(variance)
    return Interval(
        value=value, low=math.exp(log_ratio - reach), high=math.exp(min(log_ratio + reach, 700.0))
    )


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
