"""``harness bench-load``: a running server under load."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from harness.cli.options import Lang, ModelName, whole_numbers
from harness.cli.outputs import BenchFiles, tell_and_write
from harness.errors import UsageError
from harness.files.timestamp import utc_now

if TYPE_CHECKING:
    from harness.bench.load import Load
    from harness.process.progress import Progress

#: Seconds in which a server must say which models it has.
_ASKING_S = 30.0


def bench_load(
    server_url: Annotated[str, typer.Option(help="URL of a running OpenAI-compatible server.")],
    model: ModelName = "smollm2",
    served_model: Annotated[
        str | None, typer.Option(help="Name of the model there, which else is asked for.")
    ] = None,
    requests: Annotated[
        int, typer.Option(min=1, max=2**20 - 1, help="Number of requests in each load.")
    ] = 200,
    rates: Annotated[str, typer.Option(help="Requests a second, as 1,16, or inf.")] = "inf",
    concurrencies: Annotated[str, typer.Option(help="Requests in flight, as 1,16.")] = "1,16",
    prompt_tokens: Annotated[
        int, typer.Option(min=8, max=2**24 - 1, help="Length of every prompt in tokens.")
    ] = 128,
    output_tokens: Annotated[
        int, typer.Option(min=1, max=2**24 - 1, help="Length of every answer in tokens.")
    ] = 32,
    load_python: Annotated[
        str | None, typer.Option(help="Python of an environment that has vLLM.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Where to write the samples (JSON).")] = Path(
        "reports/load.json"
    ),
    report: Annotated[
        list[Path] | None, typer.Option(help="Write a report: .html or .md. Repeatable.")
    ] = None,
    lang: Lang = None,
) -> None:
    """Load a running server with vLLM's generator, at each rate and concurrency.

    Ends with status 1 if a request was lost, or if the server's own counters disagree.

    Example:  harness bench-load --server-url http://127.0.0.1:8000 --concurrencies 1,16
    """
    from harness.bench.load import Load
    from harness.bench.result import MOST_BATCH
    from harness.devices.server.http import base_url
    from harness.model.find import find_model
    from harness.process.progress import Progress

    files = BenchFiles(out, tuple(report or ()), lang)
    files.check()
    url = base_url(server_url)
    grid = _rates(rates), whole_numbers("--concurrencies", concurrencies, MOST_BATCH)
    progress = Progress()
    found = find_model(model, progress=progress.note)
    names = (str(found.path), served_model or _name_there(url, found.slug))
    asked = Load(
        url,
        *names,
        requests,
        prompt_tokens=prompt_tokens,
        output_tokens=output_tokens,
        python=load_python or sys.executable,
    )
    loads = [replace(asked, rate=rate, concurrency=many) for rate, many in product(*grid)]
    _load(model, loads, files, progress)


def _name_there(url: str, slug: str) -> str:
    """What the server calls the model: requests of another name would all be lost.

    Raises:
        DeviceError: if it does not answer, or has several and none of this name.
        MissingDependency: without httpx.
    """
    from harness.devices.server.http import Http
    from harness.devices.server.probe import served_model

    with closing(Http("bench-load", url, _ASKING_S, connections=1)) as http:
        return served_model(http, None, slug, "--served-model NAME")[0]


def _load(model: str, loads: Sequence[Load], files: BenchFiles, progress: Progress) -> NoReturn:
    """Run every load, print and write, and end with the status of the outcome.

    Args:
        model: as the user named it.
    """
    from harness.bench.load import run_load
    from harness.bench.result import LoadBench, save_bench
    from harness.report.bench import load_lines, render_load

    times = []
    for load in loads:
        progress.note(
            f"{load.requests} requests, {load.rate:g} a second, {load.concurrency} in flight"
        )
        times.append(run_load(load))
    made = LoadBench(
        created=utc_now(),
        url=loads[0].url,
        model=model,
        prompt_tokens=loads[0].prompt_tokens,
        output_tokens=loads[0].output_tokens,
        loads=tuple(times),
    )
    writers: dict[Path, Callable[[Path], None]] = {files.out: partial(save_bench, made)}
    writers |= dict.fromkeys(files.reports, partial(render_load, made, language=files.language))
    tell_and_write(load_lines(made, files.language), writers)
    lost = any(t.errors or t.completed < t.requests or t.counters_agree is False for t in times)
    raise typer.Exit(1 if lost else 0)


def _rates(text: str) -> tuple[float, ...]:
    try:
        rates = tuple(float(part) for part in text.split(","))
    except ValueError:
        rates = ()
    if not rates or not all(rate > 0 for rate in rates):  # nan, too
        raise UsageError(f"--rates {text!r}: give numbers above 0, or inf, as 1,16")
    return rates
