"""The judgement of one prompt, position by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.alignment.gates import classify
from harness.alignment.margins import Margins, margins
from harness.alignment.noise import (
    largest_relative_shift,
    local_noise,
    rms_error,
    row_spacing,
    squared_error,
    tolerance,
)
from harness.alignment.result import FAILING, PointClass, Positions, PromptAlignment
from harness.alignment.verdict import prompt_verdict
from harness.baselines import MIN_CONTROLS, Baseline
from harness.recording import SHOWN_TOP, PromptRecord, Recording, Run
from harness.rows import RowStatistics, concatenate


@dataclass(frozen=True, eq=False)
class PromptJudgement:
    """One prompt's part of an alignment, and what the pooled gates need.

    ``squared_errors`` are those of candidate and reference per judged
    position; ``rows`` candidate, reference and oracle; both None without an
    oracle or where a row is not finite. ``ended`` says that the free run ended
    elsewhere than the context without another token.
    """

    result: PromptAlignment
    flips: int
    ended: bool
    bit_equal: bool
    candidate_nonfinite: int
    reference_nonfinite: int
    squared_errors: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    rows: tuple[RowStatistics, RowStatistics, RowStatistics] | None

    def tolerance_at(self, position: int) -> float | None:
        """The tolerance of a position, None where there is none."""
        values = self.result.positions.tolerance
        return values[position] if position < len(values) else None


def choices(run: Run) -> NDArray[np.int64]:
    """What the device chose, or would have chosen, at each position."""
    return np.array(run.choices(), dtype=np.int64)


def common_context(run: Run, context: Sequence[int]) -> int:
    """How many rows of ``run`` follow the same tokens as the context's do."""
    most = min(len(run.token_ids), len(context))
    for index in range(most):
        if run.token_ids[index] != context[index]:
            return index + 1
    return most


def has_noise_floor(baseline: Baseline) -> bool:
    """Whether there is an oracle, and controls enough, to tell noise by."""
    return baseline.oracle is not None and len(baseline.controls) >= MIN_CONTROLS


def baseline_noise(baseline: Baseline) -> dict[str, NDArray[np.float64]]:
    """The tolerance of every position of every prompt, from the baseline
    alone. Empty without an oracle or controls."""
    oracle = baseline.oracle
    if oracle is None or not has_noise_floor(baseline):
        return {}
    units, noises, shifts, at = {}, {}, [], []
    for prompt in baseline.reference.prompts:
        reference = prompt.run
        # A control with NaN would pass for a large noise.
        found_rows = [_arm_rows(c, prompt) for c in baseline.controls.values()]
        arms = [rows for rows in found_rows if not rows.nonfinite.any()]
        truth = _arm_rows(oracle, prompt)
        unit = row_spacing(baseline.reference.dtype, reference.rows)
        width = baseline.reference.model.vocab_size
        errors = [rms_error(rows, truth, width) for rows in (reference.rows, *arms)]
        units[prompt.id], noises[prompt.id] = unit, local_noise(errors, unit)
        for rows in arms:
            found = margins(
                reference.rows, rows, choices(reference), rows.top_ids[:, 0].astype(np.int64)
            )
            shifts.append(found.shift)
            at.append(noises[prompt.id])
    kappa = largest_relative_shift(shifts, at)
    return {i: tolerance(kappa, noises[i], units[i]) for i in units}


def _arm_rows(arm: Recording, prompt: PromptRecord) -> RowStatistics:
    record = arm.prompt(prompt.id)
    assert record is not None  # checked when the baseline was put together
    return record.on(prompt.run.token_ids).rows


def judge_prompt(
    mine: PromptRecord,
    candidate: Recording,
    baseline: Baseline,
    tolerances: NDArray[np.float64] | None,
) -> PromptJudgement:
    """Hold one prompt of the candidate against the baseline's."""
    theirs = baseline.reference.prompt(mine.id)
    assert theirs is not None  # comparability has refused otherwise
    reference = theirs.run
    context = reference.token_ids
    ours, chosen = _followed(mine, context)
    n = len(ours)
    base = reference.rows[:n]
    truth = None
    if baseline.oracle is not None:
        truth = _arm_rows(baseline.oracle, theirs)[:n]
    found = margins(base, ours, choices(reference)[:n], chosen)
    nonfinite = (ours.nonfinite > 0) | (base.nonfinite > 0)
    equal = np.asarray((ours.digest == base.digest).all(axis=1))
    limit = None if tolerances is None else tolerances[:n]
    classes = _classes(found, limit, nonfinite, equal)
    usable = truth is not None and n > 0 and not nonfinite.any() and not (truth.nonfinite > 0).any()
    ended = mine.free is not None and _ended(mine.free, context)
    errors = _errors(candidate, ours, base, truth)
    positions = _positions(ours, chosen, reference, found, classes, limit, equal, errors)
    return PromptJudgement(
        result=_result(mine, reference, positions, ended=ended),
        flips=int(found.flip.sum()),
        ended=ended,
        bit_equal=bool(equal.all()),
        candidate_nonfinite=int((ours.nonfinite > 0).sum()),
        reference_nonfinite=int((base.nonfinite > 0).sum()),
        squared_errors=(squared_error(ours, truth), squared_error(base, truth))
        if usable and truth is not None
        else None,
        rows=(ours, base, truth) if usable and truth is not None else None,
    )


