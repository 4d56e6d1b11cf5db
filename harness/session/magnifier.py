"""The magnifier: candidate and reference again where noise is lower.

bfloat16 hides a fault that moves logits by less than its own rounding. In
float16 that rounding is an eighth, so the same fault stands out; in float32,
where the engine has it, it is 1/65,536. Kernels differ more there, in the order
of their sums and in approximations, so its limit is another one.

It warns and never decides: the port computes in another dtype.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from harness.alignment.align import compare
from harness.alignment.allow import STRICT, Allow
from harness.alignment.outcomes import Status
from harness.alignment.result import Alignment, Magnifier, span
from harness.baseline.baseline import Baseline
from harness.baseline.controls import control_ratio
from harness.baseline.folder import baseline_folder, is_baseline, load_baseline
from harness.baseline.make import Plan, make_baseline
from harness.devices.base import Replay
from harness.devices.kinds import kind_of
from harness.devices.registry import Target
from harness.devices.spec import DeviceSpec
from harness.errors import BaselineError, DeviceError, EmptyComparison, UsageError
from harness.messages.message import Message, message
from harness.messages.statement import Remark, remark
from harness.process.progress import Progress
from harness.recording.context import Context
from harness.recording.format import Recording, load_recording
from harness.recording.recorder import Options, record
from harness.statistics.detail import name_of
from harness.statistics.intervals import Interval
from harness.statistics.rows import NORMAL
from harness.suite.suite import Suite

#: The dtypes, and the largest error of a correct engine there, relative
#: to the reference's own or to a control's that is larger
#: (docs/magnifier-and-matrix.md).
LIMITS = {"float16": 1.1, "float32": 8.0}


@dataclass(frozen=True)
class MagnifierPlan:
    """What to magnify.

    ``spec`` is the candidate's device, which ``open_target`` makes in another
    dtype; ``recordings`` is the folder where the candidate's recordings go,
    ``stem`` the name of the run there. ``harness``: the words that start the command.
    """

    spec: DeviceSpec
    suite: Suite
    suite_source: str
    baseline: Baseline
    candidate: Recording
    open_target: Callable[[DeviceSpec], Target]
    recordings: Path
    stem: str
    allow: Allow = STRICT
    harness: tuple[str, ...] = ("harness",)


def run_magnifier(plan: MagnifierPlan, progress: Progress) -> Magnifier:
    """Judge the candidate in float16 and, unless that warns, in float32."""
    own = plan.baseline.reference.dtype
    if own in LIMITS:
        return _not_applicable("float16", message("magnifier.same_dtype", dtype=own))
    first = _run(plan, "float16", progress)
    if first.status == "WARN":
        return first
    progress.note(f"magnifier: {first.sentence}")
    return both(first, _run(plan, "float32", progress))


def both(coarse: Magnifier, fine: Magnifier) -> Magnifier:
    """The outcome in the finer dtype that ran, with the sentences of both."""
    decides = coarse if fine.status in ("NOT_RUN", "INCONCLUSIVE") else fine
    said = remark(message("magnifier.both", first=_said(coarse), second=_said(fine)))
    return decides.model_copy(update={"message": said.message, "sentence": said.sentence})


def _said(outcome: Magnifier) -> Message | str:
    return outcome.message or outcome.sentence


def _run(plan: MagnifierPlan, dtype: str, progress: Progress) -> Magnifier:
    try:
        baseline = _baseline(plan, dtype, progress)
        if not is_finite(baseline):
            return _not_applicable(dtype, _INFINITE)
        progress.note(f"magnifier: the candidate in {dtype}")
        target = plan.open_target(replace(plan.spec, dtype=dtype))
        out = plan.recordings / f"{plan.stem}-magnified-{dtype}.json"
        options = Options(
            replay=_replay(target),
            context=Context.of(baseline.reference),
            detail=baseline.reference.detail or NORMAL,
        )
        made = record(
            target.device, target.subject, plan.suite, options, out=out, progress=progress
        )
    except DeviceError as error:
        return _not_applicable(dtype, str(error), status="INCONCLUSIVE")
    except BaselineError as error:
        return _not_run(dtype, str(error))
    return magnified(made, baseline, allow=plan.allow, file=out.as_posix())


_INFINITE = message("magnifier.infinite")


def _not_applicable(dtype: str, why: Message | str, *, status: Status = "NOT_RUN") -> Magnifier:
    said = message("magnifier.not_applicable", dtype=dtype, reason=why)
    return Magnifier(dtype=dtype, status=status, message=said)


def _not_run(dtype: str, why: Message | str) -> Magnifier:
    said = message("magnifier.not_run", reason=why)
    return Magnifier(dtype=dtype, status="NOT_RUN", message=said)


def _replay(target: Target) -> Replay:
    """One pass per prompt where a device has one; engines make a request of each token."""
    return "forced-prefill" if kind_of(target.device.name).one_pass else "forced-decode"


def _baseline(plan: MagnifierPlan, dtype: str, progress: Progress) -> Baseline:
    """The baseline beside the run's own, made where it is missing.

    Raises:
        BaselineError: where it is missing and the candidate's checkpoint is
            not the reference's, so that it cannot be made from it.
    """
    stands = plan.baseline.folder
    if stands is None:
        raise BaselineError("the run was not held against a baseline folder")
    folder = stands.parent / dtype
    if is_baseline(folder):
        return load_baseline(folder)
    reference, candidate = plan.baseline.reference, plan.candidate
    root = stands.parents[2] if len(stands.parts) > 3 else Path(".")
    # In float32 a prefill is the oracle's own pass: the reference decodes there.
    forced = dtype != "float32"
    same = (candidate.model.weights, candidate.model.config) == (
        reference.model.weights,
        reference.model.config,
    )
    if not same or baseline_folder(root, reference.model.name, plan.suite.name, dtype) != folder:
        maker = DeviceSpec(reference.device, reference.model.name, dtype)
        command = [*plan.harness, "baseline", "make", *maker.options()]
        command += ["--suite", plan.suite_source, "--baseline-dir", root.as_posix()]
        command += ["--context", plan.baseline.file("reference")] if forced else []
        detail = reference.detail or NORMAL
        command += [] if detail == NORMAL else ["--detail", name_of(detail)]
        raise BaselineError(
            f"{folder.as_posix()}: no baseline in {dtype}, and the candidate's checkpoint is "
            f"another; make it with {shlex.join(command)}"
        )
    made = Plan(
        replace(plan.spec.plain(reference.device), dtype=dtype),
        plan.suite,
        root,
        context=Context.of(reference) if forced else None,
        suite_source=plan.suite_source,
        detail=reference.detail or NORMAL,
    )
    return make_baseline(made, progress)


def is_finite(baseline: Baseline) -> bool:
    """Whether every row of every arm is finite."""
    return not any(
        (p.run.rows.nonfinite > 0).any() for _, arm in baseline.arms() for p in arm.prompts
    )


def magnified(
    candidate: Recording, baseline: Baseline, *, allow: Allow = STRICT, file: str = ""
) -> Magnifier:
    """Judge a candidate of the magnifying dtype against a baseline of it. Pure."""
    dtype = baseline.reference.dtype
    if not is_finite(baseline):
        return _not_applicable(dtype, _INFINITE)
    try:
        # The dtype is what magnifies, so another one is never allowed.
        alignment = compare(candidate, baseline, allow=replace(allow, dtype=False))
    except EmptyComparison as error:
        return _not_run(dtype, str(error))
    if not alignment.comparability.comparable:
        return _not_run(dtype, alignment.message or alignment.sentence)
    limit = LIMITS[dtype] * max([1.0, *_control_ratios(baseline)])
    beyond = _beyond(alignment, limit)
    return Magnifier(
        dtype=dtype,
        status="WARN" if beyond else "PASS",
        message=_outcome(alignment, limit, beyond),
        verdict=alignment.verdict,
        error_ratio=alignment.error_ratio,
        top_k_error_ratio=alignment.top_k_error_ratio,
        limit=limit,
        positions=alignment.positions,
        gates=alignment.gates,
        candidate=file,
        baseline="" if baseline.folder is None else baseline.folder.as_posix(),
    )


def with_magnifier(
    alignment: Alignment, recording: Path, baseline: Path, *, allow: Allow = STRICT
) -> Alignment:
    """An alignment with the outcome of a recording in the magnifying dtype.

    Args:
        recording: the candidate's, on the tokens of that dtype's baseline.
        baseline: the folder of the alignment's own; the other stands beside it.

    Raises:
        UsageError: if the recording is not of a dtype that magnifies.
        BaselineError, FormatError: if either cannot be read.
    """
    candidate = load_recording(recording)
    if candidate.dtype not in LIMITS or candidate.dtype == alignment.candidate.dtype:
        raise UsageError(
            f"{recording}: is in {candidate.dtype}, which does not magnify "
            f"{alignment.candidate.dtype}; record it with --dtype float16"
        )
    beside = load_baseline(baseline.resolve().parent / candidate.dtype)
    closer = magnified(candidate, beside, allow=allow, file=recording.as_posix())
    return added(alignment, closer)


def added(alignment: Alignment, closer: Magnifier) -> Alignment:
    """The alignment with the magnifier's outcome, and its warning among the others."""
    warned = Remark(message=closer.message, sentence=closer.sentence)
    found = alignment.model_copy(update={"magnifier": closer})
    return found.with_remarks(warned) if closer.status == "WARN" else found


