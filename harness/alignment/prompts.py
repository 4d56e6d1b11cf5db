"""One prompt of a candidate, compared with the baseline position by position."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import Held
from harness.alignment.gates.guard import classify
from harness.alignment.outcomes import FAILING, PointClass
from harness.alignment.prompt_result import Finding, Positions, PromptAlignment
from harness.alignment.verdict import prompt_verdict
from harness.baseline.baseline import Baseline
from harness.baseline.floor import arm_rows, choices
from harness.baseline.routing import Departure, RouteNoise, alike, departure, of_rows
from harness.recording.format import SHOWN_TOP, PromptRecord, Run
from harness.statistics.lazy_rows import join
from harness.statistics.margins import margins
from harness.statistics.noise import FRACTION_BITS, below_the_best, rms_error
from harness.statistics.routes import Routes
from harness.statistics.rows import RowStatistics


def common_context(run: Run, context: Sequence[int]) -> int:
    """How many rows of ``run`` follow the same tokens as the context's do."""
    most = min(len(run.token_ids), len(context))
    for index in range(most):
        if run.token_ids[index] != context[index]:
            return index + 1
    return most


def hold(
    mine: PromptRecord, baseline: Baseline, dtype: str, routes: RouteNoise | None = None
) -> Held:
    """Put a candidate's prompt beside the baseline's, after the same tokens.

    Args:
        dtype: the candidate's.
        routes: of the baseline's noise floor.
    """
    theirs = baseline.reference.prompt(mine.id)
    assert theirs is not None  # comparability has refused otherwise
    reference = theirs.run
    context = reference.token_ids
    rows, chosen, prefill, chose = followed(mine, context)
    n = len(rows)
    own_dtype = dtype if dtype in FRACTION_BITS else baseline.reference.dtype
    seen = sum(_broken(run) for run in (mine.free, mine.forced) if run is not None)
    base = reference.rows[:n]
    truth = None if baseline.oracle is None else arm_rows(baseline.oracle, theirs)[:n]
    departed = None if routes is None else departed_from(mine, context, routes.truth[mine.id])
    return Held(
        id=mine.id,
        rows=rows,
        reference=base,
        truth=truth,
        chosen=chosen,
        found=margins(base, rows, choices(reference)[:n], chosen),
        prefill=prefill,
        expected=len(context),
        divergence=None if mine.free is None else _divergence(mine.free, context),
        ended=mine.free is not None and _ended(mine.free, context),
        unchosen=chose & below_the_best(rows, chosen, own_dtype),
        astray=_astray(mine.free, own_dtype),
        # The forced row, which the free run's replaces, was computed too.
        unjudged_nonfinite=seen - int((rows.nonfinite > 0).sum()),
        departure=departed,
        judged=None if routes is None else routes.judged(mine.id, n, departed),
    )


def departed_from(mine: PromptRecord, context: Sequence[int], truth: Routes) -> Departure | None:
    """Where a prompt's rows, those that ``followed`` gives, left the oracle's routes; None
    where the device does not tell."""
    run = mine.on(context)
    parts = [(run, common_context(run, context))]
    if mine.free is not None and run is not mine.free:
        parts.insert(0, (mine.free, common_context(mine.free, context)))
    found: list[Departure] = []
    for part, rows in parts:
        told = of_rows(part, rows)
        followed_by = truth[: len(truth) - len(context) + rows]
        pair = [] if told is None else alike([told, followed_by])
        if not pair:
            return None
        found.append(departure(pair[0], pair[1], rows))
    head = found[0].other
    other = np.concatenate([head, found[-1].other[len(head) :]])
    moved = [d for d in found if d.tokens]
    if not moved:
        return Departure(len(other), math.nan, 0, other)
    first = min(moved, key=lambda d: d.row)
    return replace(first, tokens=max(d.tokens for d in moved), other=other)


def _astray(free: Run | None, dtype: str) -> NDArray[np.bool_]:
    """Of all tokens that a device chose by itself, which are not the best of their rows;
    after its first other token too, since its own rows tell."""
    if free is None or not len(free.rows):
        return np.zeros(0, np.bool_)
    return below_the_best(free.rows, np.array(free.token_ids, np.int64), dtype)


def judge_prompt(
    mine: PromptRecord,
    held: Held,
    baseline: Baseline,
    tolerances: NDArray[np.float64] | None,
    findings: Sequence[Finding] = (),
) -> PromptAlignment:
    """One prompt, position by position; without tolerances most figures are missing.

    Args:
        findings: what speaks against it beside its positions.
    """
    theirs = baseline.reference.prompt(mine.id)
    assert theirs is not None  # comparability has refused otherwise
    limit = None if tolerances is None else tolerances[: len(held.chosen)]
    errors = _errors(held, baseline.reference.model.vocab_size)
    positions = _positions(held, theirs.run, limit, errors)
    return _result(mine, theirs.run, held, positions, tuple(findings))


