"""``harness report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.cli.options import Lang
from harness.cli.say import say
from harness.errors import UsageError
from harness.files.outputs import check_outputs

if TYPE_CHECKING:
    from harness.messages.tables import Language


def report(
    alignments: Annotated[
        list[Path],
        typer.Argument(help="Files of compare --json, bench or bench-load; or a recording."),
    ],
    out: Annotated[Path, typer.Option(help="The report to write: .html, .md or .json.")],
    lang: Lang = None,
) -> None:
    """Render a report from alignments, without model or recordings.

    Several alignments are shown side by side; those of one device, model and
    suite also over time. Benches get a report of their own, with their trend;
    each file of bench --against or bench-load gets its own report. A recording gets a page of
    its texts and times, which judges nothing.

    Example:  harness report alignment.json --out report.html
    """
    from harness.alignment.result import SCHEMA as ALIGNMENT
    from harness.alignment.result import load_alignment
    from harness.bench.result import bench_schema
    from harness.files.jsonfile import begins_with_schema
    from harness.recording.format import load_recording
    from harness.report.language import language_of
    from harness.report.recording import render_recording
    from harness.report.render import check_report_path, render

    check_report_path(out)
    language = language_of(lang)
    check_outputs([out], alignments)
    if len(alignments) == 1 and begins_with_schema(alignments[0], "harness.recording/"):
        render_recording(load_recording(alignments[0]), out, language)
        say(f"report: {out}")
        return
    schemas = {bench_schema(path) for path in alignments}
    if len(schemas) > 1:
        for path in alignments:
            if bench_schema(path) is None:
                load_alignment(path)  # raises if the file is invalid
        kinds = ", ".join(f"{path} is {bench_schema(path) or ALIGNMENT}" for path in alignments)
        raise UsageError(
            f"a report can show one kind of file only: {kinds}; render each kind alone"
        )
    schema = schemas.pop()
    if schema is None:
        render([load_alignment(path) for path in alignments], out, language)
    else:
        _render_figures(schema, alignments, out, language)
    say(f"report: {out}")


def _render_figures(schema: str, paths: list[Path], out: Path, language: Language) -> None:
    """Render what a bench, ``bench --against`` or ``bench-load`` wrote."""
    from harness.bench import result
    from harness.report.bench import render_bench, render_comparison, render_load

    if schema == result.SCHEMA:
        render_bench([result.load_bench(path) for path in paths], out, language)
    elif len(paths) > 1:
        raise UsageError(f"{out}: a report can hold one {schema}, not {len(paths)}; name one file")
    elif schema == result.COMPARISON_SCHEMA:
        render_comparison(result.load_comparison(paths[0]), out, language)
    else:
        render_load(result.load_load_bench(paths[0]), out, language)
