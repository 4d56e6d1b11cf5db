"""Whether a candidate is one of the arms that it is held against, under another name.

A wrong path in CI, or a copy, would prove every port: an arm is aligned with its own
baseline. Two runs of one device may give the same bits, and never the same times: what
gives a copy away are timings, to the last digit that is left of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from decimal import Decimal

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import Held
from harness.baseline.baseline import Baseline
from harness.baseline.controls import MOST_SHARED
from harness.baseline.floor import arm_rows
from harness.errors import UsageError
from harness.messages.message import Message, message
from harness.recording.format import PromptRecord, Recording, Run
from harness.statistics.noise import shared_error

#: So many equal timings beside equal rows, each told to at least ``_FINE`` decimals, are
#: not chance. Gaps between tokens scatter by more than some microseconds, so one of
#: them is equal with a chance of a fifth at most, and 16 with one of 1e-11.
_MANY = 16
_FINE = 5
#: The fewest timings of a run that has a gap between two tokens.
_GAPS = 3
#: Where every prompt has the timings of the arm's, fewer are enough.
_FEW = 3


def refuse_arm(candidate: Recording, baseline: Baseline, file: str = "") -> None:
    """Refuse a candidate that is an arm of the baseline.

    Raises:
        UsageError: naming the arm.
    """
    name = arm_posing(candidate, baseline)
    if name is None:
        return
    where = file or f"the recording of {candidate.device}"
    raise UsageError(
        f"{where}: it is the baseline's own arm {name} (the same rows and the same times), so it "
        "proves nothing; name the recording that the device itself has made"
    )


def itself(candidate: Recording, alone: Baseline) -> tuple[Message, ...]:
    """What to say of a recording that is held against itself; nothing for two runs.

    No verdict on a recording alone claims more than equal bits, so it is not refused.
    """
    return () if arm_posing(candidate, alone) is None else (message("warning.itself"),)


def arm_posing(candidate: Recording, baseline: Baseline) -> str | None:
    """The name of the arm that the candidate is, or holds prompts of; None for a
    recording of its own, a second run of the same device included."""
    return next((name for name, arm in baseline.arms() if _is_copy(candidate, arm)), None)


def _is_copy(candidate: Recording, arm: Recording) -> bool:
    copied = [_copied_times(p, arm.prompt(p.id)) for p in candidate.prompts]
    told = [decimals for times in copied for t in times if (decimals := _decimals(t))]
    # Runs of one token have no gap, and of a thousand quick ones some are equal by chance.
    gaps = [t for times in copied if len(times) >= _GAPS for t in times]
    if sum(_decimals(t) >= _FINE for t in gaps) >= _MANY:
        return True
    if all(copied) and len(told) >= _FEW:
        return True
    return _same_loading(candidate, arm) and _same_rows_throughout(candidate, arm)


def _copied_times(mine: PromptRecord, theirs: PromptRecord | None) -> list[float]:
    """The timings of a run that has the rows and the timings of a run of the arm, else
    nothing."""
    if theirs is None:
        return []
    for run in _runs(mine):
        for other in _runs(theirs):
            if _same_rows(run, other) and _same_times(run, other):
                return _times(run)
    return []


def _runs(prompt: PromptRecord) -> Iterator[Run]:
    yield from (run for run in (prompt.free, prompt.forced) if run is not None)


def _same_rows(run: Run, other: Run) -> bool:
    """Whether two runs have the same rows, bit for bit, as many as both have."""
    mine, theirs = run.rows.digest, other.rows.digest
    if mine is None or theirs is None or not len(mine):
        return False
    return mine.shape == theirs.shape and mine.tobytes() == theirs.tobytes()


def _same_times(run: Run, other: Run) -> bool:
    """Whether the timings of ``run`` are those of ``other``, rounded or not."""
    mine, theirs = _times(run), _times(other)
    return len(mine) == len(theirs) and all(map(_is_rounded, mine, theirs))


def _times(run: Run) -> list[float]:
    timings = run.timings
    if run.replay == "forced-prefill":
        return [timings.e2e_s]
    return [timings.ttft_s, *timings.itl_s, timings.e2e_s]


def _is_rounded(mine: float, theirs: float) -> bool:
    """Whether ``mine`` is ``theirs`` with the decimals that it has, rounded or cut."""
    decimals = _decimals(mine)
    if decimals > _FINE:  # the resolution of every recording
        return abs(mine - theirs) < 0.6e-6
    return abs(mine - theirs) < 10.0**-decimals


def _decimals(value: float) -> int:
    """Decimals of a number as JSON writes it; 0 for a whole one, which tells nothing."""
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def _same_loading(candidate: Recording, arm: Recording) -> bool:
    """Whether both were made by one process: the same second, device, and time to load."""
    mine, theirs = candidate.load.load_s, arm.load.load_s
    same = (candidate.created, candidate.device) == (arm.created, arm.device)
    return same and bool(mine) and bool(theirs) and _is_rounded(mine or 0.0, theirs or math.inf)


def _same_rows_throughout(candidate: Recording, arm: Recording) -> bool:
    for prompt in candidate.prompts:
        theirs = arm.prompt(prompt.id)
        if theirs is None:
            return False
        if not any(_same_rows(a, b) for a in _runs(prompt) for b in _runs(theirs)):
            return False
    return True


def same_error(held: Sequence[Held], baseline: Baseline) -> Message | None:
    """A warning where nearly all of a candidate's error is that of one arm: the same
    computation, or the arm's own rows with something added. An independent port shares
    less with any arm than two arms share with each other.

    Rows that are bit-equal to the reference's all along are BIT_EXACT, which says so.
    """
    usable = [h for h in held if h.usable and h.rows.sketch is not None]
    if not usable or all(h.bit_equal.all() for h in usable):
        return None
    for name, arm in {"reference": baseline.reference, **baseline.controls}.items():
        found = shared_error(_errors_beside(usable, baseline, arm))
        if found > MOST_SHARED:
            return message("warning.same_error", arm=name, shared=found)
    return None


def _errors_beside(
    held: Sequence[Held], baseline: Baseline, arm: Recording
) -> Iterator[tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Sketched errors against the oracle, of candidate and arm, of each prompt."""
    for h in held:
        prompt = baseline.reference.prompt(h.id)
        assert prompt is not None  # comparability has refused otherwise
        rows = arm_rows(arm, prompt)[: len(h.chosen)]
        assert h.truth is not None  # what usable means
        assert h.rows.sketch is not None  # those without have no error
        if (rows.nonfinite > 0).any() or rows.sketch is None or h.truth.sketch is None:
            continue
        truth = h.truth.sketch.astype(np.float64)
        yield h.rows.sketch - truth, rows.sketch - truth
