"""Logits that a soft-cap went over: ``cap * tanh(logit / cap)``, each step rounded to the dtype."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The relative steps of bfloat16 and float16; a smaller one is float32's.
BFLOAT16, FLOAT16 = 2.0**-8, 2.0**-11
#: Logits that are multiples of this are taken for what they are.
_WHOLE = 4.0


def capped(logits: NDArray[Any], cap: float, grain: float) -> NDArray[np.float32]:
    """What a soft-cap makes of logits, in a dtype of that relative step; float32, same shape."""
    share = _rounded(np.asarray(logits, np.float64) / cap, grain)
    return _rounded(_rounded(np.tanh(share.astype(np.float64)), grain) * np.float64(cap), grain)


def uncapped(logits: NDArray[np.float32], cap: float, grain: float) -> NDArray[np.float32]:
    """What a soft-cap went over, float32, same shape; exact for multiples of 4, and what is at
    the cap or beyond is some twenty times the cap."""
    share = np.clip(logits.astype(np.float64) / cap, -1 + 1e-16, 1 - 1e-16)
    found = cap * np.arctanh(share)
    whole = np.where(np.isfinite(found), np.rint(found / _WHOLE) * _WHOLE, 0)
    same = capped(whole, cap, grain) == logits
    return np.where(same, whole, found).astype(np.float32)


def _rounded(values: NDArray[Any], grain: float) -> NDArray[np.float32]:
    """The nearest numbers of a dtype, ties to even."""
    single = np.ascontiguousarray(values, np.float32)
    if grain == BFLOAT16:
        bits = single.view(np.uint32)
        kept = (bits + ((bits >> 16) & 1) + 0x7FFF) & 0xFFFF0000
        return kept.astype(np.uint32).view(np.float32)
    return single.astype(np.float16).astype(np.float32) if grain == FLOAT16 else single
