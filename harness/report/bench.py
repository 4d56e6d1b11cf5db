"""Reports of benches and comparisons: terminal lines, Markdown and HTML."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

from harness.bench.figures import summary
from harness.bench.result import Bench, Comparison, LoadBench, LoadTimes
from harness.errors import UsageError, printable
from harness.files.atomic import write_bytes
from harness.messages.statement import told
from harness.report.html import page
from harness.report.language import Language, say
from harness.report.markdown import marker_of, plain
from harness.report.text import number, seconds
from harness.report.views.bench import NOT_JUDGED, Row, bench_view


def check_bench_report(path: Path) -> None:
    """See that a report of a bench can be written in this format.

    Raises:
        UsageError: if the suffix is neither .html nor .md.
    """
    if path.suffix.lower() not in {".html", ".md"}:
        raise UsageError(f"{path}: a bench report is .html or .md; end its name in one of them")


def render_bench(benches: Sequence[Bench], path: Path, language: Language = "en") -> None:
    """Write a report of one bench, or of several as a trend.

    Raises:
        UsageError: for another suffix than .html and .md.
        HarnessError: if the file cannot be written.
    """
    check_bench_report(path)

    def values(language: Language) -> dict[str, Any]:
        views = [bench_view(bench, language) for bench in benches]
        name = marker_of("bench", *sorted({f"{b.device}-{b.model.name}" for b in benches}))
        return {"benches": views, "trend": list(trend(benches, language)), "marker": name}

    _write(path, "bench", language, values)


def render_comparison(comparison: Comparison, path: Path, language: Language = "en") -> None:
    """Write a report of a comparison; errors as of ``render_bench``."""
    check_bench_report(path)
    name = marker_of("comparison", comparison.first.device, comparison.second.device)
    values = {"comparison": comparison, "marker": name}
    _write(path, "bench_comparison", language, lambda _: values)


def _write(
    path: Path, name: str, language: Language, values: Callable[[Language], dict[str, Any]]
) -> None:
    """Write the template of that name: both languages in HTML, one in Markdown."""
    if path.suffix.lower() == ".html":
        text = page(f"{name}.html.j2", language, values)
    else:
        text = plain(f"{name}.md.j2", language, **values(language))
    write_bytes(path, text.encode("utf-8"))


def bench_lines(bench: Bench, language: Language = "en") -> Iterator[str]:
    """A bench in a few lines, for a terminal."""
    t = partial(say, language)
    view = bench_view(bench, language)
    tokens = t("bench.tokens", verdict=word(language, bench.accuracy.verdict))
    yield f"{view.title}: {tokens}: {printable(view.sentence)}"
    if not view.aligned:
        yield f"  {t('bench.not_right')}"
    for row, near in zip_longest(view.throughput, view.roofline):
        prefill, decode, total, runs, _ = row.cells
        cell = f"{row.head:<14}"
        line = t("bench.line", cell=cell, prefill=prefill, decode=decode, total=total, runs=runs)
        yield "  " + (t("bench.line.limit", line=line, share=near.cells[0]) if near else line)
    for warning in view.warnings:
        yield f"  {t('bench.warning', text=printable(warning))}"


def comparison_lines(comparison: Comparison, language: Language = "en") -> Iterator[str]:
    """A comparison in a few lines, for a terminal."""
    t = partial(say, language)
    options = {"first": comparison.first.options, "second": comparison.second.options}
    yield f"{comparison.outcome}: {t('bench.against', **options)}"
    for cell in comparison.cells:
        yield f"  {cell.outcome:<12} {cell.cell.name}: {printable(told(cell, language))}"
    for side in (comparison.first, comparison.second):
        verdict = word(language, side.accuracy.verdict)
        yield f"  {t('bench.tokens_of', options=side.options, verdict=verdict)}"


def word(language: Language, verdict: str | None) -> str:
    """A verdict, or that there is none."""
    return verdict or say(language, f"bench.{NOT_JUDGED}")


def trend(benches: Sequence[Bench], language: Language = "en") -> Iterator[tuple[str, ...]]:
    """One line a bench, oldest first: stored figures show a trend and judge
    nothing, and those of another machine are not comparable."""
    if len(benches) < 2:
        return
    ordered = sorted(benches, key=lambda b: b.created)
    newest = ordered[-1].machine
    for bench in ordered:
        rows = bench_view(bench, language).throughput
        decode = ", ".join(f"{row.head}: {row.cells[1]}" for row in rows[:3])
        where = "this_machine" if bench.machine == newest else "another_machine"
        torch = str(bench.environment.get("torch", ""))
        yield bench.created, bench.device, torch, decode, say(language, f"bench.{where}")


def render_load(load: LoadBench, path: Path, language: Language = "en") -> None:
    """Write a report of a server under load; errors as of ``render_bench``."""
    check_bench_report(path)

    def values(language: Language) -> dict[str, Any]:
        head = [say(language, f"bench.head.{column}") for column in LOAD_HEAD]
        rows = [_load_row(times, language) for times in load.loads]
        return {"load": load, "head": head, "rows": rows, "marker": marker_of("load", load.model)}

    _write(path, "bench_load", language, values)


def load_lines(load: LoadBench, language: Language = "en") -> Iterator[str]:
    """A server under load in a few lines, for a terminal."""
    yield say(
        language,
        "bench.under_load.short",
        url=printable(load.url),
        prompt=load.prompt_tokens,
        output=load.output_tokens,
    )
    head = [say(language, f"bench.head.{column}") for column in LOAD_HEAD[1:]]
    for times in load.loads:
        row = _load_row(times, language)
        cells = zip(head, row.cells, strict=True)
        yield f"  {row.head}: " + ", ".join(f"{name} {value}" for name, value in cells)
        if times.first_error:
            error = printable(times.first_error)
            yield f"  {say(language, 'bench.first_error', text=error)}"


LOAD_HEAD = (
    *("load", "completed", "lost", "requests_s", "output_tok_s", "ttft_median", "ttft_p90"),
    *("itl_median", "itl_p99", "counts_alike"),
)


def _load_row(times: LoadTimes, language: Language) -> Row:
    ttft = summary([t / 1e9 for t in times.ttft_ns])
    gaps = summary([g / 1e9 for request in times.itl_ns for g in request])
    alike = {True: "yes", False: "no", None: "bench.counts_nothing"}[times.counters_agree]
    rate = "bench.all_at_once" if times.rate is None else "bench.a_second"
    wall = times.wall_ns / 1e9
    return Row(
        say(language, rate, rate=times.rate, concurrency=times.concurrency),
        (
            say(language, "of", n=times.completed, all=times.requests),
            str(times.errors),
            number(times.completed / wall),
            number(times.output_tokens / wall),
            seconds(ttft.median if ttft else None),
            seconds(ttft.p90 if ttft else None),
            seconds(gaps.median if gaps else None),
            seconds(gaps.p99 if gaps else None),
            say(language, alike),
        ),
    )