def _control_ratios(baseline: Baseline) -> list[float]:
    """Each control's error over the reference's; empty without an oracle."""
    oracle = baseline.oracle
    if oracle is None:
        return []
    ratios = [control_ratio(c, baseline.reference, oracle) for c in baseline.controls.values()]
    return [f.value or 0.0 for f in ratios]


def _beyond(alignment: Alignment, limit: float) -> tuple[Message, ...]:
    """The figures and gates that leave the noise, each in a few words."""
    beyond = [
        message(
            "magnifier.error", ratio=message("times.point", value=ratio.value), where=message(where)
        )
        for where, ratio in (
            ("where.vocabulary", alignment.error_ratio),
            ("where.top_k", alignment.top_k_error_ratio),
        )
        if _above(ratio, limit)
    ]
    failed = tuple(
        gate.name
        for gate in alignment.gates
        if gate.status == "FAIL" and _tells(gate.name, alignment.candidate.dtype)
    )
    if failed:
        beyond.append(message("magnifier.gates", gates=failed))
    return tuple(beyond)


def _tells(gate: str, dtype: str) -> bool:
    """Whether a failing gate says more than the error ratios.

    In float32 a correct engine's other order of summing is more than the
    reference's own noise, which the finer gates would take for a fault.
    """
    return gate == "nonfinite" or (dtype == "float16" and "error_ratio" not in gate)


def _above(ratio: Interval, limit: float) -> bool:
    decides = ratio.value if ratio.low is None else ratio.low
    return decides is not None and decides > limit


def _outcome(alignment: Alignment, limit: float, beyond: tuple[Message, ...]) -> Message:
    dtype = alignment.candidate.dtype
    if beyond:
        return message("magnifier.beyond", dtype=dtype, parts=beyond)
    ratio = alignment.error_ratio
    if ratio.value is not None:
        return message("magnifier.found", dtype=dtype, ratio=span(ratio, "times"), limit=limit)
    if alignment.verdict == "BIT_EXACT":
        return message("magnifier.equal", dtype=dtype)
    return message(
        "magnifier.no_error", dtype=dtype, sentence=alignment.message or alignment.sentence
    )
