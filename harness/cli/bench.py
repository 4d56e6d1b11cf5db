"""``harness bench``."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from harness.cli.outputs import tell_and_write
from harness.errors import UsageError
from harness.files.outputs import check_outputs

if TYPE_CHECKING:
    from harness.bench.against import Configuration
    from harness.bench.run import BenchPlan
    from harness.messages.tables import Language

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
    output_tokens: Annotated[
        int, typer.Option(min=2, max=2**24 - 1, help="Tokens of every request.")
    ] = 32,
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
    lang: Lang = None,
    trust_remote_code: Trust = False,
) -> None:
    """Measure throughput and latency, accuracy first; with --against, compare.

    Ends with status 1 where the tokens are not aligned, and with 3 where there
    is no judgement, as without a baseline; with 0 after --no-judge. With
    --against the clock decides: 1 where a cell REGRESSED, 3 where none did and
    one is INCONCLUSIVE. An interrupted bench goes on where it was.

    Example:  harness bench --device vllm-cpu --batch-sizes 1,8 --report bench.html
    """
    from harness.bench.against import Configuration
    from harness.bench.result import MOST_BATCH, MOST_TOKENS, check_replaces_bench
    from harness.bench.run import BenchPlan
    from harness.devices.registry import BATCHING, check_batch_size, parse_engine_args
    from harness.report.bench import check_bench_report
    from harness.report.language import language_of

    for path in report or []:
        check_bench_report(path)
    check_outputs([out, *(report or [])])
    language = language_of(lang)
    check_replaces_bench(out)
    if not budget > 0:  # nan, too
        raise UsageError(f"--budget {budget:g}: give seconds, more than 0")
    sizes = batch_sizes or ("1,2,4,8,16,32" if device in BATCHING else "1")
    plan = BenchPlan(
        prompt_lengths=whole_numbers("--prompt-lengths", prompt_lengths, MOST_TOKENS),
        batch_sizes=whole_numbers("--batch-sizes", sizes, MOST_BATCH),
        output_tokens=output_tokens,
        repeats=repeats,
        limits=limits,
    )
    most = max(plan.batch_sizes)
    check_batch_size(device, most, option="--batch-sizes")
    args = parse_engine_args(engine_arg or [])
    side = Configuration(device, model, dtype, args, trust_remote_code, most)
    if against is None:
        _one(side, suite, plan, judge, baseline_dir, out, report or [], language)
    else:
        _two(side, against, suite, plan, judge, baseline_dir, budget, out, report or [], language)


def _one(
    side: Configuration,
    suite: str,
    plan: BenchPlan,
    judge: bool,
    baseline_dir: Path,
    out: Path,
    reports: list[Path],
    language: Language,
) -> None:
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
    target = open_target(
        side.device,
        side.model,
        dtype=side.dtype,
        batch_size=side.batch_size,
        engine_args=side.engine_args,
        trust_remote_code=side.trust_remote_code,
        progress=progress,
    )
    accuracy = Accuracy(verdict=None, message=message("bench.not_judged"))
    if judge:
        accuracy, _ = judge_first(target, chosen, baseline_dir, progress)
    made = run_bench(target, chosen, plan, accuracy, out, progress)
    writers = dict.fromkeys(reports, partial(render_bench, [made], language=language))
    tell_and_write(bench_lines(made, language), writers, also=[out])
    if accuracy.verdict is None:
        raise typer.Exit(3 if judge else 0)
    raise typer.Exit(exit_status(accuracy.verdict))


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
    language: Language,
) -> None:
    from harness.bench.against import Paired, parse_against, run_against
    from harness.bench.result import save_bench
    from harness.process.progress import Progress
    from harness.report.bench import comparison_lines, render_comparison

    other = parse_against(against, side)
    paired = Paired(plan.grid(), suite, baseline_dir, judge, budget)
    found = run_against(side, other, paired, Progress())
    writers = {out: partial(save_bench, found)}
    writers |= dict.fromkeys(reports, partial(render_comparison, found, language=language))
    tell_and_write(comparison_lines(found, language), writers)
    raise typer.Exit({"REGRESSED": 1, "INCONCLUSIVE": 3}.get(found.outcome, 0))
