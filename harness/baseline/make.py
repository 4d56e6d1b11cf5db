"""The making of a baseline: which arms, and each recorded in turn.

Controls take kernel paths that really differ from the reference's. The number
of threads is not a control: it changes no bit.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from harness.baseline.arm_files import is_linked, is_own
from harness.baseline.baseline import (
    CONTROL,
    MIN_CONTROLS,
    ORACLE,
    REFERENCE,
    Baseline,
    check_arm,
    equals_reference,
)
from harness.baseline.controls import contradiction, disagreement
from harness.baseline.finite import check_finite
from harness.baseline.folder import (
    baseline_folder,
    check_place,
    load_baseline,
    put_in_place,
    staging_folder,
)
from harness.devices.base import Replay
from harness.devices.kinds import REFERENCE_DEVICE
from harness.devices.memory import Weights, does_not_fit, streamed
from harness.devices.registry import Target, open_target
from harness.devices.spec import DeviceSpec
from harness.errors import BaselineError, FormatError, HarnessError, UsageError
from harness.files.atomic import make_folder
from harness.files.locks import locked_folder
from harness.files.own import is_marked, mark, unmark
from harness.model.subject import Subject
from harness.process.child import Child
from harness.process.progress import Progress
from harness.process.python import module_command, with_this_harness
from harness.recording.context import Context
from harness.recording.format import Recording, load_recording
from harness.recording.recorder import Options, is_layers, record
from harness.statistics.detail import name_of
from harness.statistics.rows import NORMAL, Detail
from harness.suite.suite import Suite

#: Environment that restricts torch and oneDNN to the next lower instruction
#: set, by what ``torch.backends.cpu.get_cpu_capability`` says.
LOWER_ISA: Mapping[str, Mapping[str, str]] = {
    "AVX512": {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2"},
    "AVX2": {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41"},
}


@dataclass(frozen=True)
class Plan:
    """What a baseline is made of.

    Attributes:
        spec: the reference; oracle and controls differ from it in dtype and
            in engine arguments of their own, and share its others.
        root: the folder of all baselines.
        suite_source: the suite as ``--suite`` takes it, for child processes.
        oracle: where the oracle's weights are: ``memory``; ``stream``, on disk and read layer by
            layer; ``auto`` streams what does not fit into memory.
        reference: the same for reference and controls. ``stream`` needs a context.
        detail: how much the arms keep of a row.
    """

    spec: DeviceSpec
    suite: Suite
    root: Path
    context: Context | None = None
    suite_source: str = ""
    subject: Subject | None = None
    oracle: Weights = "auto"
    reference: Weights = "auto"
    detail: Detail = NORMAL


@dataclass(frozen=True)
class ArmPlan:
    """One arm: how it is recorded. ``environment`` asks for a child process; a ``spare``
    one is recorded only where the others before it are too few."""

    name: str
    replay: Replay
    dtype: str | None
    engine_args: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    spare: bool = False


def make_baseline(plan: Plan, progress: Progress) -> Baseline:
    """Record every arm and put the baseline in its place, whole.

    An interrupted run is continued: finished arms and prompts are kept in a
    hidden folder beside the baseline's folder.

    Raises:
        BaselineError: if fewer than two controls differ from the reference, or if its logits
            are not finite.
        UsageError: for weights that cannot be streamed.
        HarnessError: if the place cannot be written, among others.
    """
    _check_weights(plan)
    target = _target(plan, plan.spec, progress)
    plan = replace(plan, subject=target.subject)
    folder = baseline_folder(plan.root, target.slug, plan.suite.name, target.dtype)
    staging = staging_folder(folder)
    if is_linked(plan.root, folder.parent):
        raise BaselineError(
            f"{folder}: is reached through a link, and a baseline is not written through one; "
            "choose another --baseline-dir"
        )
    check_place(folder)
    try:
        make_folder(staging)
    except OSError as error:
        raise HarnessError(
            f"{folder}: cannot be written ({error.strerror}); choose another --baseline-dir"
        ) from error
    if plan.context is not None and target.dtype == "float32":
        progress.note(
            "no noise floor: in float32 with --context reference and oracle are the same pass, so "
            "nothing but equal bits can be shown; leave --context out, or judge in bfloat16"
        )
    with locked_folder(staging):
        progress.note(f"making the baseline {folder}")
        kept = _make_arms(plan, staging, progress)
        _finish(kept, folder)
    return load_baseline(folder)


def _finish(kept: Mapping[str, Recording], folder: Path) -> None:
    """Put the arms in their place, if they show enough noise."""
    controls = _controls(kept)
    if controls < MIN_CONTROLS:
        few = "1 control shows" if controls == 1 else f"{controls} controls show"
        raise BaselineError(
            f"{folder}: only {few} the reference's noise on this host, "
            f"but a noise floor needs {MIN_CONTROLS}{_why_few(kept)}; "
            "make the baseline on another CPU or GPU"
        )
    try:
        for stray in staging_folder(folder).iterdir():
            if is_layers(stray):
                shutil.rmtree(stray)
            elif stray.stem not in kept and is_own(stray):
                stray.unlink()
            unmark(stray)
    except OSError as error:
        raise HarnessError(f"{folder}: cannot be written ({error.strerror})") from error
    put_in_place(folder)


def _controls(arms: Mapping[str, Recording]) -> int:
    return sum(name.startswith(CONTROL) for name in arms)


def _why_few(kept: Mapping[str, Recording]) -> str:
    if kept[REFERENCE].engine.attention != "eager":
        return ""
    return " (eager attention, a control of other models, is this reference's own)"


def _make_arms(plan: Plan, staging: Path, progress: Progress) -> dict[str, Recording]:
    """Every arm that shows noise of its own, by name, in the staging folder."""
    replay: Replay = "free" if plan.context is None else "forced-prefill"
    first = ArmPlan(REFERENCE, replay, plan.spec.dtype)
    out = staging / f"{REFERENCE}.json"
    reference = _record(plan, first, plan.context, progress, out)
    check_finite(reference)
    kept = {REFERENCE: reference}
    for arm in arm_plans(plan, reference):
        if arm.spare and _controls(kept) >= MIN_CONTROLS:
            continue
        made = _make_arm(plan, arm, reference, staging, progress)
        check_arm(arm.name, made, reference, may_equal=True)
        if arm.name == ORACLE:
            check_finite(reference, made)
        twin = next((name for name, other in kept.items() if equals_reference(made, other)), None)
        if arm.name != ORACLE and twin is not None:
            progress.note(f"{arm.name}: bit-equal to {twin} here, so it shows no noise of its own")
            continue
        oracle = kept.get(ORACLE)
        if _usable(arm.name, made, reference, oracle, progress):
            kept[arm.name] = made
    return kept


def _usable(
    name: str,
    made: Recording,
    reference: Recording,
    oracle: Recording | None,
    progress: Progress,
) -> bool:
    """Whether an arm shows noise; the oracle always.

    Raises:
        BaselineError: if it contradicts the reference. Then one of the two is not
            this model, and nobody knows which: no port may be judged by them.
    """
    if name == ORACLE or oracle is None:
        return True
    wrong = contradiction(made, reference, oracle)
    if wrong is not None:
        raise BaselineError(
            f"{name} ({_path_of(made)}) and the reference ({_path_of(reference)}) contradict each "
            f"other: {wrong}; make the faulty path right, or name the other for the reference, "
            "such as --engine-arg attention=eager"
        )
    alike = disagreement(made, reference, oracle)
    if alike is not None:
        progress.note(f"{name}: {alike}; the arm is left out")
    return alike is None


def _path_of(arm: Recording) -> str:
    """The kernel path of an arm, as far as it is named."""
    return arm.engine.attention or arm.prompts[0].run.replay


def arms_in_memory(
    plan: Plan, progress: Progress, *, oracle: bool = True, controls: bool = True
) -> Baseline:
    """The arms around ``plan.context``, kept in memory only. Arms that need a process
    of their own, that equal the reference or that are broken are left out."""
    plan = replace(plan, subject=_target(plan, plan.spec, progress).subject)
    reference = _record(
        plan, ArmPlan(REFERENCE, "forced-prefill", plan.spec.dtype), plan.context, progress
    )
    made: dict[str, Recording] = {}
    for arm in arm_plans(plan, reference):
        if not (oracle if arm.name == ORACLE else controls) or arm.environment:
            continue
        if arm.spare and _controls(made) >= MIN_CONTROLS:
            continue
        recording = _record(plan, arm, plan.context, progress)
        if arm.name != ORACLE and equals_reference(recording, reference):
            continue
        if not _usable(arm.name, recording, reference, made.get(ORACLE), progress):
            continue
        check_arm(arm.name, recording, reference)
        made[arm.name] = recording
    truth = made.pop(ORACLE, None)
    return Baseline(reference, truth, made)


def arm_plans(plan: Plan, reference: Recording) -> list[ArmPlan]:
    """Oracle and controls for a reference, most telling first."""
    dtype = reference.dtype
    oracle = ArmPlan(ORACLE, "forced-prefill", "float32")
    kind = plan.spec.kind
    if not kind.needs_model:
        seeds = ({"seed": "1"}, {"seed": "2"})
        controls = [ArmPlan(f"{CONTROL}seed-{a['seed']}", "forced-decode", dtype, a) for a in seeds]
        return [oracle, *controls]
    stepwise = plan.context is None
    replay: Replay = "forced-decode" if stepwise else "forced-prefill"
    # A reference is eager where its architecture has no other attention.
    eager = [ArmPlan(f"{CONTROL}eager", replay, dtype, {"attention": "eager"})]
    controls = [] if reference.engine.attention == "eager" else eager
    # In float32 a prefill is the oracle itself.
    if stepwise and dtype != "float32":
        controls.append(ArmPlan(f"{CONTROL}prefill", "forced-prefill", dtype))
    if not stepwise:
        widened = (reference.engine.matmul or "").startswith("widened")
        other = "native" if widened else "widened"
        controls.append(ArmPlan(f"{CONTROL}{other}", replay, dtype, {"matmul": other}))
    lower = LOWER_ISA.get(reference.engine.instruction_set or "")
    if kind.one_pass and kind.backend == "cpu" and lower:
        controls.append(ArmPlan(f"{CONTROL}isa", replay, dtype, {}, lower))
    # Correct on any processor, and so of use where the usual ones are its own path.
    controls += [
        ArmPlan(f"{CONTROL}{split}", replay, dtype, {"matmul": split}, spare=True)
        for split in ("split-2", "split-3")
        if kind.family == "transformers"
    ]
    return [oracle, *controls]


def _target(plan: Plan, spec: DeviceSpec, progress: Progress) -> Target:
    if not spec.kind.whole_rows:
        raise UsageError(
            "a server gives its largest log-probabilities only, but an arm needs whole rows; "
            f"use --device {REFERENCE_DEVICE}, and judge the server's own recording against it"
        )
    return open_target(spec, subject=plan.subject, progress=progress)


def _check_weights(plan: Plan) -> None:
    for option, chosen in (("--oracle", plan.oracle), ("--reference", plan.reference)):
        if chosen == "stream" and plan.spec.kind.family != "transformers":
            raise UsageError(f"{option} stream is for hf-cpu, hf-gpu and hf-npu")
    if plan.reference == "stream" and plan.context is None:
        raise UsageError(
            "--reference stream reads all weights for each pass, so it cannot generate; give "
            "--context RECORDING, whose tokens the arms are built around"
        )


def _spec_of(plan: Plan, arm: ArmPlan, progress: Progress) -> DeviceSpec:
    """The device of an arm; it streams its weights if asked to, or if they do not fit."""
    args = {**plan.spec.engine_args, **arm.engine_args}
    spec = replace(plan.spec, dtype=arm.dtype, engine_args=args)
    chosen = plan.oracle if arm.name == ORACLE else plan.reference
    if "weights" in args or arm.replay != "forced-prefill":
        return spec
    if chosen == "auto" and plan.subject is not None and arm.dtype is not None:
        why = does_not_fit(spec, plan.subject.facts, arm.dtype)
        if why is not None:
            progress.once(f"{arm.name}: {why}, so the weights are read layer by layer")
            chosen = "stream"
    return streamed(spec) if chosen == "stream" else spec


def _make_arm(
    plan: Plan, arm: ArmPlan, reference: Recording, staging: Path, progress: Progress
) -> Recording:
    out = staging / f"{arm.name}.json"
    finished = _finished(out, arm, reference)
    if finished is not None:
        progress.note(f"{arm.name}: finished before")
        return finished
    if arm.environment:
        progress.note(f"{arm.name}: {arm.replay}")
        made = _in_child(plan, arm, staging, out, progress)
        _mark(out)
        return made
    return _record(plan, arm, Context.of(reference), progress, out)


def _mark(out: Path, data: bytes | None = None) -> None:
    """Note that this arm is finished work, for the next run after a kill."""
    with contextlib.suppress(OSError, HarnessError):  # else the next run makes it again
        mark(out, data)


def _record(
    plan: Plan, arm: ArmPlan, context: Context | None, progress: Progress, out: Path | None = None
) -> Recording:
    progress.note(f"{arm.name}: {arm.replay}")
    target = _target(plan, _spec_of(plan, arm, progress), progress)
    _check_vocabulary(context, target.subject.facts.vocab_size)
    options = Options(replay=arm.replay, context=context, detail=plan.detail)
    return record(
        target.device,
        target.subject,
        plan.suite,
        options,
        out=out,
        progress=progress,
        before_saving=_mark,
        reuse=arm.name == REFERENCE and out is not None and is_marked(out),
    )


def _check_vocabulary(context: Context | None, width: int) -> None:
    """Tokens of other tools may not fit the model, and engines report this badly."""
    for prompt_id, (_, output) in (context.tokens if context else {}).items():
        if max(output, default=0) >= width:
            raise UsageError(
                f"prompt {prompt_id}: the output token {max(output)} is outside this model's "
                f"vocabulary of {width}; it comes from another model"
            )


def _finished(out: Path, arm: ArmPlan, reference: Recording) -> Recording | None:
    """An arm left by an interrupted run of this user's, if it still fits."""
    if not is_marked(out):
        return None
    try:
        made = load_recording(out)
        check_arm(arm.name, made, reference)
    except (FormatError, BaselineError):
        return None
    if any(p.run.replay != arm.replay for p in made.prompts):
        return None
    same = all(
        made.environment.get(k) == reference.environment.get(k)
        for k in reference.environment
        if k not in LOWER_ISA["AVX2"]
    )
    return made if same else None


