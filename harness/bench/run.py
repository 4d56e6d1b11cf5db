"""The bench of one device: accuracy first, then the grid, kept as it goes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.alignment.align import compare
from harness.alignment.result import Alignment
from harness.baseline.folder import baseline_folder, is_baseline, load_baseline
from harness.bench.limits import measure_limits
from harness.bench.machine import machine_fingerprint
from harness.bench.measure import Text, measure_cell, requests_of, run_once
from harness.bench.remarks import warnings_of
from harness.bench.result import (
    Accuracy,
    Bench,
    Cell,
    CellTimes,
    RepeatTimes,
    load_bench,
    save_bench,
)
from harness.devices.base import Device, Opened
from harness.devices.registry import Target
from harness.errors import DeviceError, FormatError, HarnessError
from harness.files.timestamp import utc_now
from harness.messages.message import message
from harness.messages.render import render
from harness.process.progress import Progress
from harness.recording.context import Context
from harness.recording.recorder import Options, opened, record
from harness.statistics.rows import NORMAL
from harness.suite.encode import encode_suite, fitting
from harness.suite.suite import Suite


@dataclass(frozen=True)
class BenchPlan:
    """What to measure.

    Attributes:
        prompt_lengths, batch_sizes: the grid.
        output_tokens: of every request.
        repeats: warm runs of each cell.
        limits: whether to measure bandwidth and matrix rate.
    """

    prompt_lengths: tuple[int, ...] = (32, 128, 512)
    batch_sizes: tuple[int, ...] = (1,)
    output_tokens: int = 32
    repeats: int = 5
    limits: bool = True

    def grid(self) -> tuple[Cell, ...]:
        """Every cell, the small ones first."""
        return tuple(
            Cell(prompt_tokens=length, output_tokens=self.output_tokens, batch_size=size)
            for size in sorted(set(self.batch_sizes))
            for length in sorted(set(self.prompt_lengths))
        )


def judge_first(
    target: Target, suite: Suite, root: Path, progress: Progress
) -> tuple[Accuracy, Alignment | None]:
    """Compare the device with its committed baseline before measuring its speed.

    Without a baseline nothing is judged, and the figures say so.
    """
    folder = baseline_folder(root, target.slug, suite.name, target.dtype)
    if not is_baseline(folder):
        progress.note(f"{folder}: no baseline here, so the tokens are not judged")
        said = message("bench.no_baseline", folder=folder.as_posix())
        return Accuracy(verdict=None, message=said), None
    baseline = load_baseline(folder)
    made = record(
        target.device,
        target.subject,
        suite,
        Options(context=Context.of(baseline.reference), detail=baseline.reference.detail or NORMAL),
        progress=progress,
    )
    alignment = compare(made, baseline)
    return accuracy_of(alignment, suite), alignment


def accuracy_of(alignment: Alignment, suite: Suite) -> Accuracy:
    """The verdict of an alignment, for a bench of the same device."""
    return Accuracy(
        verdict=alignment.verdict,
        sentence=alignment.sentence,
        message=alignment.message,
        suite=suite.name,
    )


def run_bench(
    target: Target,
    suite: Suite,
    plan: BenchPlan,
    accuracy: Accuracy,
    out: Path | None,
    progress: Progress,
) -> Bench:
    """Measure every cell; ``out`` holds what there is after each repeat.

    A bench that was cut off goes on where it was, if ``out`` holds one of the
    same device, model, machine and versions.

    Raises:
        HarnessError: errors of the device or the disk before the first
            repeat is done; later a failing cell says so and the rest goes on.
    """
    with opened(target.device, progress) as facts:
        text = bench_text(suite, target, facts)
        bench = _head(target, facts, accuracy)
        before = None if out is None else _unfinished(out, bench)
        if before is not None:
            progress.note(f"{out}: going on with what an interrupted bench measured")
        first = _first_request(target.device, text)
        bench = bench.model_copy(update={"first_request_s": first})
        for cell in _fitting(plan.grid(), facts, progress):
            done = _finished(before, cell)
            bench = _measure(target.device, bench, cell, text, plan.repeats, done, out, progress)
        if plan.limits:
            backend = facts.engine.device or "cpu"
            limits = measure_limits(
                target.subject.facts, facts.declared_dtype, backend, facts.load.weights_bytes
            )
            bench = bench.model_copy(update={"limits": limits})
    bench = bench.model_copy(
        update={"complete": True, "warnings": tuple(render(w, "en") for w in warnings_of(bench))}
    )
    if out is not None:
        save_bench(bench, out)
    return bench


def _measure(
    device: Device,
    bench: Bench,
    cell: Cell,
    text: Text,
    repeats: int,
    done: Sequence[RepeatTimes],
    out: Path | None,
    progress: Progress,
) -> Bench:
    """The bench with one cell more; its file after each repeat."""
    rest = bench.cells

    def keep(times: CellTimes) -> None:
        step()
        if out is not None:
            save_bench(bench.model_copy(update={"cells": (*rest, times)}), out)

    try:
        with progress.stage(f"{device.name} bench {cell.name}", repeats - len(done)) as step:
            times = measure_cell(device, cell, text, repeats, finished=done, on_repeat=keep)
    except DeviceError as error:
        if not any(c.repeats for c in rest):
            raise
        progress.note(f"{cell.name}: {error}")
        times = CellTimes(cell=cell, problem=str(error))
    return bench.model_copy(update={"cells": (*rest, times)})


def bench_text(suite: Suite, target: Target, facts: Opened) -> Text:
    """The suite's prompts, end to end, to cut prompts of any length from."""
    subject = target.subject
    suite = fitting(suite, subject.tokenizer, subject.facts.name, lambda _line: None)
    prompts = encode_suite(suite, subject.tokenizer, facts.max_positions)
    return Text(tuple(i for prompt in prompts for i in prompt.token_ids))


