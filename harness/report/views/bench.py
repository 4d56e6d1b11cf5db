"""What the report of a bench shows: tables and charts from raw samples."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

from harness.bench.figures import FIGURES, Summary, figures, quantile, roofline
from harness.bench.remarks import warnings_of
from harness.bench.result import Bench, CellTimes
from harness.devices.facts import LoadFigures
from harness.messages.render import render
from harness.messages.statement import told
from harness.report.language import MESSAGES, Language, say
from harness.report.text import NONE, number, seconds, size, visible

#: In place of a verdict, where the tokens were not judged.
NOT_JUDGED = "NOT JUDGED"
_SECONDS = {"ttft_s", "itl_s", "decode_tpot_s", "e2e_s"}
_NOT_TIMED = "not timed by the engine"
#: The bar of a load of which no part is known.
_WHOLE = "load"


@dataclass(frozen=True)
class Row:
    """One line of a table: its head and its cells."""

    head: str
    cells: tuple[str, ...]


@dataclass(frozen=True)
class BenchView:
    """A bench, ready for a template. ``aligned`` False crosses figures out."""

    source: Bench
    title: str
    aligned: bool
    verdict: str
    sentence: str
    warnings: tuple[str, ...]
    figures: tuple[tuple[str, str, str], ...]
    load: tuple[Row, ...]
    throughput: tuple[Row, ...]
    latency: tuple[Row, ...]
    memory: tuple[Row, ...]
    roofline: tuple[Row, ...]
    charts: tuple[tuple[str, Markup], ...]
    definitions: tuple[Row, ...]


def bench_view(bench: Bench, language: Language = "en") -> BenchView:
    """Every table of a bench, in one language."""
    measured = [c for c in bench.cells if c.repeats]
    return BenchView(
        source=bench,
        title=f"{bench.device}, {bench.model.name}, {bench.dtype}",
        aligned=bench.aligned,
        verdict=bench.accuracy.verdict or NOT_JUDGED,
        sentence=told(bench.accuracy, language),
        warnings=tuple(render(warning, language) for warning in warnings_of(bench)),
        figures=tuple(_figures(bench, measured, language)),
        load=tuple(_named(language, row) for row in _load(bench)),
        throughput=tuple(_worded(language, _throughput(times)) for times in measured),
        latency=tuple(row for cell in measured for row in _latency(cell)),
        memory=tuple(_named(language, row) for row in _memory(bench)),
        roofline=tuple(_roofline(bench, measured)),
        charts=tuple(_charts(bench, measured, language)),
        definitions=tuple(Row(name, (say(language, f"bench.is.{name}"),)) for name in FIGURES),
    )


def _figures(
    bench: Bench, measured: Sequence[CellTimes], language: Language
) -> Iterator[tuple[str, str, str]]:
    """What a reader looks for first: name, value, and the cell that it is of."""
    for name, best in (("decode_tok_s", max), ("total_tok_s", max), ("ttft_s", min)):
        found = [(shown[name].median, times.cell.name) for times in measured
                 if name in (shown := figures(times))]  # fmt: skip
        if found:
            value, cell = best(found)
            shown_value = seconds(value) if name in _SECONDS else number(value)
            yield say(language, f"bench.best.{name}"), shown_value, cell
    yield label(language, _WHOLE), seconds(bench.load.load_s), ""


def label(language: Language, name: str) -> str:
    """The word for a row, a chart or an outcome, in one language."""
    return say(language, f"bench.{name}")


def _named(language: Language, row: Row) -> Row:
    """A row whose head is a name of the messages; figures stay as they are."""
    return replace(_worded(language, row), head=label(language, row.head))


def _worded(language: Language, row: Row) -> Row:
    """A row whose cells may be words."""
    return replace(row, cells=tuple(_word(language, cell) for cell in row.cells))


def _word(language: Language, cell: str) -> str:
    if cell in ("yes", "no"):
        return say(language, cell)
    return label(language, cell) if f"bench.{cell}" in MESSAGES[language] else cell


def cold_parts(bench: Bench) -> list[tuple[str, float]]:
    """The cold start in parts that do not overlap, seconds: those that the
    engine tells, the rest of the load, and the first request."""
    load = bench.load
    told = [
        ("weights", load.weights_s),
        ("compilation", load.compile_s),
        ("warm-up", load.warmup_s),
        ("profiling and KV cache", _besides(load)),
        ("graph capture", load.graph_capture_s),
    ]
    parts = [(label, value) for label, value in told if value is not None]
    if load.load_s is not None:
        rest = load.load_s - sum(value for _, value in parts)
        parts.append(("the rest of the load" if parts else _WHOLE, max(rest, 0.0)))
    if bench.first_request_s is not None:
        parts.append(("first request", bench.first_request_s))
    return parts


def _besides(load: LoadFigures) -> float | None:
    """What the engine's initialization took besides the parts that have a figure."""
    if load.init_engine_s is None:
        return None
    inside = (load.compile_s, load.warmup_s, load.graph_capture_s)
    return max(load.init_engine_s - sum(part or 0.0 for part in inside), 0.0)


def _load(bench: Bench) -> Iterator[Row]:
    yield Row("load, whole", (seconds(bench.load.load_s),))
    parts = [part for part in cold_parts(bench) if part[0] != _WHOLE]  # which is said above
    rows = [Row(label, (seconds(value),)) for label, value in parts]
    place = sum(row.head in ("weights", "compilation") for row in rows)
    yield from (*rows[:place], *_untimed(bench), *rows[place:])


