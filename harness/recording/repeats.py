"""Whether a device repeats itself: one prompt run twice in one session."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.recording.format import Difference, Repeat, Run
from harness.statistics.margins import logit_of, margins
from harness.statistics.rows import RowStatistics, same_masks, same_rows

#: By how much a chosen token may trail the largest of its own row, as a share of that
#: logit: an engine that takes a log-softmax in float32 makes ties of this size.
_ROUNDED = 2.0**-20
#: The same in nats, for log-probabilities that a server has rounded.
_TOLD = 1e-3


def repeat_of(prompt_id: str, first: Run, again: Run) -> Repeat:
    """How far a second run left the first; positions after a changed token
    are not comparable and not counted. Positions that only the longer of two runs
    with the same tokens has are counted: a greedy run has no reason to end there.

    A repeat is not "the same" where its rows are, but its tokens or its end are not."""
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
    found = {
        int(t): Difference(position=int(t), shift=None if broken[t] else float(shift[t]))
        for t in np.flatnonzero(~equal)
    }
    last = n - 1
    if not same_tokens and tokens[0][last] != tokens[1][last]:
        if (equal[last] and a.whole and b.whole) or (not broken[last] and _unexplained(b, tokens)):
            found[last] = Difference(position=last, shift=None, cause="token")
        elif equal[last]:  # of a server, which has rounded what it tells: perhaps a tie
            found[last] = Difference(position=last, shift=float(shift[last]))
    found |= {t: Difference(position=t, shift=None, cause="ended") for t in unmatched}
    if n and same_tokens and not unmatched and _ends_differ(first, again):
        found.setdefault(last, Difference(position=last, shift=None))
        if not broken[last]:
            found[last] = Difference(position=last, shift=None, cause="ended")
    return Repeat(
        prompt_id=prompt_id,
        rows_compared=n + len(unmatched),
        rows_equal=n + len(unmatched) - len(found),
        differences=tuple(found[t] for t in sorted(found)),
    )


def _unexplained(rows: RowStatistics, tokens: list[NDArray[np.int64]]) -> bool:
    """Whether the second run's own last row prefers the first run's token to the
    one that it chose: then noise moved the row, and something else the choice."""
    last = rows[len(rows) - 1 :]
    theirs, mine = (float(logit_of(last, chosen[-1:])[0]) for chosen in tokens)
    lead = _ROUNDED * abs(float(last.top_logits[0, 0])) if last.whole else _TOLD
    return theirs - mine > lead


def _ends_differ(first: Run, again: Run) -> bool:
    """Whether two free runs of the same tokens ended for different reasons."""
    both_free = first.replay == again.replay == "free"
    return both_free and (first.stop, first.finish) != (again.stop, again.finish)
