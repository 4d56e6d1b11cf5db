"""How much an agreement says."""

from __future__ import annotations

from math import log2

#: Bits of evidence that are asked for beyond those that choosing takes.
_SURE = 10.0
_LEAST_SHARE = 0.85


def entropy(share: float) -> float:
    """Bits of one yes or no of which ``share`` are yes."""
    if share <= 0 or share >= 1:
        return 0.0
    return -share * log2(share) - (1 - share) * log2(1 - share)


def convincing(share: float, count: int, choices: float, *, least: float = _LEAST_SHARE) -> bool:
    """Whether it is no chance that a share of ``count`` bits agree with the best of
    ``choices`` explanations."""
    if share < least:
        return False
    return count * (1 - entropy(share)) >= log2(max(choices, 1)) + _SURE
