"""A canary on a device: made, opened, asked in stages, judged."""

from __future__ import annotations

import dataclasses
import resource
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from harness.canary.answers import Answer, answer, from_tokens
from harness.canary.checkpoint import save
from harness.canary.diagnosis import diagnose
from harness.canary.layout import probes
from harness.canary.plan import CanaryPlan
from harness.canary.result import (
    Canary,
    CanaryFinding,
    CanaryProbe,
    CanarySizes,
    CanarySoak,
    CanaryStage,
)
from harness.canary.sizes import Sizes
from harness.canary.stages import Abilities, Stage, StageName, stages
from harness.canary.words import Named, detail
from harness.devices.base import Completion, CountingDevice, Device, Opened, PreemptingDevice
from harness.errors import DeviceError
from harness.files.timestamp import utc_now
from harness.messages.message import message
from harness.process.progress import Progress, Step

#: Answers whose tokens a cache may have kept.
_KEPT = 64


def run_canary(wanted: CanaryPlan, progress: Progress) -> Canary:
    """Make the checkpoint, run it on its device, and judge every row.

    Raises:
        HarnessError: if the checkpoint cannot be written, or the device does not open or
            fails; a wrong device is no error but an outcome.
    """
    started = time.monotonic()
    save(wanted.sizes, wanted.folder)
    with ExitStack() as stack:
        wanted, device, opened = _opened(wanted, progress, stack)
        return on_device(wanted, device, opened, progress, started)


def _opened(
    wanted: CanaryPlan, progress: Progress, stack: ExitStack
) -> tuple[CanaryPlan, Device, Opened]:
    """The open device, which the stack closes: if an engine does not start with a cache that
    is small, with its own size of it."""
    from harness.devices.registry import open_target

    device = open_target(wanted.spec, progress=progress).device
    try:
        opened = device.open()
    except DeviceError as error:
        device.close()
        if wanted.small_cache is None:
            raise
        progress.note(f"canary: without {wanted.small_cache}, because of: {error}")
        return _opened(wanted.with_a_large_cache(), progress, stack)
    except BaseException:
        device.close()
        raise
    stack.callback(device.close)
    return wanted, device, opened


def on_device(
    wanted: CanaryPlan, device: Device, opened: Opened, progress: Progress, started: float
) -> Canary:
    """Run every stage on an open device, once or for as long as a soak lasts."""
    run = _Run(wanted.sizes, device, wanted.able_with(opened), progress)
    soak = _soaked(wanted, run)
    done = tuple(run.stages.values())
    told = _findings(run.findings, [s for s in done if s.exact < s.rows or s.right < s.tokens])
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
        sizes=CanarySizes(**_as_fields(wanted.sizes)),
        findings=told,
        stages=done,
        soak=soak,
        probes=tuple(
            CanaryProbe(name=p.name, part=p.part, layer=p.layer, index=p.index, distance=p.distance)
            for p in probes(wanted.sizes)
        ),
        seconds=time.monotonic() - started,
        load_s=opened.load.load_s,
        peak_rss_bytes=_peak_bytes(),
        engine=opened.engine,
        environment=dict(opened.environment),
    )


def _soaked(wanted: CanaryPlan, run: _Run) -> CanarySoak | None:
    """The first round, and more of them until the time is over. A soak of a device whose
    first round is wrong would show nothing more."""
    begun = time.monotonic()
    wrong: list[tuple[int, float]] = []
    number = 0
    while not number or (not run.first_is_wrong and time.monotonic() - begun < wanted.soak_s):
        share = f"{(time.monotonic() - begun) / 60:.1f} of {wanted.soak_s / 60:g} min"
        if not run.turn(number, share):
            wrong.append((number + 1, time.monotonic() - begun))
        number += 1
    if not wanted.soak_s:
        return None
    return CanarySoak(
        minutes=wanted.soak_s / 60,
        rounds=number,
        seconds=time.monotonic() - begun,
        wrong_rounds=len(wrong),
        first_wrong=wrong[0][0] if wrong else None,
        first_wrong_s=wrong[0][1] if wrong else None,
    )


