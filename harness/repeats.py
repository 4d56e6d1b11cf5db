"""Whether a device repeats itself: one prompt run twice in one session."""

from __future__ import annotations

import numpy as np

from harness.alignment.margins import margins
from harness.recording import Difference, Repeat, Run
from harness.rows import same_rows


def repeat_of(prompt_id: str, first: Run, again: Run) -> Repeat:
    """How far a second run left the first; positions after a changed token
    are not comparable and not counted."""
    n = 0
    while n < min(len(first.token_ids), len(again.token_ids)):
        n += 1
        if first.token_ids[n - 1] != again.token_ids[n - 1]:
            break
    a, b = first.rows[:n], again.rows[:n]
    tokens = [np.array(run.choices()[:n], dtype=np.int64) for run in (first, again)]
    shift = margins(a, b, tokens[0], tokens[1]).shift
    equal = same_rows(a, b)
    return Repeat(
        prompt_id=prompt_id,
        rows_compared=n,
        rows_equal=int(equal.sum()),
        differences=tuple(
            Difference(position=int(t), shift=float(shift[t])) for t in np.flatnonzero(~equal)
        ),
    )
