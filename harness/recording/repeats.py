"""Whether a device repeats itself: one prompt run twice in one session."""

from __future__ import annotations

import numpy as np

from harness.recording.format import Difference, Repeat, Run
from harness.statistics.margins import margins
from harness.statistics.rows import same_masks, same_rows


def repeat_of(prompt_id: str, first: Run, again: Run) -> Repeat:
    """How far a second run left the first; positions after a changed token
    are not comparable and not counted. Positions that only the longer of two runs
    with the same tokens has are counted: a greedy run has no reason to end there."""
    lengths = sorted(len(run.token_ids) for run in (first, again))
    n = 0
    while n < lengths[0]:
        n += 1
        if first.token_ids[n - 1] != again.token_ids[n - 1]:
            break
    same_tokens = first.token_ids[:n] == again.token_ids[:n]
    unmatched = range(n, lengths[1]) if same_tokens else range(0)
    a, b = first.rows[:n], again.rows[:n]
    tokens = [np.array(run.choices()[:n], dtype=np.int64) for run in (first, again)]
    shift = margins(a, b, tokens[0], tokens[1]).shift
    equal = same_rows(a, b)
    broken = (a.nonfinite > 0) | (b.nonfinite > 0)
    alike = same_masks(a, b)
    if alike is not None:
        broken |= ~alike
    differences = [
        Difference(position=int(t), shift=None if broken[t] else float(shift[t]))
        for t in np.flatnonzero(~equal)
    ]
    differences += [Difference(position=t, shift=None) for t in unmatched]
    return Repeat(
        prompt_id=prompt_id,
        rows_compared=n + len(unmatched),
        rows_equal=int(equal.sum()),
        differences=tuple(differences),
    )
