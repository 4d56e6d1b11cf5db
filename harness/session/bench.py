"""The device measured on a grid, under the verdict of its run (``-m perf``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.bench.result import Bench
from harness.bench.run import BenchPlan, accuracy_of, run_bench
from harness.process.progress import Progress
from harness.report.bench import render_bench
from harness.session.judge import Judged


@dataclass(frozen=True)
class Benched:
    """The measurements, and the page that shows them."""

    bench: Bench
    report: Path


def measure(judged: Judged, progress: Progress) -> Benched:
    """Measure the grid; each step is saved beside the recording.

    Raises:
        HarnessError: errors of the device before the first repeat.
    """
    prepared, alignment = judged.recorded.prepared, judged.alignment
    run = prepared.run
    accuracy = accuracy_of(alignment, run.suite)
    plan = BenchPlan(batch_sizes=(run.options.spec.batch_size,))
    out = prepared.recording_file.with_suffix(".bench.json")
    made = run_bench(prepared.target, run.suite, plan, accuracy, out, progress)
    report = out.with_suffix(".html")
    render_bench([made], report, run.options.outputs.language)
    return Benched(made, report)
