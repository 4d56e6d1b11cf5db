"""Margins and shifts, which decide the choice of a token, in logits.

For reference token ``a`` and rival ``b``, the margin ``m = z_B(a) - z_B(b)``
and the margin shift ``d = [z_D(a) - z_D(b)] - m``. The rival is the
candidate's choice where that differs, else the reference's runner-up. A flip
happens when ``d < -m``. Both are differences within one row, so
log-probabilities serve as well as logits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.statistics.rows import NO_TOKEN, RowStatistics


@dataclass(frozen=True, eq=False)
class Margins:
    """Per position: rival token, margin and shift (float64, logits), flip.

    Where a token is outside of what a row lists (20 ids, of a server fewer), the last
    listed logit is used, an upper bound of its logit. The shift is then the least that
    the bound proves, so 0 where it proves none.
    """

    rival: NDArray[np.int64]
    margin: NDArray[np.float64]
    shift: NDArray[np.float64]
    flip: NDArray[np.bool_]


def margins(
    reference: RowStatistics,
    candidate: RowStatistics,
    reference_tokens: NDArray[np.int64],
    candidate_tokens: NDArray[np.int64],
) -> Margins:
    """Margins of ``reference`` and how ``candidate`` shifts them.

    Args:
        reference, candidate: n rows each, after the same contexts.
        reference_tokens, candidate_tokens: int64 (n,), what each chose.

    Raises:
        ValueError: if the lengths differ.
    """
    lengths = {len(reference), len(candidate), len(reference_tokens), len(candidate_tokens)}
    if len(lengths) != 1:
        raise ValueError(f"rows and tokens have different lengths: {sorted(lengths)}")
    flip = reference_tokens != candidate_tokens
    rival = np.where(flip, candidate_tokens, runner_up(reference, reference_tokens))
    parts = [
        logit_of(rows, tokens)
        for rows in (reference, candidate)
        for tokens in (reference_tokens, rival)
    ]
    ref_a, ref_b, cand_a, cand_b = parts
    margin = ref_a - ref_b
    shift = (cand_a - cand_b) - margin
    # A bound of the first token's logit in the candidate, or of the rival's in the
    # reference, makes it an upper bound of the shift; the other two a lower one.
    most = ~(listed(candidate, reference_tokens) & listed(reference, rival))
    least = ~(listed(candidate, rival) & listed(reference, reference_tokens))
    shift = np.where(most, np.minimum(shift, 0.0), shift)
    return Margins(
        rival=rival,
        margin=margin,
        shift=np.where(least, np.maximum(shift, 0.0), shift),
        flip=flip,
    )


def logit_of(rows: RowStatistics, tokens: NDArray[np.int64]) -> NDArray[np.float64]:
    """The logit of one token per row, float64 (n,); the 20th logit, an upper
    bound, where the token lies outside the row's top 20."""
    match = rows.top_ids == tokens[:, None]
    listed = match.any(axis=1)
    last = np.maximum((rows.top_ids != NO_TOKEN).sum(axis=1) - 1, 0)
    column = np.where(listed, match.argmax(axis=1), last)
    logits = np.take_along_axis(rows.top_logits, column[:, None], axis=1)[:, 0]
    return logits.astype(np.float64)


def listed(rows: RowStatistics, tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether a row lists the logit of one token, bool (n,)."""
    return np.asarray((rows.top_ids == tokens[:, None]).any(axis=1))


def runner_up(rows: RowStatistics, tokens: NDArray[np.int64]) -> NDArray[np.int64]:
    """The best token other than the given one, int64 (n,); the given one
    itself where a row has no other."""
    first, second = (rows.top_ids[:, i].astype(np.int64) for i in (0, 1))
    other = np.where(first == tokens, second, first)
    return np.where(other == NO_TOKEN, tokens, other)
