"""Compare a candidate with a baseline: the entry to the judgement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.alignment.allow import STRICT, Allow
from harness.alignment.comparability import comparability
from harness.alignment.diagnosis import Diagnosis
from harness.alignment.evidence import Evidence, Held, gather
from harness.alignment.figures import performance
from harness.alignment.gates import GATES, determinism_gate, not_run
from harness.alignment.gates.decide import FEW_PROMPTS
from harness.alignment.gates.local import standing_out
from harness.alignment.gates.routes import routes_gate
from harness.alignment.gates.stops import STOPS, stops_gate
from harness.alignment.gates.systematic import systematic_gate
from harness.alignment.identity import itself, refuse_arm, same_error
from harness.alignment.judge import Judgement, judge
from harness.alignment.kept_positions import kept_prompts
from harness.alignment.outcomes import Verdict
from harness.alignment.power import Power, power_of
from harness.alignment.prompt_result import Finding, PromptAlignment
from harness.alignment.prompts import hold, judge_prompt
from harness.alignment.result import Alignment, Arm, Comparability, Gate
from harness.alignment.routes import route_remarks, split_by_routes
from harness.alignment.scope import Scope, alike_warning, scope_of
from harness.alignment.texts import NO_LOGITS, TEXT_GATE, judge_texts, text_gate
from harness.alignment.unsteady import refusal, unsteady_warnings
from harness.alignment.verdict import message_of
from harness.baseline.baseline import Baseline
from harness.baseline.detail import JUDGED_BUCKETS, alike, judged_detail
from harness.baseline.floor import NoiseFloor, noise_floor
from harness.errors import EmptyComparison
from harness.files.timestamp import utc_now
from harness.messages.message import Message, message
from harness.messages.statement import remark
from harness.recording.endings import Ending, ending_message, endings_of
from harness.recording.format import Recording
from harness.statistics.detail import shared
from harness.statistics.intervals import Interval

_NO_INTERVAL = Interval(value=None, low=None, high=None)


@dataclass(frozen=True)
class _Outcome:
    """The results of the judgement, before they become an Alignment."""

    verdict: Verdict
    message: Message
    error_ratio: Interval
    top_k_error_ratio: Interval
    gates: tuple[Gate, ...]
    prompts: tuple[PromptAlignment, ...]
    warnings: tuple[Message, ...] = ()
    power: Power | None = None
    judged: int | None = None


def compare(
    candidate: Recording,
    baseline: Baseline | Recording,
    *,
    allow: Allow = STRICT,
    candidate_file: str = "",
    reproduce: Sequence[str] = (),
    diagnosis: Diagnosis | None = None,
) -> Alignment:
    """Judge ``candidate`` against a baseline, or against a single recording.

    Without an oracle, as with a single recording, the verdict is BIT_EXACT,
    INCONCLUSIVE or NOT_COMPARABLE.

    Args:
        allow: what may differ between the two.
        candidate_file: where the candidate was read from, for the report.
        reproduce: commands that repeat this comparison, for the report.
        diagnosis: of this candidate and baseline, which then has a gate of its own.

    Raises:
        EmptyComparison: if the two share no position.
        UsageError: if the candidate is an arm of the baseline, or a copy of one.
    """
    alone = isinstance(baseline, Recording)
    if isinstance(baseline, Recording):
        baseline = Baseline(reference=baseline)
    other = _of_both(candidate, baseline.reference)
    candidate, baseline = alike(candidate, baseline, JUDGED_BUCKETS)
    compared = comparability(candidate, baseline.reference, allow)
    outcome, scope = _refuse(compared, candidate, baseline.reference), None
    if compared.comparable:
        if not alone:
            refuse_arm(candidate, baseline, candidate_file)
        if candidate.text_only or baseline.reference.text_only:
            outcome = _judge_texts(candidate, baseline, compared)
        else:
            outcome = _judge(candidate, baseline, compared, diagnosis)
            scope = scope_of(candidate, baseline)
    routes = split_by_routes(candidate, baseline, outcome.prompts, outcome.judged)
    own = itself(candidate, baseline) if alone else ()
    after = (*outcome.warnings, *_of_scope(scope), *route_remarks(routes))
    classes = Counter(c for p in outcome.prompts for c in p.positions.class_ if c is not None)
    return Alignment(
        created=utc_now(),
        verdict=outcome.verdict,
        message=outcome.message,
        error_ratio=outcome.error_ratio,
        top_k_error_ratio=outcome.top_k_error_ratio,
        gates=outcome.gates,
        positions=sum(p.tokens_compared for p in outcome.prompts),
        classes=dict(sorted(classes.items())),
        prompts=outcome.prompts,
        comparability=compared,
        candidate=arm_of(candidate, "candidate", candidate.device, candidate_file),
        baseline=arms_of(baseline),
        performance=performance(candidate, baseline.reference),
        pieces={**baseline.reference.pieces, **candidate.pieces},
        remarks=tuple(map(remark, (*own, *other, *after))),
        reproduce=tuple(reproduce),
        scope=scope,
        power=outcome.power,
        routes=routes,
        diagnosis=diagnosis,
    )


def _of_both(candidate: Recording, reference: Recording) -> tuple[Message, ...]:
    """What to say of the two before they are judged."""
    return (*_other_detail(candidate, reference), *unsteady_warnings(candidate, reference))


def _other_detail(candidate: Recording, reference: Recording) -> tuple[Message, ...]:
    """What to say where the two keep more and less of a row."""
    mine, theirs = candidate.detail, reference.detail
    if mine is None or theirs is None:
        return ()
    mine, theirs = judged_detail(mine), judged_detail(theirs)
    both = shared([mine, theirs])
    if both is None or both == mine == theirs:
        return ()
    buckets = {"buckets": both.buckets, "listed": both.listed}
    ours = {"candidate_buckets": mine.buckets, "candidate_listed": mine.listed}
    their = {"baseline_buckets": theirs.buckets, "baseline_listed": theirs.listed}
    return (message("warning.detail", **buckets, **ours, **their),)


def _of_scope(scope: Scope | None) -> tuple[Message, ...]:
    warning = None if scope is None else alike_warning(scope)
    return () if warning is None else (warning,)


def _refuse(compared: Comparability, candidate: Recording, reference: Recording) -> _Outcome:
    verdict: Verdict = "NOT_COMPARABLE"
    said = message_of(verdict, compared, _NO_INTERVAL, (), 0, 0)
    return _Outcome(
        verdict=verdict,
        message=refusal(said, compared, candidate, reference),
        error_ratio=_NO_INTERVAL,
        top_k_error_ratio=_NO_INTERVAL,
        gates=(),
        prompts=(),
    )


def _same_pass(reference: Recording) -> bool:
    """Whether the reference is computed just as an oracle is."""
    replays = {p.run.replay for p in reference.prompts}
    return reference.dtype == "float32" and replays == {"forced-prefill"}


def evidence_of(
    candidate: Recording, baseline: Baseline, floor: NoiseFloor | None = None
) -> Evidence:
    """The evidence of every prompt of a candidate, read once.

    With it any choice of prompts can be judged as a suite of its own, in about
    a few milliseconds: ``judge(evidence_of(candidate, baseline).take(indices))``.

    Args:
        candidate: comparable with the baseline (see ``compare``, which checks).
        floor: ``noise_floor(baseline)``, where it is known already.
    """
    candidate, baseline = alike(candidate, baseline, JUDGED_BUCKETS)
    floor, held = _beside_the_arms(candidate, baseline, floor)
    return gather(held, floor)


def _beside_the_arms(
    candidate: Recording, baseline: Baseline, floor: NoiseFloor | None = None
) -> tuple[NoiseFloor | None, list[Held]]:
    """The arms' noise and the candidate's rows beside it: all rows, where the candidate does
    not tell which of its own have other experts."""
    floor = floor or noise_floor(baseline)
    routes = None if floor is None else floor.routes
    held = [hold(p, baseline, candidate.dtype, routes) for p in candidate.prompts]
    if routes is None or routes.left_out == "none" or all(h.departure for h in held):
        return floor, held
    return _beside_the_arms(candidate, baseline, noise_floor(baseline, every_row=True))


def _judge_texts(candidate: Recording, baseline: Baseline, compared: Comparability) -> _Outcome:
    prompts, outcome = judge_texts(candidate, baseline.reference)
    return _Outcome(
        verdict="INCONCLUSIVE",
        message=outcome,
        error_ratio=_NO_INTERVAL,
        top_k_error_ratio=_NO_INTERVAL,
        gates=(
            *(
                text_gate(outcome) if name == TEXT_GATE else not_run(name, NO_LOGITS)
                for name in GATES
            ),
            not_run("determinism", NO_LOGITS),
            _text_stops(candidate),
        ),
        prompts=prompts,
        warnings=_warnings(candidate, compared, ()),
    )


def _text_stops(candidate: Recording) -> Gate:
    """What a server says of its ends; nothing shows that a text ended well."""
    endings = endings_of(candidate)
    return stops_gate(endings, len(candidate.prompts)) if endings else not_run(STOPS, NO_LOGITS)


def _judge(
    candidate: Recording,
    baseline: Baseline,
    compared: Comparability,
    diagnosis: Diagnosis | None,
) -> _Outcome:
    floor, held = _beside_the_arms(candidate, baseline)
    evidence = gather(held, floor)
    positions = int(evidence.positions.sum())
    if not positions:
        raise EmptyComparison(
            f"{candidate.device} and {baseline.reference.device} share no position: "
            "nothing was compared, which is never a pass"
        )
    limits = {} if floor is None else floor.tolerances()
    run = {h.id for h in held}
    left_out = [p for p in baseline.reference.prompts if p.id not in run]
    endings = endings_of(candidate)
    determinism = _determinism(candidate, limits, held)
    ends = stops_gate(endings, len(held))
    judgement = judge(
        evidence,
        has_oracle=baseline.oracle is not None,
        why_no_ratio=_why_no_ratio(baseline, held),
        missing_prompts=len(left_out),
        missing=sum(len(p.run.token_ids) for p in left_out),
        more=(*_of_diagnosis(diagnosis), determinism, ends, *_of_routes(held, floor)),
        scales=None if floor is None else floor.scales,
    )
    standing = {} if floor is None else standing_out(evidence, floor.scales)

    def found(prompt_id: str) -> tuple[Finding, ...]:
        return (*_findings(prompt_id, endings), *standing.get(prompt_id, ()))

    ratio, top_k = (_interval(judgement.gates, n) for n in ("error_ratio", "top_k_error_ratio"))
    flips = sum(int(h.found.flip.sum()) for h in held)
    return _Outcome(
        verdict=judgement.verdict,
        message=_message(judgement, compared, (ratio, top_k), (flips, positions)),
        error_ratio=ratio,
        top_k_error_ratio=top_k,
        gates=judgement.gates,
        prompts=kept_prompts(
            judge_prompt(p, h, baseline, limits.get(p.id), found(p.id))
            for p, h in zip(candidate.prompts, held, strict=True)
        ),
        warnings=_warnings(candidate, compared, judgement.gates, same_error(held, baseline)),
        power=_power(evidence, held, floor),
        judged=sum(len(h.chosen) - int(h.left_out.sum()) for h in held),
    )


def _of_routes(held: Sequence[Held], floor: NoiseFloor | None) -> tuple[Gate, ...]:
    if floor is None or floor.routes is None:
        return ()
    return (routes_gate({h.id: h.departure for h in held}, floor.routes, floor.limit),)


def _of_diagnosis(diagnosis: Diagnosis | None) -> tuple[Gate, ...]:
    return () if diagnosis is None else (systematic_gate(diagnosis),)


def _power(evidence: Evidence, held: Sequence[Held], floor: NoiseFloor | None) -> Power | None:
    if floor is None:
        return None
    noise = [floor.prompts[h.id].noise[: len(h.chosen)] for h in held]
    return power_of(evidence, floor.scales, np.concatenate(noise))


def _findings(prompt_id: str, endings: Sequence[Ending]) -> tuple[Finding, ...]:
    """What speaks against a prompt beside its positions."""
    return tuple(
        Finding(
            verdict="DRIFT" if ending.proven else "INCONCLUSIVE", message=ending_message([ending])
        )
        for ending in endings
        if ending.prompt == prompt_id
    )


def _message(
    judgement: Judgement,
    compared: Comparability,
    ratios: tuple[Interval, Interval],
    counts: tuple[int, int],
) -> Message:
    """The verdict, with the error among the likeliest tokens if no other is known."""
    whole, top_k = ratios
    only_top_k = whole.value is None and top_k.value is not None
    ratio = top_k if only_top_k else whole
    return message_of(
        judgement.verdict, compared, ratio, judgement.gates, *counts, top_k=only_top_k
    )


def _interval(all_gates: Sequence[Gate], name: str) -> Interval:
    gate = next(g for g in all_gates if g.name == name)
    return Interval(value=gate.value, low=gate.low, high=gate.high)


def _determinism(
    candidate: Recording, limits: Mapping[str, NDArray[np.float64]], held: Sequence[Held]
) -> Gate:
    """Repeats are of the device's own run. After its first other token that run
    has another text, and no arm measured the noise there: the largest
    tolerance of the baseline is used instead."""
    parted = {h.id: h.divergence for h in held}
    widest = max((float(limit.max(initial=0.0)) for limit in limits.values()), default=None)
    shifts: list[float | None] = []
    tolerances: list[float | None] = []
    causes: list[str | None] = []
    for repeat in candidate.repeats:
        limit, left = limits.get(repeat.prompt_id), parted.get(repeat.prompt_id)
        for difference in repeat.differences:
            at = difference.position
            shifts.append(difference.shift)
            causes.append(difference.cause)
            if limit is not None and at < len(limit) and (left is None or at <= left):
                tolerances.append(float(limit[at]))
            else:
                tolerances.append(widest)
    return determinism_gate(
        sum(r.rows_compared for r in candidate.repeats),
        sum(r.rows_equal for r in candidate.repeats),
        shifts,
        tolerances,
        candidate.device,
        causes,
    )


def _why_no_ratio(baseline: Baseline, held: Sequence[Held]) -> Message:
    if baseline.oracle is None:
        return message("reason.no_oracle")
    if not any(h.usable for h in held):
        return message("reason.not_finite")
    if not any(h.rows.whole for h in held):
        return message("reason.top_only")
    return message("reason.same_pass" if _same_pass(baseline.reference) else "reason.no_noise")


def _warnings(
    candidate: Recording,
    compared: Comparability,
    all_gates: Sequence[Gate],
    likeness: Message | None = None,
) -> tuple[Message, ...]:
    warned = [g.message for g in all_gates if g.status == "WARN" and g.message is not None]
    if candidate.engine.warning:
        text = candidate.engine.warning
        warned.append(message("warning.device", device=candidate.device, text=text))
    if gone := candidate.suite.left_out:
        warned.append(message("warning.left_out", prompts=len(gone), ids=", ".join(gone)))
    prompts = len(candidate.prompts)
    if prompts < FEW_PROMPTS:
        warned.append(message("warning.few_prompts", prompts=prompts, enough=FEW_PROMPTS))
    warned += [] if likeness is None else [likeness]
    warned += _never_chose(candidate)
    warned += [
        message("warning.allowed", field=d.field, candidate=d.candidate, baseline=d.baseline)
        for d in compared.allowed
    ]
    warned += [message("warning.unknown", field=field) for field in compared.unknown]
    return tuple(warned)


def _never_chose(candidate: Recording) -> Iterator[Message]:
    """A warning where the device followed given tokens and chose none of its own."""
    replays = [p.run.replay for p in candidate.prompts]
    forced = sum(replay != "free" for replay in replays)
    if all(replay == "forced-prefill" for replay in replays):
        yield message("warning.prefill_only")
    elif forced == len(replays):
        yield message("warning.forced_only")
    elif forced:
        yield message("warning.some_forced", forced=forced, prompts=len(replays))


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
