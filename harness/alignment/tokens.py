"""Judge token ids alone, without the candidate's logits.

The candidate's shift is unknown, but a flip means that it was larger than the
reference's margin. So a flip across a margin beyond the tolerance is
DIVERGENT, and nothing here can be shown to be right: the best verdict is
INCONCLUSIVE.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.alignment.align import arm_of, arms_of
from harness.alignment.figures import figures, no_figures
from harness.alignment.outcomes import PointClass, Verdict
from harness.alignment.prompt_result import Positions, PromptAlignment, TopTokens
from harness.alignment.prompts import top_tokens
from harness.alignment.result import Alignment, Comparability, Figures, Gate, Performance
from harness.alignment.token_table import token_row, token_table
from harness.alignment.verdict import message_of
from harness.baseline.baseline import Baseline
from harness.baseline.floor import choices, noise_floor
from harness.devices.facts import EngineFacts, LoadFigures
from harness.errors import EmptyComparison
from harness.files.timestamp import utc_now
from harness.messages.message import Message, message
from harness.messages.statement import remark
from harness.recording.format import PromptRecord, Recording
from harness.statistics.intervals import Interval
from harness.statistics.margins import logit_of, runner_up
from harness.statistics.rows import RowStatistics

_NO_INTERVAL = Interval(value=None, low=None, high=None)


def compare_tokens(
    outputs: Mapping[str, Sequence[int]],
    baseline: Baseline,
    *,
    file: str = "",
    warnings: Sequence[Message] = (),
) -> Alignment:
    """Compare token ids, by prompt id, with arms that followed them.

    Args:
        warnings: of the reading of the file, to be told first.

    Raises:
        EmptyComparison: if the file has no tokens.
    """
    floor = noise_floor(baseline)
    noise = {} if floor is None else floor.tolerances()
    prompts = tuple(
        _judge(record, outputs[record.id], noise.get(record.id))
        for record in baseline.reference.prompts
    )
    classes = [c for p in prompts for c in p.positions.class_]
    if not classes:
        raise EmptyComparison(f"{file}: has no tokens, so there is nothing to judge")
    flips = sum(
        a != b
        for p in prompts
        for a, b in zip(p.positions.reference_token, p.positions.candidate_token, strict=True)
    )
    gates = (token_guard(classes, flips, judged=bool(noise)),)
    verdict: Verdict = "DIVERGENT" if "DIVERGENT" in classes else "INCONCLUSIVE"
    found = Comparability(
        comparable=True, differences=(), allowed=(), unknown=("logits", "settings", "environment")
    )
    return Alignment(
        created=utc_now(),
        verdict=verdict,
        message=message_of(verdict, found, _NO_INTERVAL, gates, flips, len(classes)),
        error_ratio=_NO_INTERVAL,
        top_k_error_ratio=_NO_INTERVAL,
        gates=gates,
        positions=len(classes),
        classes=dict(sorted(Counter(c for c in classes if c is not None).items())),
        prompts=prompts,
        comparability=found,
        candidate=arm_of(_teller(baseline.reference), "candidate", "tokens", file),
        baseline=arms_of(baseline),
        performance=_no_performance(baseline),
        pieces=baseline.reference.pieces,
        remarks=tuple(map(remark, (*warnings, message("warning.tokens_only")))),
        tokens=token_table([token_row(p, baseline.reference.piece) for p in prompts]),
    )


def token_guard(classes: Sequence[PointClass | None], flips: int, judged: bool) -> Gate:
    """The point guard, which without shifts can fail and never pass."""
    wrong, positions = classes.count("DIVERGENT"), len(classes)
    if not judged:
        outcome = message("gate.point_guard.missing")
    elif wrong:
        outcome = message("gate.tokens.fail", failing=wrong, positions=positions)
    else:
        outcome = message("gate.tokens.open", flips=flips, positions=positions)
    return Gate(
        name="point_guard",
        status="NOT_RUN" if not judged else "FAIL" if wrong else "INCONCLUSIVE",
        value=float(wrong) if judged else None,
        limit=0.0,
        message=outcome,
    )


def _teller(reference: Recording) -> Recording:
    """What is known of the tool that gave the tokens: the reference's prompts."""
    return reference.model_copy(
        update={
            "device": "tokens",
            "engine": EngineFacts(),
            "environment": {},
            "load": LoadFigures(),
            "settings": None,
        }
    )


