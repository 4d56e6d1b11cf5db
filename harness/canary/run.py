"""A canary on a device: made, opened, asked in stages, judged."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from harness.canary.answers import Answer, answer, from_tokens
from harness.canary.checkpoint import save
from harness.canary.diagnosis import diagnose
from harness.canary.layout import probes
from harness.canary.result import (
    Canary,
    CanaryFinding,
    CanaryProbe,
    CanarySizes,
    CanaryStage,
)
from harness.canary.sizes import Sizes
from harness.canary.stages import NEW_TOKENS, Abilities, Stage, stages
from harness.canary.words import Named, detail
from harness.devices.base import Completion, Device, Opened
from harness.devices.spec import DeviceSpec
from harness.errors import DeviceError
from harness.files.timestamp import utc_now
from harness.messages.message import message
from harness.process.progress import Progress

#: Requests of the batch stage, where the device runs several at a time.
BATCH = 8


@dataclass(frozen=True)
class CanaryPlan:
    """What to run.

    Attributes:
        sizes: of the canary.
        spec: the device; its model is the folder that the canary is written to.
    """

    sizes: Sizes
    spec: DeviceSpec

    @property
    def folder(self) -> Path:
        """Where the checkpoint is written."""
        return Path(self.spec.model)

    @property
    def able(self) -> Abilities:
        """What the device can be asked for."""
        kind = self.spec.kind
        budget = self.spec.engine_args.get("max_num_batched_tokens", "0")
        known = int(budget) if budget.isdecimal() and kind.family == "vllm" else 0
        batch = self.spec.batch_size if kind.batching else _concurrency(self.spec)
        return Abilities(kind.one_pass, batch, known, rows=kind.whole_rows)


def plan(sizes: Sizes, spec: DeviceSpec) -> CanaryPlan:
    """The plan for a device, with the engine arguments that let its engine cut prompts and
    keep prefixes. The user's own arguments win."""
    if spec.kind.family != "vllm":
        return CanaryPlan(sizes, spec)
    page = sizes.page_size
    budget = -(-(sizes.history + NEW_TOKENS) // page) * page
    wanted = {
        "max_model_len": str(sizes.context),
        "enable_chunked_prefill": "true",
        "enable_prefix_caching": "true",
        "max_num_batched_tokens": str(max(budget, spec.batch_size)),
    }
    args = {**wanted, **spec.engine_args}
    batch = spec.batch_size if spec.batch_size > 1 else BATCH
    return CanaryPlan(sizes, dataclasses.replace(spec, engine_args=args, batch_size=batch))


def _concurrency(spec: DeviceSpec) -> int:
    text = spec.engine_args.get("concurrency", "1")
    return int(text) if text.isdecimal() else 1


def run_canary(wanted: CanaryPlan, progress: Progress) -> Canary:
    """Make the checkpoint, run it on its device, and judge every row.

    Raises:
        HarnessError: if the checkpoint cannot be written, or the device does not open or
            fails; a wrong device is no error but an outcome.
    """
    from harness.devices.registry import open_target

    started = time.monotonic()
    save(wanted.sizes, wanted.folder)
    target = open_target(wanted.spec, progress=progress)
    try:
        opened = target.device.open()
        return on_device(wanted, target.device, opened, progress, started)
    finally:
        target.device.close()


def on_device(
    wanted: CanaryPlan, device: Device, opened: Opened, progress: Progress, started: float
) -> Canary:
    """Run every stage on an open device."""
    sizes = wanted.sizes
    done: list[CanaryStage] = []
    findings: list[tuple[Stage, Named]] = []
    before: list[Answer] = []
    for stage in stages(sizes, wanted.able):
        begun = time.monotonic()
        answers = _run(sizes, device, stage, progress)
        clear = any(detail(what.cause) > 1 for _, what in findings)
        found = None if clear else _judge(sizes, stage, answers, before, wanted.able)
        done.append(_stage(stage, answers, time.monotonic() - begun))
        if found is not None:
            findings.append((stage, found))
        before += answers
    told = _findings(findings, [s for s in done if s.exact < s.rows or s.right < s.tokens])
    counts = {
        "rows": sum(s.rows for s in done),
        "exact": sum(s.exact for s in done),
        "tokens": sum(s.tokens for s in done),
        "right": sum(s.right for s in done),
    }
    return Canary(
        created=utc_now(),
        outcome="WRONG" if told else "EXACT",
        message=message("canary.wrong" if told else "canary.exact", **counts),
        device=wanted.spec.device,
        dtype=opened.declared_dtype,
        sizes=CanarySizes(**dataclasses.asdict(sizes)),
        findings=told,
        stages=tuple(done),
        probes=tuple(
            CanaryProbe(name=p.name, part=p.part, layer=p.layer, index=p.index, distance=p.distance)
            for p in probes(sizes)
        ),
        seconds=time.monotonic() - started,
        load_s=opened.load.load_s,
        peak_rss_bytes=_peak_bytes(),
        engine=opened.engine,
        environment=dict(opened.environment),
    )


def _run(sizes: Sizes, device: Device, stage: Stage, progress: Progress) -> list[Answer]:
    requests = {r.prompt_id: r for r in stage.requests}
    came: dict[str, Completion] = {}
    with progress.stage(f"canary: {stage.name}", len(requests)) as step:
        for completion in device.generate(stage.requests):
            came[completion.prompt_id] = completion
            step()
    missing = [name for name in requests if name not in came]
    if missing:
        raise DeviceError(f"{device.name}: no answer came to {missing[0]!r} ({stage.name})")
    return [answer(sizes, request, came[name]) for name, request in requests.items()]


def _judge(
    sizes: Sizes, stage: Stage, answers: list[Answer], before: list[Answer], able: Abilities
) -> Named | None:
    rows = [a.rows for a in answers if a.rows is not None]
    if len(rows) < len(answers):
        return from_tokens(sizes, stage, answers)
    earlier = [a.rows for a in before if a.rows is not None]
    budget = able.budget if stage.name in ("chunked", "prefix", "long") else 0
    return diagnose(sizes, rows, earlier=earlier, budget=budget)


def _stage(stage: Stage, answers: list[Answer], seconds: float) -> CanaryStage:
    rows = [a.rows for a in answers if a.rows is not None]
    wrong = np.sum([r.wrong.sum(axis=0) for r in rows], axis=0).tolist() if rows else []
    return CanaryStage(
        name=stage.name,
        requests=len(answers),
        longest=max(len(a.request.prompt_token_ids) + len(a.tokens) for a in answers),
        rows=sum(len(r.logits) for r in rows),
        exact=sum(int(r.exact.sum()) for r in rows),
        tokens=sum(len(a.right) for a in answers),
        right=sum(a.right.count(True) for a in answers),
        wrong=tuple(wrong),
        seconds=seconds,
    )


def _findings(
    found: Sequence[tuple[Stage, Named]], bad: Sequence[CanaryStage]
) -> tuple[CanaryFinding, ...]:
    """The finding to mend first: of those that say most, the first. Other stages mostly show
    the same fault with less of it, so they are only named."""
    if not found:
        return ()
    stage, what = max(found, key=lambda pair: detail(pair[1].cause))
    return (
        CanaryFinding(
            cause=what.cause,
            layer=what.layer,
            stage=stage.name,
            also=tuple(other.name for other in bad if other.name != stage.name),
            message=what.message,
        ),
    )


def _peak_bytes() -> int:
    """Of this process, in bytes; macOS counts bytes, Linux KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
