"""``harness bench``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from harness.cli.options import (
    Device,
    Dtype,
    EngineArgs,
    Lang,
    ModelName,
    SuiteName,
    Trust,
    whole_numbers,
)
from harness.cli.outputs import BenchFiles, tell_and_write
from harness.errors import UsageError

if TYPE_CHECKING:
    from harness.bench.against import Paired
    from harness.bench.run import BenchPlan
    from harness.devices.spec import DeviceSpec

PromptLengths = Annotated[
    str, typer.Option(help="Prompt lengths of the grid in tokens, separated by commas.")
]
BatchSizes = Annotated[
    str | None,
    typer.Option(
        help="Batch sizes of the grid, separated by commas; by default 1,2,4,8,16,32, and 1 for "
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
    output_tokens: Annotated[
        int, typer.Option(min=2, max=2**24 - 1, help="Tokens to generate for every request.")
    ] = 32,
    repeats: Annotated[int, typer.Option(min=1, help="Warm runs of each cell.")] = 5,
    engine_arg: EngineArgs = None,
    against: Annotated[
        str | None,
        typer.Option(
            help="Compare with another configuration, interleaved on this host: the options that "
            'differ, as "--dtype float32", or --python of another environment.'
        ),
    ] = None,
    budget: Annotated[float, typer.Option(help="Most seconds for --against.")] = 900.0,
    baseline_dir: Annotated[Path, typer.Option(help="Folder of all baselines.")] = Path(
        "baselines"
    ),
    judge: Annotated[bool, typer.Option(help="First judge the tokens by the baseline.")] = True,
    limits: Annotated[
        bool, typer.Option(help="Also measure memory bandwidth and matrix rate.")
    ] = True,
    out: Annotated[Path, typer.Option(help="Where to write the samples (JSON).")] = Path(
        "reports/bench.json"
    ),
    report: Annotated[
        list[Path] | None, typer.Option(help="Write a report: .html or .md. Repeatable.")
    ] = None,
    lang: Lang = None,
    trust_remote_code: Trust = False,
) -> None:
    """Measure throughput and latency, accuracy first; with --against, compare.

    Ends with status 1 where the tokens are not aligned, and with 3 where there
    is no judgement, as without a baseline; with 0 after --no-judge. With
    --against the clock decides: 1 where a cell REGRESSED, 3 where none did and
    one is INCONCLUSIVE. An interrupted bench continues where it stopped.

    Example:  harness bench --device vllm-cpu --batch-sizes 1,8 --report bench.html
    """
    from harness.bench.against import Paired
    from harness.bench.run import BenchPlan
    from harness.devices.spec import DeviceSpec, parse_engine_args

    files = BenchFiles(out, tuple(report or ()), lang)
    files.check()
    _check_budget(budget)
    lengths, sizes = _grid(device, prompt_lengths, batch_sizes)
    args = parse_engine_args(engine_arg or [])
    spec = DeviceSpec(device, model, dtype, max(sizes), args, trust_remote_code=trust_remote_code)
    plan = BenchPlan(lengths, sizes, output_tokens, repeats, limits)
    if against is None:
        _one(spec, suite, plan, baseline_dir if judge else None, files)
    else:
        _two(spec, against, Paired(plan.grid(), suite, baseline_dir, judge, budget), files)


def _check_budget(budget: float) -> None:
    if not budget > 0:  # nan, too
        raise UsageError(f"--budget {budget:g}: give a number of seconds above 0")


def _grid(
    device: str, prompt_lengths: str, batch_sizes: str | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """The prompt lengths and the batch sizes, checked against what the device can run."""
    from harness.bench.result import MOST_BATCH, MOST_TOKENS
    from harness.devices.kinds import kind_of

    kind = kind_of(device)
    default = "1,2,4,8,16,32" if kind.batching else "1"
    lengths = whole_numbers("--prompt-lengths", prompt_lengths, MOST_TOKENS)
    sizes = whole_numbers("--batch-sizes", batch_sizes or default, MOST_BATCH)
    kind.check_batch_size(max(sizes), option="--batch-sizes")
    return lengths, sizes


def _one(
    spec: DeviceSpec, suite: str, plan: BenchPlan, baselines: Path | None, files: BenchFiles
) -> NoReturn:
    """Measure one configuration; ``baselines`` is the folder to judge the tokens by, if any."""
    from harness.alignment.outcomes import exit_status
    from harness.bench.result import Accuracy
    from harness.bench.run import judge_first, run_bench
    from harness.devices.registry import open_target
    from harness.messages.message import message
    from harness.process.progress import Progress
    from harness.report.bench import bench_lines, render_bench
    from harness.suite.read import load_suite

    progress = Progress()
    chosen = load_suite(suite)
    target = open_target(spec, progress=progress)
    accuracy = Accuracy(verdict=None, message=message("bench.not_judged"))
    if baselines is not None:
        accuracy, _ = judge_first(target, chosen, baselines, progress)
    made = run_bench(target, chosen, plan, accuracy, files.out, progress)
    writers = dict.fromkeys(files.reports, partial(render_bench, [made], language=files.language))
    tell_and_write(bench_lines(made, files.language), writers, also=[files.out])
    if accuracy.verdict is None:
        raise typer.Exit(0 if baselines is None else 3)
    raise typer.Exit(exit_status(accuracy.verdict))


def _two(spec: DeviceSpec, against: str, paired: Paired, files: BenchFiles) -> NoReturn:
    """Compare two configurations on this host."""
    from harness.bench.against import Configuration, parse_against, run_against
    from harness.bench.result import save_bench
    from harness.process.progress import Progress
    from harness.report.bench import comparison_lines, render_comparison

    first = Configuration(spec)
    comparison = run_against(first, parse_against(against, first), paired, Progress())
    writers = {files.out: partial(save_bench, comparison)}
    writers |= dict.fromkeys(
        files.reports, partial(render_comparison, comparison, language=files.language)
    )
    tell_and_write(comparison_lines(comparison, files.language), writers)
    raise typer.Exit({"REGRESSED": 1, "INCONCLUSIVE": 3}.get(comparison.outcome, 0))