def followed(
    mine: PromptRecord, context: Sequence[int]
) -> tuple[RowStatistics, NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """The rows that follow the context, what the device chose at each, which of them
    came from a prefill, and where the device chose by itself.

    Those of the free run while it follows the context, because a replay must not
    replace what the device does by itself; after that those of the forced run.
    """
    run = mine.on(context)
    n = common_context(run, context)
    rows, chosen, prefill = run.rows[:n], choices(run)[:n], _prefill(run)[:n]
    if mine.free is None or run is mine.free:
        return rows, chosen, prefill, np.full(n, mine.free is not None)
    own = common_context(mine.free, context)
    return (
        join([mine.free.rows[:own], rows[own:]]),
        np.concatenate([choices(mine.free)[:own], chosen[own:]]),
        np.concatenate([_prefill(mine.free)[:own], prefill[own:]]),
        np.arange(max(own, n)) < own,
    )


def _broken(run: Run) -> int:
    """How many rows of a run hold NaN or infinities."""
    return int((run.rows.nonfinite > 0).sum())


def _prefill(run: Run) -> NDArray[np.bool_]:
    """Which rows of a run came from a prefill: the first always does."""
    n = len(run.token_ids)
    return np.arange(n) == 0 if run.replay != "forced-prefill" else np.ones(n, np.bool_)


def _classes(held: Held, limit: NDArray[np.float64] | None) -> list[PointClass | None]:
    """Without a tolerance only bit-equal rows and non-finite rows are known."""
    if limit is not None:
        found = classify(held.found, limit, held.nonfinite, held.unchosen, held.left_out)
        # Where only the reference is broken, nothing judges the candidate.
        gone = held.nonfinite & (held.rows.nonfinite == 0)
        return [None if unjudged else c for c, unjudged in zip(found, gone, strict=True)]
    return [
        "NONFINITE" if bad else "EXACT" if same and not flip else None
        for bad, same, flip in zip(
            held.rows.nonfinite > 0, held.bit_equal, held.found.flip, strict=True
        )
    ]


def _errors(held: Held, width: int) -> tuple[list[float | None], list[float | None]]:
    """Root-mean-square error of candidate and reference at each position."""
    truth, n = held.truth, len(held.chosen)
    if truth is None or not held.reference.whole:
        return [None] * n, [None] * n
    gone = truth.nonfinite > 0
    mine: list[float | None] = [None] * n
    if held.rows.whole:
        mine = _listed(rms_error(held.rows, truth, width), gone | (held.rows.nonfinite > 0))
    base = held.reference
    return mine, _listed(rms_error(base, truth, width), gone | (base.nonfinite > 0))


def _positions(
    held: Held,
    reference: Run,
    limit: NDArray[np.float64] | None,
    errors: tuple[list[float | None], list[float | None]],
) -> Positions:
    n = len(held.chosen)
    nothing = np.zeros(n, np.bool_)
    return Positions(
        class_=_classes(held, limit),
        reference_token=[int(t) for t in choices(reference)[:n]],
        candidate_token=[int(t) for t in held.chosen],
        margin=_listed(held.found.margin, nothing),
        shift=_listed(held.found.shift, nothing),
        tolerance=[None] * n if limit is None else _listed(limit, nothing),
        error=errors[0],
        reference_error=errors[1],
        bit_equal=[bool(e) if held.told else None for e in held.bit_equal],
        reference_top=top_tokens(held.reference),
        candidate_top=top_tokens(held.rows),
    )


def _result(
    mine: PromptRecord,
    reference: Run,
    held: Held,
    positions: Positions,
    findings: tuple[Finding, ...],
) -> PromptAlignment:
    classes, n = positions.class_, len(positions.class_)
    shown = shown_position(positions)
    complete = n == len(reference.token_ids) and not held.ended
    equal = all(positions.bit_equal)
    return PromptAlignment(
        id=mine.id,
        verdict=prompt_verdict(classes, bit_equal=equal, complete=complete, found=findings),
        text=mine.text,
        tokens_compared=n,
        tokens_expected=len(reference.token_ids),
        first_divergence=held.divergence,
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
        findings=findings,
        candidate_seconds=mine.run.seconds,
        reference_seconds=reference.seconds,
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
