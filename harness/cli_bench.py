"""``harness bench``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli_options import Device, Dtype, EngineArgs, ModelName, SuiteName, Trust
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.perf.against import Configuration
    from harness.perf.bench import BenchPlan

PromptLengths = Annotated[str, typer.Option(help="Prompt tokens of the grid, with commas.")]
BatchSizes = Annotated[
    str | None,
    typer.Option(
        help="Requests handed over together, with commas; by default 1,2,4,8,16,32, and 1 for "
        "Transformers, which runs one at a time."
    ),
]


def bench(
    device: Device,
    model: ModelName = "smollm2",
    suite: SuiteName = "mixed",
    dtype: Dtype = None,
    prompt_lengths: PromptLengths = "32,128,512",
    batch_sizes: BatchSizes = None,
    output_tokens: Annotated[int, typer.Option(min=2, help="Tokens of every request.")] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Warm runs of each cell.")] = 5,
    engine_arg: EngineArgs = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Compare with another configuration, interleaved on this host: what differs, as "
            '"--dtype float32", or --python of another environment.'
        ),
    ] = None,
    budget: Annotated[float, typer.Option(help="Seconds that --against may take at most.")] = 900.0,
    baseline_dir: Annotated[Path, typer.Option(help="Folder of all baselines.")] = Path(
        "baselines"
    ),
    judge: Annotated[bool, typer.Option(help="Hold the tokens against the baseline first.")] = True,
    limits: Annotated[
        bool, typer.Option(help="Measure memory bandwidth and matrix rate too.")
    ] = True,
    out: Annotated[Path, typer.Option(help="Where the samples go (JSON).")] = Path(
        "reports/bench.json"
    ),
    report: Annotated[
        list[Path] | None, typer.Option(help="Write a report: .html or .md. Repeatable.")
    ] = None,
    trust_remote_code: Trust = False,
) -> None:
    """Measure throughput and latency, accuracy first; with --against, compare.

    Ends with status 1 where the tokens are not aligned or a cell REGRESSED, and
    with 3 where that could not be decided. An interrupted bench goes on where
    it was.

    Example:  harness bench --device vllm-cpu --batch-sizes 1,8 --report bench.html
    """
    from harness.devices.registry import BATCHING, check_batch_size, parse_engine_args
    from harness.perf.against import Configuration
    from harness.perf.bench import BenchPlan
    from harness.report.bench import check_bench_report

    for path in report or []:
        check_bench_report(path)
    sizes = batch_sizes or ("1,2,4,8,16,32" if device in BATCHING else "1")
    plan = BenchPlan(
        prompt_lengths=_numbers("--prompt-lengths", prompt_lengths),
        batch_sizes=_numbers("--batch-sizes", sizes),
        output_tokens=output_tokens,
        repeats=repeats,
        limits=limits,
    )
    most = max(plan.batch_sizes)
    check_batch_size(device, most)
    args = parse_engine_args(engine_arg or [])
    side = Configuration(device, model, dtype, args, trust_remote_code, most)
    if against is None:
        _one(side, suite, plan, judge, baseline_dir, out, report or [])
    else:
        _two(side, against, suite, plan, judge, baseline_dir, budget, out, report or [])


def _one(
    side: Configuration,
    suite: str,
    plan: BenchPlan,
    judge: bool,
    baseline_dir: Path,
    out: Path,
    reports: list[Path],
) -> None:
    from harness.alignment.result import exit_status
    from harness.devices.registry import open_target
    from harness.perf.bench import judge_first, run_bench
    from harness.perf.result import Accuracy
    from harness.progress import Progress
    from harness.report.bench import bench_lines, render_bench
    from harness.suites import load_suite

    progress = Progress()
    chosen = load_suite(suite)
    target = open_target(
        side.device,
        side.model,
        dtype=side.dtype,
        batch_size=side.batch_size,
        engine_args=side.engine_args,
        trust_remote_code=side.trust_remote_code,
        progress=progress,
    )
    accuracy = Accuracy(verdict=None, sentence="the tokens were not judged (--no-judge)")
    if judge:
        accuracy, _ = judge_first(target, chosen, baseline_dir, progress)
    made = run_bench(target, chosen, plan, accuracy, out, progress)
    for path in reports:
        render_bench([made], path)
    for line in [*bench_lines(made), *(f"written: {path}" for path in [out, *reports])]:
        typer.echo(line)
    raise typer.Exit(0 if accuracy.verdict is None else exit_status(accuracy.verdict))


def _two(
    side: Configuration,
    against: str,
    suite: str,
    plan: BenchPlan,
    judge: bool,
    baseline_dir: Path,
    budget: float,
    out: Path,
    reports: list[Path],
) -> None:
    from harness.perf.against import Paired, parse_against, run_against
    from harness.perf.result import save_bench
    from harness.progress import Progress
    from harness.report.bench import comparison_lines, render_comparison

    other = parse_against(against, side)
    paired = Paired(plan.grid(), suite, baseline_dir, judge, budget)
    found = run_against(side, other, paired, Progress())
    save_bench(found, out)
    for path in reports:
        render_comparison(found, path)
    for line in [*comparison_lines(found), *(f"written: {path}" for path in [out, *reports])]:
        typer.echo(line)
    raise typer.Exit({"REGRESSED": 1, "INCONCLUSIVE": 3}.get(found.outcome, 0))


def _numbers(option: str, text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        numbers = ()
    if not numbers or min(numbers) < 1:
        raise UsageError(f"{option} {text!r}: give whole numbers from 1 on, as 1,8")
    return numbers
