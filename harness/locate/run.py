"""``harness locate``: replay a context by prefill, look inside, compare.

The candidate runs on its own device; reference, controls and oracle are
Transformers with the same hooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.baseline.baseline import Baseline
from harness.baseline.folder import baseline_folder, is_baseline, resolve
from harness.devices.base import Opened, TraceableDevice
from harness.devices.kinds import KINDS, REFERENCE_DEVICE, names
from harness.devices.memory import does_not_fit, streamed
from harness.devices.registry import Target, open_target
from harness.devices.spec import DeviceSpec
from harness.devices.trace import Trace
from harness.errors import UsageError
from harness.files.timestamp import utc_now
from harness.locate.judge import block_of, first_beyond, places, shows_at
from harness.locate.result import HandOver, LocatedPrompt, Location, Place, Side
from harness.process.progress import Progress
from harness.recording.context import Context
from harness.recording.recorder import opened
from harness.suite.encode import encode_suite, fitting
from harness.suite.suite import Suite

#: How many prompts are replayed unless some are named.
PROMPTS = 8

_Sequences = list[tuple[str, tuple[int, ...]]]


@dataclass(frozen=True)
class LocatePlan:
    """What to trace, and what to compare it with.

    Attributes:
        spec: the candidate.
        prompt_ids: only these prompts; empty for PROMPTS of the suite, evenly spread.
        baseline: recording or baseline folder whose tokens follow the prompts;
            None looks below ``root``, and without one replays the prompts alone.
        reference_device, reference_model: what it is compared with; None is the
            candidate's own model.
    """

    spec: DeviceSpec
    suite: Suite
    prompt_ids: tuple[str, ...] = ()
    baseline: Path | None = None
    root: Path = Path("baselines")
    reference_device: str = REFERENCE_DEVICE
    reference_model: str | None = None


@dataclass(frozen=True)
class _TracedArm:
    """The result of one run over all sequences."""

    traces: list[Trace]
    side: Side


def locate(plan: LocatePlan, progress: Progress) -> Location:
    """Find the first module whose output's error leaves the reference's noise.

    Raises:
        UsageError: for a device that cannot be traced, a dtype without an
            oracle, an unknown prompt, or tokens of another model.
        HarnessError: errors of devices and models.
    """
    target = open_target(plan.spec, progress=progress)
    if not isinstance(target.device, TraceableDevice):
        raise UsageError(
            f"{plan.spec.device} cannot be traced; locate needs access to the model, as on "
            f"{names(kind for kind in KINDS if kind.traceable)}"
        )
    if target.dtype == "float32":
        raise UsageError(
            "locate cannot judge float32: it is the oracle's own dtype; "
            "use --dtype bfloat16 or float16"
        )
    context = _context(plan, target, progress)
    prompts, sequences, candidate = _candidate(plan, target, context, progress)
    arms = _reference_arms(plan, target, sequences, progress)
    reference, oracle = arms.pop("reference"), arms.pop("oracle")
    controls = {name: arm.traces for name, arm in arms.items()}
    judged = places(candidate.traces, reference.traces, oracle.traces, controls, target.dtype)
    first = first_beyond(judged)
    return Location(
        created=utc_now(),
        module=None if first is None else block_of(first.name),
        place=None if first is None else first.name,
        sentence=_sentence(judged, first, prompts),
        places=tuple(judged),
        hand_over=None
        if first is None
        else _hand_over(first.name, (candidate, reference, oracle), prompts),
        candidate=candidate.side,
        reference=reference.side,
        controls=list(controls),
        prompts=prompts,
        warnings=_warnings(plan, prompts, judged),
    )


def _context(plan: LocatePlan, target: Target, progress: Progress) -> Context | None:
    """The tokens that follow the prompts, if a recording has them."""
    path = plan.baseline
    if path is None:
        slug = target.slug
        if plan.reference_model is not None:
            from harness.model.find import find_model

            slug = find_model(plan.reference_model, progress=progress.note).slug
        dtypes = dict.fromkeys((target.dtype, "bfloat16", "float16", "float32"))
        folders = (baseline_folder(plan.root, slug, plan.suite.name, d) for d in dtypes)
        path = next((folder for folder in folders if is_baseline(folder)), None)
    if path is None:
        progress.note("no baseline: the prompts are replayed without any output")
        return None
    progress.note(f"context: {path.as_posix()}")
    arms = resolve(path)
    return Context.of(arms.reference if isinstance(arms, Baseline) else arms)


def _candidate(
    plan: LocatePlan, target: Target, context: Context | None, progress: Progress
) -> tuple[tuple[LocatedPrompt, ...], _Sequences, _TracedArm]:
    with opened(target.device, progress) as facts:
        subject = target.subject
        suite = fitting(plan.suite, subject.tokenizer, subject.facts.name, progress.note)
        encoded = encode_suite(suite, subject.tokenizer, facts.max_positions)
        known = {p.id: p.token_ids for p in encoded}
        ids = _chosen(plan, tuple(known), suite.left_out)
        sequences = [(i, _tokens(i, known[i], context)) for i in ids]
        prompts = tuple(
            LocatedPrompt(id=i, prompt_tokens=len(known[i]), positions=len(tokens))
            for i, tokens in sequences
        )
        traces = _trace("candidate", target, sequences, progress)
    return prompts, sequences, _TracedArm(traces, _side(target, facts))


def _chosen(
    plan: LocatePlan, known: Sequence[str], left_out: Sequence[str] = ()
) -> tuple[str, ...]:
    for i in plan.prompt_ids:
        if i in left_out:
            raise UsageError(f"prompt {i}: this model has no chat template; name another prompt")
    unknown = [i for i in plan.prompt_ids if i not in known]
    if unknown:
        raise UsageError(f"the suite {plan.suite.name} has no prompt {unknown[0]!r}")
    if plan.prompt_ids:
        return plan.prompt_ids
    count = min(PROMPTS, len(known))
    return tuple(known[i * len(known) // count] for i in range(count))


def _tokens(prompt_id: str, prompt: tuple[int, ...], context: Context | None) -> tuple[int, ...]:
    """The prompt and the tokens after it, without the last token, whose row is not needed."""
    if context is None or prompt_id not in context.tokens:
        return prompt
    asked, output = context.tokens[prompt_id]
    if asked != prompt:
        raise UsageError(
            f"the context recording of {context.device} has other token ids for prompt "
            f"{prompt_id}: it was made from another suite, tokenizer or template"
        )
    return (*prompt, *output[:-1])


def _reference_arms(
    plan: LocatePlan, candidate: Target, sequences: _Sequences, progress: Progress
) -> dict[str, _TracedArm]:
    """Reference, oracle and controls, each opened, run and closed."""
    model = plan.reference_model or plan.spec.model
    spec = replace(plan.spec.plain(plan.reference_device), model=model)
    same = candidate.subject if plan.reference_model is None else None
    plans: list[tuple[str, str, dict[str, str]]] = [
        ("reference", candidate.dtype, {}),
        ("oracle", "float32", {}),
        ("control-eager", candidate.dtype, {"attention": "eager"}),
    ]
    arms = {}
    for name, dtype, args in plans:
        arm = replace(spec, dtype=dtype, engine_args={**spec.engine_args, **args})
        why = does_not_fit(arm, same.facts, dtype) if same is not None else None
        if why is not None:
            progress.once(f"{name}: {why}, so the weights are read layer by layer")
            arm = streamed(arm)
        target = open_target(arm, subject=same, progress=progress)
        if not isinstance(target.device, TraceableDevice):
            raise UsageError(f"{plan.reference_device} cannot be traced; use {REFERENCE_DEVICE}")
        if target.subject.facts.vocab_size != candidate.subject.facts.vocab_size:
            raise UsageError("candidate and reference have vocabularies of different sizes")
        same = target.subject
        with opened(target.device, progress) as facts:
            traces = _trace(name, target, sequences, progress)
        arms[name] = _TracedArm(traces, _side(target, facts))
    return arms


def _trace(name: str, target: Target, sequences: _Sequences, progress: Progress) -> list[Trace]:
    device: Any = target.device
    traces = []
    with progress.stage(f"{name}: {target.device.name} {target.dtype}", len(sequences)) as step:
        for trace in device.trace(sequences):
            traces.append(trace)
            step()
    return traces


def _side(target: Target, facts: Opened) -> Side:
    return Side(
        device=target.device.name,
        model=target.subject.facts.name,
        dtype=facts.declared_dtype,
        engine=facts.engine,
        environment=dict(facts.environment),
    )


def _hand_over(
    place: str, arms: tuple[_TracedArm, _TracedArm, _TracedArm], prompts: Sequence[LocatedPrompt]
) -> HandOver:
    candidate, reference, oracle = (arm.traces for arm in arms)
    index, position = shows_at(place, candidate, reference, oracle)
    prompt, module = prompts[index], block_of(place)
    return HandOver(
        module=module,
        prompt_id=prompt.id,
        position=position,
        step=max(0, position - prompt.prompt_tokens + 1),
        token_ids=list(candidate[index].token_ids),
        # The fields of msprobe's config.json; with level mix a module's name
        # in the list takes in everything that runs inside it.
        msprobe={
            "task": "tensor",
            "dump_path": "./msprobe_dump",
            "rank": [],
            "step": [0],
            "level": "mix",
            "async_dump": False,
            "tensor": {"scope": [], "list": [module], "data_mode": ["all"]},
        },
    )


def _sentence(
    judged: Sequence[Place], first: Place | None, prompts: Sequence[LocatedPrompt]
) -> str:
    over = f"{len(prompts)} prompts and {sum(p.positions for p in prompts)} positions"
    if first is None:
        if all(p.status == "EQUAL" for p in judged):
            return f"No module differs: every output is bit-equal to the reference's, over {over}."
        if all(p.status in ("EQUAL", "UNJUDGED") for p in judged):
            return f"Nothing could be judged: the reference itself is not finite, over {over}."
        worst = max(judged, key=lambda p: (p.ratio.value or 0.0) / p.limit)
        return (
            f"No module's error leaves the noise: the largest is {worst.ratio.value:.2f} times "
            f"the reference's, in {worst.name} (limit {worst.limit:.2f}), over {over}."
        )
    module = block_of(first.name)
    part = first.name.removeprefix(module).removeprefix(".")
    where = f"{module} (its {part})" if part else module
    return f"The error begins in {where}: {_how(first)}, over {over}."


def _how(place: Place) -> str:
    if place.status == "NONFINITE":
        return "its output is NaN or infinite where the reference's is finite"
    ratio, top_k = place.ratio, place.top_k
    span = "" if ratio.low is None else f" (95 % interval {ratio.low:.2f} to {ratio.high:.2f})"
    parts = []
    if ratio.value is not None:
        parts.append(
            f"{ratio.value:.2f} times the reference's error{span}, limit {place.limit:.2f}"
        )
    if place.peak is not None and place.peak > place.peak_limit:
        parts.append(f"{place.peak:.1f} times in a few coordinates, limit {place.peak_limit:.1f}")
    slope = place.slope
    if slope.value is not None and abs(slope.value) > place.slope_limit:
        side = "large" if slope.value > 0 else "small"
        parts.append(f"its output is {abs(slope.value):.1%} too {side}")
    if top_k is not None and top_k.value is not None:
        parts.append(f"{top_k.value:.2f} times among the likeliest tokens")
    return "; ".join(parts)


def _warnings(
    plan: LocatePlan, prompts: Sequence[LocatedPrompt], judged: Sequence[Place]
) -> tuple[str, ...]:
    lines = []
    if len(prompts) < 2:
        lines.append("One prompt gives no interval: the ratio alone decides. Name more prompts.")
    if any(p.status == "UNJUDGED" for p in judged):
        lines.append("The reference is not finite somewhere: those places were not judged.")
    if plan.spec.device == plan.reference_device and not plan.spec.engine_args:
        lines.append("Candidate and reference are the same device: only the model can differ.")
    return tuple(lines)
