"""Figures out of logs and of what tools print: text that looks like a number need not be one."""

from __future__ import annotations

import math
import re

#: More digits are no size, no count and no id of anything.
_DIGITS = re.compile(r"[0-9]{1,15}")
_REAL = re.compile(r"[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15}")


def whole(text: str) -> int | None:
    """A number of ASCII digits; None for anything else."""
    return int(text) if _DIGITS.fullmatch(text) else None


def real(text: str) -> float | None:
    """A number with or without a fraction, not negative; None for anything else."""
    found = float(text) if _REAL.fullmatch(text) else math.nan
    return found if math.isfinite(found) else None