class _Run:
    """What came of the stages so far.

    Attributes:
        stages: by name; those of several rounds are added up.
        findings: of each stage that is wrong, until one names its cause.
    """

    def __init__(self, sizes: Sizes, device: Device, able: Abilities, progress: Progress) -> None:
        self.stages: dict[StageName, CanaryStage] = {}
        self.findings: list[tuple[StageName, Named]] = []
        self.first_is_wrong = False
        self._sizes, self._device, self._able = sizes, device, able
        self._progress = progress
        self._earlier: list[Answer] = []

    def turn(self, number: int, share: str) -> bool:
        """Run every stage once; whether every bit is right.

        Args:
            share: how much of a soak is over, for the progress.
        """
        asked = list(stages(self._sizes, self._able, number))
        right = True
        if not number:
            for stage in asked:
                with self._progress.stage(f"canary: {stage.name}", len(stage.requests)) as step:
                    right &= self._stage(stage, step)
            self.first_is_wrong = not right
            return right
        total = sum(len(stage.requests) for stage in asked)
        with self._progress.stage(f"canary: round {number + 1}, {share}", total) as step:
            for stage in asked:
                right &= self._stage(stage, step)
        return right

    def _stage(self, stage: Stage, step: Step) -> bool:
        begun, lost = time.monotonic(), _preemptions(self._device)
        answers = _run(self._device, stage, step)
        if not any(detail(what.cause) > 1 for _, what in self.findings):
            found = _judge(stage, answers, self._earlier, self._able)
            self.findings += [] if found is None else [(stage.name, found)]
        after = _preemptions(self._device)
        made = _outcome(stage, answers, time.monotonic() - begun)
        if after is not None and lost is not None:
            made = made.model_copy(update={"preemptions": after - lost})
        before = self.stages.get(stage.name)
        self.stages[stage.name] = made if before is None else _added(before, made)
        self._earlier = [*self._earlier, *answers][-_KEPT:]
        return made.exact == made.rows and made.right == made.tokens


def _preemptions(device: Device) -> int | None:
    """How many requests have lost their cache so far, by the engine's own count; None where
    it does not count."""
    if isinstance(device, PreemptingDevice):
        return device.preemptions()
    return device.counters()["preemptions"] if isinstance(device, CountingDevice) else None


def _run(device: Device, stage: Stage, step: Step) -> list[Answer]:
    if stage.dropped:
        _drop(device, stage)
    requests = {r.prompt_id: r for r in stage.requests}
    came: dict[str, Completion] = {}
    for completion in device.generate(stage.requests):
        came[completion.prompt_id] = completion
        step()
    missing = [name for name in requests if name not in came]
    if missing:
        raise DeviceError(f"{device.name}: no answer came to {missing[0]!r} ({stage.name})")
    return [answer(stage.sizes, request, came[name]) for name, request in requests.items()]


def _drop(device: Device, stage: Stage) -> None:
    """Begin some requests, and drop those that still run when the first has ended."""
    running = iter(device.generate(stage.dropped))
    next(running, None)
    if isinstance(running, Generator):
        running.close()


def _judge(
    stage: Stage, answers: list[Answer], before: list[Answer], able: Abilities
) -> Named | None:
    rows = [a.rows for a in answers if a.rows is not None]
    if len(rows) < len(answers):
        return from_tokens(stage.sizes, stage, answers)
    earlier = [a.rows for a in before if a.rows is not None]
    budget = 0 if stage.name in ("decode", "batch", "after") else able.budget
    return diagnose(stage.sizes, rows, earlier=earlier, budget=budget)


def _outcome(stage: Stage, answers: list[Answer], seconds: float) -> CanaryStage:
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
        dropped=max(0, len(stage.dropped) - 1),
        table=None if stage.sizes.original_context is None else stage.sizes.table,
    )


def _added(a: CanaryStage, b: CanaryStage) -> CanaryStage:
    """The same stage of two rounds as one."""
    counts = {
        name: getattr(a, name) + getattr(b, name)
        for name in ("requests", "rows", "exact", "tokens", "right", "seconds", "dropped")
    }
    lost = None if a.preemptions is None else a.preemptions + (b.preemptions or 0)
    wrong = tuple(x + y for x, y in zip(a.wrong, b.wrong, strict=True))
    more = {"longest": max(a.longest, b.longest), "preemptions": lost, "wrong": wrong}
    return a.model_copy(update=counts | more)


def _findings(
    found: Sequence[tuple[StageName, Named]], bad: Sequence[CanaryStage]
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
            stage=stage,
            also=tuple(other.name for other in bad if other.name != stage),
            message=what.message,
        ),
    )


def _as_fields(sizes: Sizes) -> dict[str, Any]:
    """The sizes of the checkpoint; a table of LongRoPE belongs to a stage."""
    return {k: v for k, v in dataclasses.asdict(sizes).items() if k != "table"}


def _peak_bytes() -> int:
    """Of this process, in bytes; macOS counts bytes, Linux KiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
