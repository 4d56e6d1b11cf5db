"""Is one configuration slower than another? Judged on interleaved pairs.

On a shared host a stored figure with a percentage gives false alarms: load
drifts over minutes and moves both sides. Here the two sides run in turn, A B B A, on one
host; each such block gives one log-ratio in which slow drift cancels, and the
blocks together an interval.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from harness.messages.message import Message, message
from harness.statistics.intervals import student_t

Outcome = Literal["REGRESSED", "EQUIVALENT", "IMPROVED", "INCONCLUSIVE"]

#: Chance over all looks together that the interval misses the true ratio.
ERROR = 0.05
#: After how many blocks the pairs are looked at; each look spends an equal
#: part of ERROR (Bonferroni), since stopping at the first decision is a search.
LOOKS = (8, 12, 16, 24, 32)
#: Equal means: the whole interval lies within 1/1.03 to 1.03.
EQUAL_WITHIN = 1.03
#: A smaller slowdown does not raise an alarm, even if it is certain.
WORTH = 1.01


@dataclass(frozen=True)
class Paired:
    """The judgement of paired times, B against A.

    ``ratio`` is time of B over time of A (more than 1 is slower), with the
    ends of its interval; ``detectable`` the smallest slowdown that as many
    blocks of this spread would call REGRESSED in half of the cases.
    """

    outcome: Outcome
    ratio: float
    low: float
    high: float
    detectable: float
    blocks: int
    message: Message


def log_ratio(first: Sequence[float], second: Sequence[float]) -> float:
    """The log-ratio of one block: mean log time of B less that of A.

    Args:
        first: times of A in the block, seconds, all above 0.
        second: times of B.

    Raises:
        ValueError: if a side is empty or a time is not above 0.
    """
    if not first or not second or min(*first, *second) <= 0.0:
        raise ValueError("a block needs times above 0 of both sides")
    return float(np.mean(np.log(second)) - np.mean(np.log(first)))


def judge_pairs(ratios: Sequence[float]) -> Paired:
    """Judge the log-ratios of finished blocks.

    Student's t on the log-ratios, which assumes blocks that are independent
    and roughly normal; each is itself a mean of four runs.

    Args:
        ratios: one log-ratio a block, as of ``log_ratio``.

    Raises:
        ValueError: for fewer than two blocks.
    """
    values = np.asarray(ratios, dtype=np.float64)
    n = len(values)
    if n < 2:
        raise ValueError("at least two blocks are needed for an interval")
    center = float(values.mean())
    reach = student_t(1.0 - ERROR / len(LOOKS), n - 1) * float(values.std(ddof=1)) / math.sqrt(n)
    low, high = math.exp(center - reach), math.exp(center + reach)
    outcome: Outcome = "INCONCLUSIVE"
    if low > WORTH:
        outcome = "REGRESSED"
    elif high < 1.0 / WORTH:
        outcome = "IMPROVED"
    elif low >= 1.0 / EQUAL_WITHIN and high <= EQUAL_WITHIN:
        outcome = "EQUIVALENT"
    ratio, detectable = math.exp(center), WORTH * math.exp(reach)
    return Paired(
        outcome=outcome,
        ratio=ratio,
        low=low,
        high=high,
        detectable=detectable,
        blocks=n,
        message=_outcome(outcome, ratio, low, high, detectable, n),
    )


def decided(ratios: Sequence[float]) -> Paired | None:
    """The judgement where this number of blocks is a look and it decides, or
    where there are no more looks; None to go on measuring."""
    n = len(ratios)
    if n not in LOOKS and n < LOOKS[-1]:
        return None
    found = judge_pairs(ratios)
    return found if found.outcome != "INCONCLUSIVE" or n >= LOOKS[-1] else None


def _outcome(
    outcome: Outcome, ratio: float, low: float, high: float, detectable: float, blocks: int
) -> Message:
    bounds = {
        "REGRESSED": WORTH,
        "IMPROVED": WORTH,
        "EQUIVALENT": EQUAL_WITHIN,
        "INCONCLUSIVE": detectable,
    }
    percent = 100 * (bounds[outcome] - 1)
    return message(
        f"bench.{outcome}", ratio=ratio, low=low, high=high, blocks=blocks, percent=percent
    )
