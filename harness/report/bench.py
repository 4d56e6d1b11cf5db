"""Reports of benches and comparisons: terminal lines, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import zip_longest
from pathlib import Path

from harness.bench.figures import summary
from harness.bench.result import Bench, Comparison, LoadBench, LoadTimes
from harness.errors import UsageError, printable
from harness.files.atomic import write_bytes
from harness.report.html import page
from harness.report.markdown import plain
from harness.report.text import number, seconds
from harness.report.views.bench import Row, bench_view


def check_bench_report(path: Path) -> None:
    """See that a report of a bench can be written in this format.

    Raises:
        UsageError: if the suffix is neither .html nor .md.
    """
    if path.suffix.lower() not in {".html", ".md"}:
        raise UsageError(f"{path}: a bench report is .html or .md; end its name in one of them")


def render_bench(benches: Sequence[Bench], path: Path) -> None:
    """Write a report of one bench, or of several as a trend.

    Raises:
        UsageError: for another suffix than .html and .md.
        HarnessError: if the file cannot be written.
    """
    check_bench_report(path)
    views = [bench_view(bench) for bench in benches]
    name = "bench.html.j2" if path.suffix.lower() == ".html" else "bench.md.j2"
    _write(path, name, benches=views, trend=list(trend(benches)))


def render_comparison(found: Comparison, path: Path) -> None:
    """Write a report of a comparison; errors as of ``render_bench``."""
    check_bench_report(path)
    html = path.suffix.lower() == ".html"
    name = "bench_comparison.html.j2" if html else "bench_comparison.md.j2"
    _write(path, name, found=found)


def _write(path: Path, name: str, **values: object) -> None:
    render = page if path.suffix.lower() == ".html" else plain
    write_bytes(path, render(name, **values).encode("utf-8"))


def bench_lines(bench: Bench) -> Iterator[str]:
    """A bench in a few lines, for a terminal."""
    view = bench_view(bench)
    yield f"{view.title}: tokens {view.verdict}: {printable(bench.accuracy.sentence)}"
    if not view.aligned:
        yield "  the figures below are of a device whose tokens were not shown to be right"
    for row, near in zip_longest(view.throughput, view.roofline):
        prefill, decode, total, count, _ = row.cells
        limit = f", decode at {near.cells[0]} of the memory limit" if near else ""
        yield (
            f"  {row.head:<14} prefill {prefill} tok/s, decode {decode} tok/s, total {total} tok/s"
            f" ({count} runs){limit}"
        )
    for line in bench.warnings:
        yield f"  warning: {printable(line)}"


def comparison_lines(found: Comparison) -> Iterator[str]:
    """A comparison in a few lines, for a terminal."""
    yield f"{found.outcome}: {found.second.options} against {found.first.options}"
    for cell in found.cells:
        yield f"  {cell.outcome:<12} {cell.cell.name}: {cell.sentence}"
    for side in (found.first, found.second):
        yield f"  tokens of {side.options}: {side.accuracy.verdict or 'NOT JUDGED'}"


def trend(benches: Sequence[Bench]) -> Iterator[tuple[str, ...]]:
    """One line a bench, oldest first: stored figures show a trend and judge
    nothing, and those of another machine are not comparable."""
    if len(benches) < 2:
        return
    ordered = sorted(benches, key=lambda b: b.created)
    newest = ordered[-1].machine
    for bench in ordered:
        rows = bench_view(bench).throughput
        decode = ", ".join(f"{row.head}: {row.cells[1]}" for row in rows[:3])
        where = "this machine" if bench.machine == newest else "not comparable: another machine"
        yield bench.created, bench.device, str(bench.environment.get("torch", "")), decode, where


def render_load(found: LoadBench, path: Path) -> None:
    """Write a report of a server under load; errors as of ``render_bench``."""
    check_bench_report(path)
    name = "bench_load.html.j2" if path.suffix.lower() == ".html" else "bench_load.md.j2"
    _write(path, name, found=found, head=LOAD_HEAD, rows=list(map(_load_row, found.loads)))


def load_lines(found: LoadBench) -> Iterator[str]:
    """A server under load in a few lines, for a terminal."""
    yield f"{printable(found.url)}: {found.prompt_tokens} + {found.output_tokens} tokens a request"
    for times, row in zip(found.loads, map(_load_row, found.loads), strict=True):
        cells = dict(zip(LOAD_HEAD[1:], row.cells, strict=True))
        yield f"  {row.head}: " + ", ".join(f"{name} {value}" for name, value in cells.items())
        if times.first_error:
            yield f"  first error: {printable(times.first_error)}"


LOAD_HEAD = (
    "load",
    "completed",
    "lost",
    "requests/s",
    "output tok/s",
    "ttft_s median",
    "ttft_s p90",
    "itl_s median",
    "itl_s p99",
    "server counts alike",
)


def _load_row(times: LoadTimes) -> Row:
    ttft = summary([t / 1e9 for t in times.ttft_ns])
    gaps = summary([g / 1e9 for request in times.itl_ns for g in request])
    alike = {True: "yes", False: "no", None: "it does not count"}[times.counters_agree]
    rate = "all at once" if times.rate is None else f"{times.rate:g} a second"
    wall = times.wall_ns / 1e9
    return Row(
        f"{rate}, {times.concurrency} in flight",
        (
            f"{times.completed} of {times.requests}",
            str(times.errors),
            number(times.completed / wall),
            number(times.output_tokens / wall),
            seconds(ttft.median if ttft else None),
            seconds(ttft.p90 if ttft else None),
            seconds(gaps.median if gaps else None),
            seconds(gaps.p99 if gaps else None),
            alike,
        ),
    )
