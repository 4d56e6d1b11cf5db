"""The command ``harness``."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from harness import (
    __version__,
    cli_baseline,
    cli_bench,
    cli_bench_load,
    cli_checkpoint,
    cli_doctor,
    cli_locate,
    cli_report,
    cli_serve,
)
from harness.cli_options import (
    BatchSize,
    Device,
    Dtype,
    EngineArgs,
    Lang,
    MaxNewTokens,
    ModelName,
    QatGroupSize,
    ServerUrl,
    SuiteName,
    Table,
    Trust,
    with_qat_group_size,
)
from harness.errors import HarnessError, UsageError
from harness.outputs import check_outputs, tell_and_write
from harness.signals import TERMINATED, Terminated, sigterm_as_interrupt

if TYPE_CHECKING:
    from harness.progress import Progress
    from harness.recorder import Context
    from harness.suites import Suite


class _Interrupted(Exception):
    """Ctrl-C or SIGTERM, kept from the libraries below, whose versions end differently."""


class _Commands(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise _Interrupted from error


app = typer.Typer(
    name="harness",
    cls=_Commands,
    help="Prove that a language model ported to a new accelerator still computes the same.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "Exit status: 0 aligned; 1 not aligned; 2 wrong usage or unreadable input; "
        "3 no judgement. Add --debug to any command for a traceback."
    ),
)
app.add_typer(cli_baseline.app, name="baseline")
app.command()(cli_locate.locate)
app.command()(cli_doctor.doctor)
app.command()(cli_serve.serve)
app.add_typer(cli_checkpoint.app, name="checkpoint")
app.command()(cli_bench.bench)
app.command()(cli_bench_load.bench_load)


class ReplayName(str, Enum):
    """``--replay``."""

    free = "free"
    forced_decode = "forced-decode"
    forced_prefill = "forced-prefill"


class LogitsName(str, Enum):
    """``--logits``."""

    statistics = "statistics"
    full = "full"


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"harness {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    del version  # handled by its callback


@app.command()
def record(
    device: Device,
    out: Annotated[Path, typer.Option(help="Where to write the recording (JSON).")],
    model: ModelName = "smollm2",
    suite: SuiteName = "mixed",
    dtype: Dtype = None,
    replay: Annotated[ReplayName, typer.Option(help="How tokens are chosen.")] = ReplayName.free,
    context: Annotated[
        Path | None,
        typer.Option(
            help="Recording or baseline folder whose tokens are forced; with "
            "--replay free, prompts that diverge from it are replayed on it."
        ),
    ] = None,
    logits: Annotated[
        LogitsName, typer.Option(help="full also writes every row as safetensors.")
    ] = LogitsName.statistics,
    max_new_tokens: MaxNewTokens = None,
    batch_size: BatchSize = 1,
    engine_arg: EngineArgs = None,
    repeats: Annotated[
        int, typer.Option(min=0, help="How many prompts to run twice, to see if bits repeat.")
    ] = 0,
    server_url: ServerUrl = None,
    qat_group_size: QatGroupSize = None,
    trust_remote_code: Trust = False,
) -> None:
    """Run a suite on a device and keep token ids, row statistics and timings.

    A killed run goes on where it was when the same command is given again.

    Example:  harness record --device hf-cpu --suite port --out a.json
    """
    from harness import recorder
    from harness.devices.registry import open_target, parse_engine_args
    from harness.progress import Progress
    from harness.suites import load_suite

    if out.is_dir():
        raise UsageError(f"--out {out} is a folder; name a file in it")
    chosen = load_suite(suite, max_new_tokens)
    check_outputs([out], [context, chosen.path])
    progress = Progress()
    options = recorder.Options(
        replay=replay.value,
        context=None if context is None else _context(context, chosen, replay, progress),
        full_logits=logits is LogitsName.full,
        repeats=repeats,
    )
    target = open_target(
        device,
        model,
        dtype=dtype,
        batch_size=batch_size,
        engine_args=parse_engine_args(with_qat_group_size(engine_arg, qat_group_size)),
        trust_remote_code=trust_remote_code,
        server_url=server_url,
        progress=progress,
    )
    made = recorder.record(
        target.device, target.subject, chosen, options, out=out, progress=progress
    )
    what = "texts only" if made.text_only else f"{made.positions} positions"
    typer.echo(f"{out}: {len(made.prompts)} prompts, {what} on {device}")


@app.command()
def compare(
    candidate: Annotated[Path, typer.Argument(help="A recording.")],
    baseline: Annotated[Path, typer.Argument(help="A baseline folder, or another recording.")],
    json: Annotated[Path | None, typer.Option(help="Write the alignment there.")] = None,
    report: Annotated[
        list[Path] | None, typer.Option(help="Write a report: .html, .md or .json. Repeatable.")
    ] = None,
    table: Table = None,
    lang: Lang = None,
    allow_weights: Annotated[
        bool, typer.Option("--allow-weights", help="Checkpoints may differ (quantization).")
    ] = False,
    allow_dtype: Annotated[
        bool, typer.Option("--allow-dtype", help="Declared dtypes may differ.")
    ] = False,
    magnify: Annotated[
        Path | None,
        typer.Option(
            help="The candidate's recording in float16, for the float16 baseline beside "
            "BASELINE; only warns."
        ),
    ] = None,
) -> None:
    """Hold a candidate against a baseline and say how they align.

    Against a single recording, only BIT_EXACT or INCONCLUSIVE is possible.

    Example:  harness compare npu.json baselines/smollm2/mixed/bfloat16 --report npu.html
    """
    from harness.api import compare as judge

    _check_outputs(json, report, table, lang, inputs=[candidate, baseline, magnify])
    alignment = judge(candidate, baseline, allow_weights=allow_weights, allow_dtype=allow_dtype)
    if magnify is not None:
        from harness.magnifier import with_magnifier

        alignment = with_magnifier(alignment, magnify, baseline, allow_weights=allow_weights)
    flags = ["--allow-weights"] * allow_weights + ["--allow-dtype"] * allow_dtype
    flags += [] if magnify is None else ["--magnify", magnify.as_posix()]
    command = shlex.join(["harness", "compare", candidate.as_posix(), baseline.as_posix(), *flags])
    _finish(alignment.model_copy(update={"reproduce": (command,)}), json, report, table, lang)


@app.command()
def verify(
    recording: Annotated[
        Path,
        typer.Argument(help='A recording, or a JSON list of {"prompt_token_ids", "token_ids"}.'),
    ],
    device: Device = "hf-cpu",
    model: ModelName = "smollm2",
    dtype: Dtype = None,
    oracle: Annotated[bool, typer.Option(help="Also run the float32 oracle.")] = True,
    controls: Annotated[bool, typer.Option(help="Also run the controls.")] = True,
    json: Annotated[Path | None, typer.Option(help="Write the alignment there.")] = None,
    report: Annotated[
        list[Path] | None, typer.Option(help="Write a report: .html, .md or .json. Repeatable.")
    ] = None,
    table: Table = None,
    lang: Lang = None,
    trust_remote_code: Trust = False,
) -> None:
    """Judge a recording by one forced-prefill pass per prompt on this device.

    Minutes instead of hours: every position is judged without generating a
    token. Without the controls the best verdict is INCONCLUSIVE.

    Example:  harness verify npu.json --device hf-cpu --model ./BitCPM4-CANN-1B
    """
    from harness.progress import Progress
    from harness.verify import verify_file

    _check_outputs(json, report, table, lang, inputs=[recording])
    alignment = verify_file(
        recording,
        device,
        model,
        dtype=dtype,
        oracle=oracle,
        controls=controls,
        trust_remote_code=trust_remote_code,
        progress=Progress(),
    )
    _finish(alignment, json, report, table, lang)


app.command()(cli_report.report)  # here, since --help lists commands in this order


def _check_outputs(
    json: Path | None,
    reports: list[Path] | None,
    table: Path | None,
    lang: str | None,
    *,
    inputs: Sequence[Path | None],
) -> None:
    """What cannot be written is said before the work, not after it."""
    from harness.report.language import language_of
    from harness.report.render import check_report_path
    from harness.table import check_table_path

    language_of(lang)
    for path in reports or []:
        check_report_path(path)
    if table is not None:
        check_table_path(table)
    check_outputs([json, *(reports or []), table], inputs)


def _finish(
    alignment: Any,
    json: Path | None,
    reports: list[Path] | None,
    table: Path | None,
    lang: str | None,
) -> NoReturn:
    """Print the outcome, write what was asked for, end with the verdict's status."""
    from harness.alignment.result import exit_status, save_alignment
    from harness.report.language import language_of
    from harness.report.render import render
    from harness.report.step_summary import append_step_summary
    from harness.report.summary import summary_lines
    from harness.table import write_table

    language = language_of(lang)
    writers: dict[Path, Callable[[Path], None]] = {}
    if json is not None:
        writers[json] = partial(save_alignment, alignment)
    for path in reports or []:
        writers[path] = partial(render, [alignment], language=language)
    if table is not None:
        writers[table] = partial(write_table, alignment)
    tell_and_write(summary_lines(alignment), writers)
    append_step_summary([alignment], language)
    raise typer.Exit(exit_status(alignment.verdict))


def _context(path: Path, suite: Suite, replay: ReplayName, progress: Progress) -> Context:
    from harness.baselines import Baseline, resolve
    from harness.contexts import context_for
    from harness.recorder import Context

    found = resolve(path)
    recording = found.reference if isinstance(found, Baseline) else found
    if replay is ReplayName.free:  # its own tokens, whatever their number, come first
        return Context.of(recording)
    return context_for(suite, recording, path, progress)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run the command; every error of the harness is one line on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    debug = "--debug" in arguments
    arguments = [a for a in arguments if a != "--debug"]
    for stream in (sys.stdout, sys.stderr):
        # Model output may hold what the terminal's encoding does not.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with sigterm_as_interrupt():
            app(arguments)
    except HarnessError as error:
        if debug:
            raise
        typer.echo(f"harness: error: {error}", err=True)
        sys.exit(error.exit_status)
    except (KeyboardInterrupt, _Interrupted) as error:
        typer.echo(
            "harness: interrupted; record and baseline make go on where they were "
            "when the same command is given again",
            err=True,
        )
        sys.exit(TERMINATED if isinstance(error.__cause__ or error, Terminated) else 130)
    sys.exit(0)