def _no_performance(baseline: Baseline) -> Performance:
    """Token ids come without timings."""
    reference = figures(baseline.reference)
    ratio = dict.fromkeys(Figures.measured())
    return Performance(candidate=no_figures(), reference=reference, ratio=ratio)


def _judge(
    record: PromptRecord, output: Sequence[int], limit: NDArray[np.float64] | None
) -> PromptAlignment:
    rows = record.run.rows
    theirs = choices(record.run) if record.free else rows.top_ids[:, 0].astype(np.int64)
    mine = np.array(output[: len(rows)], dtype=np.int64)
    positions = judged_positions(rows, theirs, mine, limit)
    return judged_prompt(
        positions,
        id=record.id,
        text=record.text,
        tokens_expected=len(output),
        first_divergence=first_flip(positions),
        context_token_ids=list(output),
        candidate_token_ids=list(output),
        context_text=record.run.text,
        candidate_text=record.run.text,
        reference_seconds=record.run.seconds,
    )


def judged_prompt(positions: Positions, **facts: Any) -> PromptAlignment:
    """A prompt of these positions; the one to look at is the first that fails,
    else the first flip."""
    classes = positions.class_
    failing = next((t for t, c in enumerate(classes) if c == "DIVERGENT"), None)
    shown = first_flip(positions) if failing is None else failing
    return PromptAlignment.model_validate(
        {
            **facts,
            "verdict": "INCONCLUSIVE" if failing is None else "DIVERGENT",
            "tokens_compared": len(classes),
            "shown": shown,
            "class": None if shown is None else classes[shown],
            "margin": None if shown is None else positions.margin[shown],
            "shift": None,
            "tolerance": None if shown is None else positions.tolerance[shown],
            "positions": positions,
        }
    )


def first_flip(positions: Positions) -> int | None:
    """The first position at which the two chose other tokens."""
    pairs = zip(positions.reference_token, positions.candidate_token, strict=True)
    return next((t for t, (a, b) in enumerate(pairs) if a != b), None)


def judged_positions(
    rows: RowStatistics | None,
    theirs: NDArray[np.int64],
    mine: NDArray[np.int64],
    limit: NDArray[np.float64] | None,
) -> Positions:
    """What the reference and the candidate chose at n positions, after the same tokens.

    Args:
        rows: the reference's, n of them; without them there are no margins.
        theirs, mine: int64 (n,), what each chose.
        limit: float64 (n,) or longer, the largest shift that is noise, in logits.
    """
    n = len(mine)
    known: list[float | None] = [None] * n
    margin = known
    top: list[TopTokens] = [[] for _ in range(n)]
    broken = np.zeros(n, np.bool_)
    if rows is not None:
        rival = np.where(theirs != mine, mine, runner_up(rows, theirs))
        margin = [float(m) for m in logit_of(rows, theirs) - logit_of(rows, rival)]
        top, broken = top_tokens(rows), rows.nonfinite > 0
    bound: list[float | None] = known if limit is None else [float(t) for t in limit[:n]]
    classes = [
        _class(bool(theirs[t] != mine[t]), margin[t], None if broken[t] else bound[t])
        for t in range(n)
    ]
    return Positions(
        class_=classes,
        reference_token=[int(t) for t in theirs],
        candidate_token=[int(t) for t in mine],
        margin=margin,
        shift=known,
        tolerance=bound,
        error=known,
        reference_error=known,
        bit_equal=[False if rows is not None else None] * n,
        reference_top=top,
        candidate_top=[[] for _ in range(n)],
    )


def _class(flip: bool, margin: float | None, limit: float | None) -> PointClass | None:
    if not flip or limit is None or margin is None:
        return None
    if margin > limit:
        return "DIVERGENT"
    return "TIE" if margin == 0.0 else "NEAR_TIE"
