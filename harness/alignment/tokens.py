"""Judge token ids alone, without the candidate's logits.

The candidate's shift is unknown, but a flip means that it was larger than the
reference's margin. So a flip across a margin beyond the tolerance is
DIVERGENT, and nothing here can be shown to be right: the best verdict is
INCONCLUSIVE.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.alignment.align import arm_of, arms_of
from harness.alignment.figures import figures
from harness.alignment.outcomes import PointClass, Verdict
from harness.alignment.prompt_result import Positions, PromptAlignment
from harness.alignment.prompts import top_tokens
from harness.alignment.result import Alignment, Comparability, Figures, Gate, Performance
from harness.alignment.verdict import message_of
from harness.baseline.baseline import Baseline
from harness.baseline.floor import choices, noise_floor
from harness.devices.facts import EngineFacts, LoadFigures
from harness.errors import EmptyComparison
from harness.files.timestamp import utc_now
from harness.messages.message import message
from harness.messages.statement import remark
from harness.recording.format import PromptRecord
from harness.statistics.intervals import Interval
from harness.statistics.margins import logit_of, runner_up

_NO_INTERVAL = Interval(value=None, low=None, high=None)


def compare_tokens(
    outputs: Mapping[str, Sequence[int]], baseline: Baseline, *, file: str = ""
) -> Alignment:
    """Compare token ids, by prompt id, with arms that followed them.

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
    candidate = baseline.reference.model_copy(
        update={
            "device": "tokens",
            "engine": EngineFacts(),
            "environment": {},
            "load": LoadFigures(),
            "settings": None,
        }
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
        candidate=arm_of(candidate, "candidate", "tokens", file),
        baseline=arms_of(baseline),
        performance=_no_performance(baseline),
        pieces=baseline.reference.pieces,
        remarks=(remark(message("warning.tokens_only")),),
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


def _no_performance(baseline: Baseline) -> Performance:
    """Token ids come without timings."""
    reference = figures(baseline.reference)
    names = [name for name in Figures.model_fields if name not in ("samples", "gaps")]
    nothing = Figures(**dict.fromkeys(names), samples=0, gaps=0)
    return Performance(candidate=nothing, reference=reference, ratio=dict.fromkeys(names))


def _judge(
    record: PromptRecord, output: Sequence[int], limit: NDArray[np.float64] | None
) -> PromptAlignment:
    rows = record.run.rows
    n = len(rows)
    mine = np.array(output[:n], dtype=np.int64)
    theirs = choices(record.run) if record.free else rows.top_ids[:, 0].astype(np.int64)
    flip = mine != theirs
    rival = np.where(flip, mine, runner_up(rows, theirs))
    margin = logit_of(rows, theirs) - logit_of(rows, rival)
    classes = [
        _class(bool(f), float(m), None if limit is None or bad else float(limit[t]))
        for t, (f, m, bad) in enumerate(zip(flip, margin, rows.nonfinite > 0, strict=True))
    ]
    first = int(np.argmax(flip)) if flip.any() else None
    return PromptAlignment(
        id=record.id,
        verdict="DIVERGENT" if "DIVERGENT" in classes else "INCONCLUSIVE",
        text=record.text,
        tokens_compared=n,
        tokens_expected=len(output),
        first_divergence=first,
        shown=first,
        class_=None if first is None else classes[first],
        margin=None if first is None else float(margin[first]),
        shift=None,
        tolerance=None if first is None or limit is None else float(limit[first]),
        context_token_ids=list(output),
        candidate_token_ids=list(output),
        context_text=record.run.text,
        candidate_text=record.run.text,
        positions=Positions(
            class_=classes,
            reference_token=[int(t) for t in theirs],
            candidate_token=[int(t) for t in mine],
            margin=[float(m) for m in margin],
            shift=[None] * n,
            tolerance=[None] * n if limit is None else [float(t) for t in limit],
            error=[None] * n,
            reference_error=[None] * n,
            bit_equal=[False] * n,
            reference_top=top_tokens(rows),
            candidate_top=[[] for _ in range(n)],
        ),
    )


def _class(flip: bool, margin: float, limit: float | None) -> PointClass | None:
    if not flip or limit is None:
        return None
    if margin > limit:
        return "DIVERGENT"
    return "TIE" if margin == 0.0 else "NEAR_TIE"