def _untimed(bench: Bench) -> Iterator[Row]:
    """Parts of an engine that can compile, of which it tells no time, and why."""
    eager = bench.engine.enforce_eager
    if eager is None:
        return
    if bench.load.compile_s is None:
        yield Row("compilation", ("not compiled (enforce_eager)" if eager else _NOT_TIMED,))
    if bench.load.warmup_s is None:
        yield Row("warm-up", (_NOT_TIMED,))


def _throughput(times: CellTimes) -> Row:
    shown = figures(times)
    cell = times.cell

    def rate(name: str) -> str:
        one = shown.get(name)
        return NONE if one is None else number(one.median)

    return Row(
        cell.name,
        (
            rate("prefill_tok_s"),
            rate("decode_tok_s"),
            rate("total_tok_s"),
            str(len(times.repeats)),
            "yes" if times.stable else "no",
        ),
    )


def _latency(times: CellTimes) -> Iterator[Row]:
    shown = figures(times)
    for name in ("ttft_s", "itl_s", "decode_tpot_s", "e2e_s"):
        one = shown.get(name)
        if one is not None:
            yield Row(
                times.cell.name,
                (name, seconds(one.median), seconds(one.p90), seconds(one.p99), str(one.samples)),
            )


def _memory(bench: Bench) -> Iterator[Row]:
    load = bench.load
    yield Row("weights", (size(load.weights_bytes),))
    host = max((c.peak_host_bytes or 0 for c in bench.cells), default=0)
    yield Row("peak of the host process", (size(host or load.peak_rss_bytes),))
    device = max((c.peak_device_bytes or 0 for c in bench.cells), default=0)
    yield Row("peak of the accelerator", (size(device or load.peak_device_bytes),))
    yield Row("KV cache", (size(load.kv_cache_bytes),))
    tokens = load.kv_cache_tokens
    yield Row("KV cache, tokens", (NONE if tokens is None else number(int(tokens)),))


def _roofline(bench: Bench, measured: Sequence[CellTimes]) -> Iterator[Row]:
    if bench.limits is None:
        return
    for times in measured:
        shares = roofline(times, bench.limits)
        yield Row(times.cell.name, (_share(shares.decode_memory), _share(shares.prefill_compute)))


def _share(value: float | None) -> str:
    return NONE if value is None else f"{100 * value:.0f} %"


def _charts(
    bench: Bench, measured: Sequence[CellTimes], language: Language
) -> Iterator[tuple[str, Markup]]:
    cold = [(label(language, name), value, seconds(value)) for name, value in cold_parts(bench)]
    yield label(language, "Cold start"), bars(cold)
    for name, title in (
        ("decode_tok_s", "Decode throughput, tokens a second"),
        ("decode_tpot_s", "Time per decoded token"),
    ):
        cells = [(times.cell.name, figures(times).get(name)) for times in measured]
        yield (
            label(language, title),
            bars([(cell, one.median, _shown(name, one)) for cell, one in cells if one]),
        )
    gaps = [gap / 1e9 for t in measured for r in t.repeats for q in r.requests for gap in q.itl_ns]
    if gaps:
        yield label(language, "Gaps between tokens, all cells"), histogram(gaps)


def _shown(name: str, one: Summary) -> str:
    return seconds(one.median) if name in _SECONDS else number(one.median)


def bars(items: Sequence[tuple[str, float, str]]) -> Markup:
    """Horizontal bars with their label and figure; each also stands in a table."""
    top = max((value for _, value, _ in items), default=0.0) or 1.0
    parts = [
        Markup(
            '<text x="0" y="{y}">{label}</text><rect x="190" y="{r}" width="{w}" '
            'height="12"/><text x="{e}" y="{y}">{shown}</text>'
        ).format(
            y=20 * i + 15,
            r=20 * i + 5,
            label=visible(label),
            w=f"{max(360 * value / top, 1):.1f}",
            e=f"{196 + max(360 * value / top, 1):.1f}",
            shown=shown,
        )
        for i, (label, value, shown) in enumerate(items)
    ]
    return _svg(20 * len(items) + 6, parts)


def histogram(values: Sequence[float], bins: int = 40) -> Markup:
    """Counts of equal bins from 0 to the 99th percentile; the last holds the rest."""
    top = quantile(values, 0.99) * 1.05 or 1.0
    counts = [0] * bins
    for value in values:
        counts[min(bins - 1, int(bins * value / top))] += 1
    most = max(counts)
    width = 680 / bins
    parts = [
        Markup('<rect x="{}" y="{}" width="{}" height="{}"/>').format(
            f"{i * width:.1f}",
            f"{100 - 95 * count / most:.1f}",
            f"{width - 1:.1f}",
            f"{95 * count / most:.1f}",
        )
        for i, count in enumerate(counts)
        if count
    ]
    labels = [(0, "start", "0"), (340, "middle", seconds(top / 2)), (680, "end", seconds(top))]
    parts += [
        Markup('<text x="{}" y="116" text-anchor="{}">{}</text>').format(x, anchor, text)
        for x, anchor, text in labels
    ]
    return _svg(122, parts)


def _svg(height: int, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="bars" viewBox="0 0 720 {}" role="img" aria-hidden="true">{}</svg>'
    ).format(height, Markup("").join(parts))
