"""`harness compare` and `harness verify`."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

from harness.cli.options import (
    Device,
    Dtype,
    Lang,
    ModelName,
    Table,
    Trust,
)
from harness.cli.outputs import tell_and_write
from harness.devices.kinds import REFERENCE_DEVICE
from harness.files.outputs import check_outputs


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
        from harness.session.magnifier import with_magnifier

        alignment = with_magnifier(alignment, magnify, baseline, allow_weights=allow_weights)
    flags = ["--allow-weights"] * allow_weights + ["--allow-dtype"] * allow_dtype
    flags += [] if magnify is None else ["--magnify", magnify.as_posix()]
    command = shlex.join(["harness", "compare", candidate.as_posix(), baseline.as_posix(), *flags])
    _finish(alignment.model_copy(update={"reproduce": (command,)}), json, report, table, lang)


def verify(
    recording: Annotated[
        Path,
        typer.Argument(help='A recording, or a JSON list of {"prompt_token_ids", "token_ids"}.'),
    ],
    device: Device = REFERENCE_DEVICE,
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
    from harness.alignment.verify import verify_file
    from harness.devices.spec import DeviceSpec
    from harness.process.progress import Progress

    _check_outputs(json, report, table, lang, inputs=[recording])
    spec = DeviceSpec(device, model, dtype, trust_remote_code=trust_remote_code)
    alignment = verify_file(recording, spec, oracle=oracle, controls=controls, progress=Progress())
    _finish(alignment, json, report, table, lang)


def _check_outputs(
    json: Path | None,
    reports: list[Path] | None,
    table: Path | None,
    lang: str | None,
    *,
    inputs: Sequence[Path | None],
) -> None:
    """What cannot be written is said before the work, not after it."""
    from harness.alignment.table import check_table_path
    from harness.report.language import language_of
    from harness.report.render import check_report_path

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
    from harness.alignment.outcomes import exit_status
    from harness.alignment.result import save_alignment
    from harness.alignment.table import write_table
    from harness.report.language import language_of
    from harness.report.render import render
    from harness.report.step_summary import append_step_summary
    from harness.report.summary import summary_lines

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
