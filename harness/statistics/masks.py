"""Masks: ids that were taken out of a row, told from logits by the gap above them.

A mask is written where a token must never come: the lowest number of a dtype,
-infinity, -10,000, -1,000 or -100. No size tells it from a logit, since models
differ in scale and offset. What tells it is that nothing lies between: the
logits of a row are close together, a mask is far below all of them.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

#: A mask lies further than this below every other logit, and below zero.
#: Beside 24 logits, which every real row spans, 64 more are a probability
#: below e^-88: zero in float32. Real logits have no such gap. Their smallest lie
#: within 40 of the mean, so at most 30 below the next; a mask of -100 below
#: logits within 12 of zero leaves 88.
GAP = 64.0
#: Where the logits above span more than GAP, the gap must be this many times
#: what they span beyond it, too: in a row of large scale outliers lie far out.
BEYOND = 2.0
#: A gap must be this many times as wide as what lies right below it spans.
#: One token far above all others leaves a gap as well, but over the whole row.
COMPACT = 2.0
#: What lies right below a gap ends at the next one of this share of its width.
APART = 0.25
#: Bytes of the digest of a row's masked ids.
MASK_BYTES = 8


def mask_border(logits: NDArray[np.float32]) -> float | None:
    """The largest masked logit: those up to it are masks. None without masks.

    The border is the first gap from above that is wide enough, so no logit lies
    near it: rounding moves none across. Where there is no such gap, nothing is
    a mask and all logits count. Gaps are differences in float64, so that every
    machine finds the same ids.

    Args:
        logits: (n,), finite, n at least 1, in any order.
    """
    lowest = float(logits.min())
    if lowest >= -GAP:
        return None
    peak = float(logits.max())
    if peak - lowest <= GAP:
        return None
    # Rounded upwards, lest the tail lack a logit that may be a mask.
    limit = np.nextafter(np.float32(min(-GAP, peak - GAP)), np.float32(np.inf))
    low = logits < limit
    tail = np.sort(logits[low])[::-1].astype(np.float64)
    above = np.concatenate([[float(np.where(low, np.inf, logits).min())], tail[:-1]])
    gap, span = above - tail, peak - above
    wide = (tail < -GAP) & (gap > GAP + BEYOND * np.maximum(span - GAP, 0.0))
    for first in np.flatnonzero(wide).tolist():
        apart = np.flatnonzero(gap[first + 1 :] > APART * gap[first])
        last = first + int(apart[0]) if apart.size else tail.size - 1
        if gap[first] > COMPACT * (tail[first] - tail[last]):
            return float(tail[first])
    return None


def mask_digest(ids: NDArray[np.intp]) -> bytes:
    """BLAKE2b-64 of the masked ids, ascending, as little-endian int32; zeros for none."""
    if not ids.size:
        return bytes(MASK_BYTES)
    return hashlib.blake2b(ids.astype("<i4").tobytes(), digest_size=MASK_BYTES).digest()
