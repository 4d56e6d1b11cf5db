"""``harness bench-load``: a running server under load."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.options import Lang, ModelName, whole_numbers
from harness.cli.outputs import tell_and_write
from harness.errors import UsageError
from harness.files.outputs import check_outputs


def bench_load(
    server_url: Annotated[str, typer.Option(help="Of a running OpenAI-compatible server.")],
    model: ModelName = "smollm2",
    served_model: Annotated[str | None, typer.Option(help="The server's name for it.")] = None,
    requests: Annotated[
        int, typer.Option(min=1, max=2**20 - 1, help="Requests of each load.")
    ] = 200,
    rates: Annotated[str, typer.Option(help="Requests a second, with commas; inf for all.")] = (
        "inf"
    ),
    concurrencies: Annotated[str, typer.Option(help="Requests in flight, with commas.")] = "1,16",
    prompt_tokens: Annotated[
        int, typer.Option(min=8, max=2**24 - 1, help="Tokens of every prompt.")
    ] = 128,
    output_tokens: Annotated[
        int, typer.Option(min=1, max=2**24 - 1, help="Tokens of every answer.")
    ] = 32,
    load_python: Annotated[
        str | None, typer.Option(help="Python of an environment with vLLM, for its generator.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where the samples go (JSON).")] = Path(
        "reports/load.json"
    ),
    report: Annotated[
        list[Path] | None, typer.Option(help="Write a report: .html or .md. Repeatable.")
    ] = None,
    lang: Lang = None,
) -> None:
    """Load a running server with vLLM's generator, at each rate and concurrency.

    Ends with status 1 when a request was lost, or the server's own counters
    say something else.

    Example:  harness bench-load --server-url http://127.0.0.1:8000 --concurrencies 1,16
    """
    from harness.bench.load import Load, run_load
    from harness.bench.result import MOST_BATCH, LoadBench, check_replaces_bench, save_bench
    from harness.devices.server.http import base_url
    from harness.model.find import find_model
    from harness.process.progress import Progress
    from harness.report.bench import check_bench_report, load_lines, render_load
    from harness.report.language import language_of

    for path in report or []:
        check_bench_report(path)
    check_outputs([out, *(report or [])])
    check_replaces_bench(out)
    language = language_of(lang)
    url = base_url(server_url)
    in_flight = whole_numbers("--concurrencies", concurrencies, MOST_BATCH)
    a_second = _rates(rates)
    progress = Progress()
    source = str(find_model(model, progress=progress.note).path)
    loads = []
    for rate in a_second:
        for concurrency in in_flight:
            progress.note(f"{requests} requests, {rate:g} a second, {concurrency} in flight")
            asked = Load(
                url, source, served_model, requests, rate, concurrency,
                prompt_tokens, output_tokens, load_python or sys.executable,
            )  # fmt: skip
            loads.append(run_load(asked))
    made = LoadBench(
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        url=url,
        model=model,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        loads=tuple(loads),
    )
    writers: dict[Path, Callable[[Path], None]] = {out: partial(save_bench, made)}
    writers |= dict.fromkeys(report or [], partial(render_load, made, language=language))
    tell_and_write(load_lines(made, language), writers)
    lost = any(t.errors or t.completed < t.requests or t.counters_agree is False for t in loads)
    raise typer.Exit(1 if lost else 0)


def _rates(text: str) -> tuple[float, ...]:
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError:
        rates = ()
    if not rates or not all(rate > 0 for rate in rates):  # nan, too
        raise UsageError(f"--rates {text!r}: give numbers above 0, or inf, as 1,16")
    return rates