def _followed(
    mine: PromptRecord, context: Sequence[int]
) -> tuple[RowStatistics, NDArray[np.int64]]:
    """The rows that follow the context, and what the device chose at each.

    Those of the free run as far as it goes along, since that is what the device
    does by itself and no replay may stand in for it; the forced run's beyond.
    """
    run = mine.on(context)
    n = common_context(run, context)
    rows, chosen = run.rows[:n], choices(run)[:n]
    if mine.free is None or run is mine.free:
        return rows, chosen
    own = common_context(mine.free, context)
    return (
        concatenate([mine.free.rows[:own], rows[own:]]),
        np.concatenate([choices(mine.free)[:own], chosen[own:]]),
    )


def _classes(
    found: Margins,
    limit: NDArray[np.float64] | None,
    nonfinite: NDArray[np.bool_],
    equal: NDArray[np.bool_],
) -> list[PointClass | None]:
    """Without a tolerance only bit-equal rows and non-finite ones are known."""
    if limit is not None:
        return list(classify(found, limit, nonfinite))
    return [
        "NONFINITE" if bad else "EXACT" if same and not flip else None
        for bad, same, flip in zip(nonfinite, equal, found.flip, strict=True)
    ]


def _errors(
    candidate: Recording, ours: RowStatistics, base: RowStatistics, truth: RowStatistics | None
) -> tuple[list[float | None], list[float | None]]:
    if truth is None:
        return [None] * len(ours), [None] * len(ours)
    width = candidate.model.vocab_size
    return (
        _listed(rms_error(ours, truth, width), ours.nonfinite + truth.nonfinite > 0),
        _listed(rms_error(base, truth, width), base.nonfinite + truth.nonfinite > 0),
    )


def _positions(
    ours: RowStatistics,
    chosen: NDArray[np.int64],
    reference: Run,
    found: Margins,
    classes: list[PointClass | None],
    limit: NDArray[np.float64] | None,
    equal: NDArray[np.bool_],
    errors: tuple[list[float | None], list[float | None]],
) -> Positions:
    n = len(classes)
    nothing = np.zeros(n, bool)
    return Positions(
        class_=classes,
        reference_token=[int(t) for t in choices(reference)[:n]],
        candidate_token=[int(t) for t in chosen],
        margin=_listed(found.margin, nothing),
        shift=_listed(found.shift, nothing),
        tolerance=[None] * n if limit is None else _listed(limit, nothing),
        error=errors[0],
        reference_error=errors[1],
        bit_equal=[bool(e) for e in equal],
        reference_top=top_tokens(reference.rows[:n]),
        candidate_top=top_tokens(ours),
    )


def _result(
    mine: PromptRecord, reference: Run, positions: Positions, *, ended: bool
) -> PromptAlignment:
    classes, n = positions.class_, len(positions.class_)
    shown = shown_position(positions)
    complete = n == len(reference.token_ids) and not ended
    return PromptAlignment(
        id=mine.id,
        verdict=prompt_verdict(classes, bit_equal=all(positions.bit_equal), complete=complete),
        text=mine.text,
        tokens_compared=n,
        tokens_expected=len(reference.token_ids),
        first_divergence=(
            None if mine.free is None else _divergence(mine.free, reference.token_ids)
        ),
        shown=shown,
        class_=None if shown is None else classes[shown],
        margin=None if shown is None else positions.margin[shown],
        shift=None if shown is None else positions.shift[shown],
        tolerance=None if shown is None else positions.tolerance[shown],
        context_token_ids=list(reference.token_ids),
        candidate_token_ids=list(mine.run.token_ids),
        context_text=reference.text,
        candidate_text=mine.run.text,
        positions=positions,
    )


def shown_position(positions: Positions) -> int | None:
    """Where a reader should look first: a failing position, else a flip, else
    the largest shift against its tolerance. None for an empty prompt."""
    n = len(positions.class_)
    for wanted in (
        [c in FAILING for c in positions.class_],
        [a != b for a, b in zip(positions.reference_token, positions.candidate_token, strict=True)],
    ):
        if any(wanted):
            return wanted.index(True)
    relative = [
        abs(d or 0.0) / (t or 1.0)
        for d, t in zip(positions.shift, positions.tolerance, strict=True)
    ]
    return max(range(n), key=relative.__getitem__) if n else None


def _divergence(free: Run, context: Sequence[int]) -> int | None:
    for index, (mine, theirs) in enumerate(zip(free.token_ids, context, strict=False)):
        if mine != theirs:
            return index
    if len(free.token_ids) == len(context):
        return None
    return min(len(free.token_ids), len(context))


def _ended(free: Run, context: Sequence[int]) -> bool:
    """Whether a free run ended elsewhere than the context, both equal so far."""
    first = _divergence(free, context)
    return first is not None and first == min(len(free.token_ids), len(context))


def _listed(values: NDArray[np.float64], missing: NDArray[np.bool_]) -> list[float | None]:
    return [None if gone else float(v) for v, gone in zip(values, missing, strict=True)]


def top_tokens(rows: RowStatistics) -> list[list[tuple[int, float]]]:
    """The largest logits of each row that a report names, as (id, logit)."""
    ids, logits = rows.top_ids[:, :SHOWN_TOP].tolist(), rows.top_logits[:, :SHOWN_TOP].tolist()
    return [
        [(i, z) for i, z in zip(row_ids, row_logits, strict=True) if i >= 0]
        for row_ids, row_logits in zip(ids, logits, strict=True)
    ]
