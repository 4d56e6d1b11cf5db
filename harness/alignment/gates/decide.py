"""Compares an estimate with a limit, and says what is missing for a decision."""

from __future__ import annotations

from harness.alignment.outcomes import Status
from harness.alignment.result import Gate
from harness.messages.message import Message, message
from harness.statistics.intervals import FAIL_CONFIDENCE, Estimate

#: With fewer prompts (or rows of a path) than this, gates that need many are
#: shown and not judged.
FEW_PROMPTS = 16
#: Fewer give no interval.
_FEWEST = 4


def held_below(found: Estimate, limit: float, *, both_sides: bool = False) -> Status:
    """PASS when the 95 % interval ends at or below the limit, FAIL when the
    99.9 % interval begins above it, INCONCLUSIVE between.

    Args:
        both_sides: the limit applies on both sides of 0.
    """
    if found.value is None:
        return "NOT_RUN"
    near, far = found.interval(), found.interval(FAIL_CONFIDENCE)
    if near.low is None or near.high is None or far.low is None or far.high is None:
        return "INCONCLUSIVE"
    if near.high <= limit and (not both_sides or near.low >= -limit):
        return "PASS"
    if far.low > limit or (both_sides and far.high < -limit):
        return "FAIL"
    return "INCONCLUSIVE"


def estimated_gate(
    name: str, found: Estimate, limit: float, status: Status, outcome: Message
) -> Gate:
    """A gate whose value comes with an interval."""
    near = found.interval()
    return Gate(
        name=name,
        status=status,
        value=near.value,
        low=near.low,
        high=near.high,
        limit=limit,
        message=outcome,
    )


def what_would_decide(found: Estimate, limit: float, positions: int) -> Message:
    """How many more prompts like these would decide, as half a sentence.

    Args:
        limit: of the same sign as the value.
        positions: judged positions, from which the number per prompt follows.
    """
    if found.error is None:
        return message("decide.few", least=_FEWEST)
    wanted = found.prompts_to_decide(limit)
    if wanted is None:
        return message("decide.never")
    more = max(wanted - found.prompts, 1)
    each = max(positions // max(found.prompts, 1), 1)
    return message("decide.more", prompts=more, positions=more * each)