def _first_request(device: Device, text: Text) -> float:
    """Seconds of the very first request, which also ends the warm-up of the engine."""
    cell = Cell(prompt_tokens=8, output_tokens=2, batch_size=1)
    started = time.perf_counter()
    run_once(device, requests_of(cell, text))
    return time.perf_counter() - started


def _fitting(cells: Sequence[Cell], facts: Opened, progress: Progress) -> list[Cell]:
    fit = [c for c in cells if c.prompt_tokens + c.output_tokens <= facts.max_positions]
    for cell in cells:
        if cell not in fit:
            progress.note(
                f"{cell.name}: longer than the {facts.max_positions} positions of the model"
            )
    if not fit:
        raise HarnessError(
            f"no cell of the grid fits the model's {facts.max_positions} positions; "
            "give shorter --prompt-lengths or --output-tokens"
        )
    return fit


def _head(target: Target, facts: Opened, accuracy: Accuracy) -> Bench:
    return Bench(
        created=utc_now(),
        complete=False,
        device=target.device.name,
        dtype=facts.declared_dtype,
        machine=machine_fingerprint(facts.environment),
        model=target.subject.facts,
        engine=facts.engine,
        environment=dict(facts.environment),
        load=facts.load,
        cells=(),
        accuracy=accuracy,
    )


def _unfinished(out: Path, mine: Bench) -> Bench | None:
    """The cells that an interrupted bench of the same configuration measured."""
    if not out.exists():
        return None
    try:
        earlier = load_bench(out)
    except FormatError:
        return None
    volatile = {"created", "complete", "load", "first_request_s", "cells", "limits", "warnings"}
    same = earlier.model_dump(exclude=volatile | {"accuracy"}) == mine.model_dump(
        exclude=volatile | {"accuracy"}
    )
    return earlier if same and not earlier.complete else None


def _finished(before: Bench | None, cell: Cell) -> tuple[RepeatTimes, ...]:
    cells = () if before is None else before.cells
    return next((c.repeats for c in cells if c.cell == cell), ())
