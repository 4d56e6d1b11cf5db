"""Hold a candidate against a baseline: the one way in to the judgement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from harness.alignment import gates as g
from harness.alignment.comparability import comparability
from harness.alignment.figures import performance
from harness.alignment.intervals import error_ratio
from harness.alignment.noise import top_k_squared_errors
from harness.alignment.prompts import (
    PromptJudgement,
    baseline_noise,
    has_noise_floor,
    judge_prompt,
)
from harness.alignment.result import (
    Alignment,
    Arm,
    Comparability,
    Gate,
    Interval,
    PointClass,
    PromptAlignment,
    Verdict,
)
from harness.alignment.verdict import sentence_of, verdict_of
from harness.baselines import Baseline
from harness.errors import EmptyComparison
from harness.recording import Recording

_NO_INTERVAL = Interval(value=None, low=None, high=None)


@dataclass(frozen=True)
class _Outcome:
    """What the judgement found, before it is laid out as an Alignment."""

    verdict: Verdict
    sentence: str
    error_ratio: Interval
    top_k_error_ratio: Interval
    gates: tuple[Gate, ...]
    prompts: tuple[PromptAlignment, ...]
    warnings: tuple[str, ...] = ()


def compare(
    candidate: Recording,
    baseline: Baseline | Recording,
    *,
    allow_weights: bool = False,
    allow_dtype: bool = False,
    candidate_file: str = "",
    reproduce: Sequence[str] = (),
) -> Alignment:
    """Judge ``candidate`` against a baseline, or against a single recording.

    Without an oracle, as with a single recording, the verdict is BIT_EXACT,
    INCONCLUSIVE or NOT_COMPARABLE.

    Args:
        allow_weights: checkpoints may differ in weights and config.
        allow_dtype: declared dtypes may differ.
        candidate_file: where the candidate was read from, for the report.
        reproduce: commands that repeat this comparison, for the report.

    Raises:
        EmptyComparison: if the two share no position.
    """
    if isinstance(baseline, Recording):
        baseline = Baseline(reference=baseline)
    found = comparability(
        candidate, baseline.reference, allow_weights=allow_weights, allow_dtype=allow_dtype
    )
    outcome = _judge(candidate, baseline, found) if found.comparable else _refuse(found)
    classes = Counter(c for p in outcome.prompts for c in p.positions.class_ if c is not None)
    return Alignment(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        verdict=outcome.verdict,
        sentence=outcome.sentence,
        error_ratio=outcome.error_ratio,
        top_k_error_ratio=outcome.top_k_error_ratio,
        gates=outcome.gates,
        positions=sum(p.tokens_compared for p in outcome.prompts),
        classes=dict(sorted(classes.items())),
        prompts=outcome.prompts,
        comparability=found,
        candidate=arm_of(candidate, "candidate", candidate.device, candidate_file),
        baseline=arms_of(baseline),
        performance=performance(candidate, baseline.reference),
        pieces={**candidate.pieces, **baseline.reference.pieces},
        warnings=outcome.warnings,
        reproduce=tuple(reproduce),
    )


def _refuse(found: Comparability) -> _Outcome:
    verdict: Verdict = "NOT_COMPARABLE"
    return _Outcome(
        verdict=verdict,
        sentence=sentence_of(verdict, found, _NO_INTERVAL, (), 0, 0),
        error_ratio=_NO_INTERVAL,
        top_k_error_ratio=_NO_INTERVAL,
        gates=(),
        prompts=(),
    )


def _judge(candidate: Recording, baseline: Baseline, found: Comparability) -> _Outcome:
    noise = baseline_noise(baseline)
    judged = [judge_prompt(p, candidate, baseline, noise.get(p.id)) for p in candidate.prompts]
    positions = sum(j.result.tokens_compared for j in judged)
    if not positions:
        raise EmptyComparison(
            f"{candidate.device} and {baseline.reference.device} share no position: "
            "nothing was compared, which is never a pass"
        )
    classes = [c for j in judged for c in j.result.positions.class_]
    ratio = _pooled_ratio(judged)
    top_k = _top_k_ratio(judged)
    all_gates = _gates(candidate, baseline, judged, classes, ratio, top_k)
    flips = sum(j.flips for j in judged)
    expected = sum(len(p.run.token_ids) for p in baseline.reference.prompts)
    verdict = verdict_of(
        all_gates,
        classes,
        bit_equal=positions == expected and all(j.bit_equal for j in judged),
        tokens_equal=not flips and all(j.result.first_divergence is None for j in judged),
        has_oracle=baseline.oracle is not None,
    )
    return _Outcome(
        verdict=verdict,
        sentence=sentence_of(verdict, found, ratio, all_gates, flips, positions),
        error_ratio=ratio,
        top_k_error_ratio=top_k,
        gates=all_gates,
        prompts=tuple(j.result for j in judged),
        warnings=_warnings(candidate, found, all_gates),
    )


def _gates(
    candidate: Recording,
    baseline: Baseline,
    judged: Sequence[PromptJudgement],
    classes: Sequence[PointClass | None],
    ratio: Interval,
    top_k: Interval,
) -> tuple[Gate, ...]:
    positions = len(classes)
    expected = sum(len(p.run.token_ids) for p in baseline.reference.prompts)
    missing = _why_no_ratio(baseline, judged)
    by_id = {j.result.id: j for j in judged}
    shifts = [(r.prompt_id, d) for r in candidate.repeats for d in r.differences]
    return (
        g.error_ratio_gate("error_ratio", "over the whole vocabulary", ratio, missing),
        g.error_ratio_gate("top_k_error_ratio", "among the likeliest tokens", top_k, missing),
        g.point_guard(classes, judged=has_noise_floor(baseline)),
        g.nonfinite_gate(
            positions,
            sum(j.candidate_nonfinite for j in judged),
            sum(j.reference_nonfinite for j in judged),
        ),
        g.coverage_gate(
            positions,
            expected,
            prompts_not_run=len(baseline.reference.prompts) - len(judged),
            diverged=sum(
                j.result.tokens_compared < j.result.tokens_expected and not j.ended for j in judged
            ),
            ended=sum(j.ended for j in judged),
        ),
        g.determinism_gate(
            sum(r.rows_compared for r in candidate.repeats),
            sum(r.rows_equal for r in candidate.repeats),
            [d.shift for _, d in shifts],
            [by_id[i].tolerance_at(d.position) if i in by_id else None for i, d in shifts],
            candidate.device,
        ),
    )


def _pooled_ratio(judged: Sequence[PromptJudgement]) -> Interval:
    """Over the prompts that have an oracle and no non-finite rows."""
    pairs = [j.squared_errors for j in judged if j.squared_errors is not None]
    if not pairs:
        return _NO_INTERVAL
    return error_ratio(_sums(pairs, 0), _sums(pairs, 1))


def _why_no_ratio(baseline: Baseline, judged: Sequence[PromptJudgement]) -> str:
    if baseline.oracle is None:
        return "there is no oracle to measure it against"
    if all(j.squared_errors is None for j in judged):
        return "no prompt is finite in every row, so it has no size"
    return "the reference shows none against the oracle, so there is nothing to compare with"


def _top_k_ratio(judged: Sequence[PromptJudgement]) -> Interval:
    pairs = []
    for j in judged:
        if j.rows is not None:
            errors, _ = top_k_squared_errors(j.rows[:2], j.rows[2])
            pairs.append((errors[0], errors[1]))
    return error_ratio(_sums(pairs, 0), _sums(pairs, 1)) if pairs else _NO_INTERVAL


def _sums(
    pairs: Sequence[tuple[NDArray[np.float64], NDArray[np.float64]]], which: int
) -> NDArray[np.float64]:
    return np.array([float(pair[which].sum()) for pair in pairs])


def _warnings(
    candidate: Recording, found: Comparability, all_gates: Sequence[Gate]
) -> tuple[str, ...]:
    lines = [gate.sentence for gate in all_gates if gate.status == "WARN"]
    if all(p.run.replay == "forced-prefill" for p in candidate.prompts):
        lines.append("The candidate ran forced-prefill only: no decode step of it was judged.")
    lines += [
        f"{d.field} differs and was allowed: {d.candidate} against {d.baseline}."
        for d in found.allowed
    ]
    lines += [
        f"{field} could not be told by one side, so it was not checked." for field in found.unknown
    ]
    return tuple(lines)


def arms_of(baseline: Baseline) -> tuple[Arm, ...]:
    """Every arm of a baseline, for a report."""
    arms = [arm_of(baseline.reference, "reference", "reference", baseline.file("reference"))]
    if baseline.oracle is not None:
        arms.append(arm_of(baseline.oracle, "oracle", "oracle", baseline.file("oracle")))
    for name, control in baseline.controls.items():
        arms.append(arm_of(control, "control", name, baseline.file(name)))
    return tuple(arms)


def arm_of(recording: Recording, role: str, name: str, file: str) -> Arm:
    """A recording in its role, for a report: facts without rows."""
    replays = Counter(p.run.replay for p in recording.prompts)
    return Arm.model_validate(
        {
            "role": role,
            "name": name,
            "file": file,
            "replay": ", ".join(sorted(replays)),
            **{
                key: getattr(recording, key)
                for key in (
                    *("device", "dtype", "created", "model", "suite", "settings"),
                    *("overridden", "engine", "environment", "load"),
                )
            },
        }
    )