def _in_child(plan: Plan, arm: ArmPlan, staging: Path, out: Path, progress: Progress) -> Recording:
    """Record in a separate process, because torch reads these variables at start."""
    context = staging / f"{REFERENCE}.json"
    spec = _spec_of(plan, arm, progress)
    command = [
        *module_command(sys.executable, "harness", "record", *spec.options()),
        *("--suite", plan.suite_source, "--replay", arm.replay),
        *("--max-new-tokens", str(plan.suite.generation.max_new_tokens)),
        *("--context", str(context), "--out", str(out), "--detail", name_of(plan.detail)),
    ]
    status = _run(command, with_this_harness({**os.environ, **arm.environment}), progress)
    if status != 0:
        raise HarnessError(
            f"{arm.name}: its process ended with status {status}; "
            f"repeat it with {' '.join(f'{k}={v}' for k, v in arm.environment.items())} set"
        )
    return load_recording(out)


def _run(command: list[str], environment: dict[str, str], progress: Progress) -> int:
    """Run a child process and pass its progress on; its exit status."""
    with Child(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as child:
        assert child.process.stderr is not None  # a pipe was asked for
        for line in child.process.stderr:
            progress.once(line.decode("utf-8", "backslashreplace").rstrip("\r\n"))
        return child.process.wait()
