"""Error over prompts and positions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.text import number, visible
from harness.report.views.prompt import Series, rms_ratio

#: Ratios of the candidate's error to the reference's that divide the colours;
#: 1.5 is what an error ratio may reach.
LEVELS = (0.67, 1.0, 1.5, 3.0)
#: Rows, at most.
MOST_ROWS = 200

_COLUMNS = 128
_HEIGHT, _LEFT, _TOP, _WIDTH = 14, 150, 18, 640


@dataclass(frozen=True)
class HeatRow:
    """A row of the table beneath: its largest ratio and where that is."""

    anchor: str
    prompt: str
    ratio: str
    largest: str
    at: str
    failing: int


@dataclass(frozen=True)
class HeatMap:
    """The picture, its table, and how many prompts have no row in them."""

    svg: Markup
    rows: tuple[HeatRow, ...]
    left_out: int
    levels: tuple[float, ...] = LEVELS


def heat_map(series: Sequence[Series], label: str) -> HeatMap | None:
    """Prompts by positions: the candidate's error over the reference's.

    None where no prompt has both.
    """
    rows = series[:MOST_ROWS]
    count = max((min(len(row.candidate), len(row.reference)) for row in rows), default=0)
    if all(ratio is None for row in rows for ratio in _ratios(row, 1)):
        return None
    per_cell = -(-count // _COLUMNS)
    columns = -(-count // per_cell)
    paths: list[list[str]] = [[] for _ in range(len(LEVELS) + 1)]
    crosses: list[str] = []
    for n, row in enumerate(rows):
        _draw(row, (n, _WIDTH / columns, per_cell), paths, crosses)
    svg = Markup(
        '<svg class="heat" viewBox="0 0 {} {}" role="img" aria-labelledby="{}"'
        ' data-cells="{}" data-step="{}" data-rows="{}">{}{}{}{}</svg>'
    ).format(
        _LEFT + _WIDTH + 10,
        _TOP + len(rows) * _HEIGHT + 4,
        label,
        columns,
        per_cell,
        " ".join(row.anchor or "-" for row in rows),
        _labels(rows, columns * per_cell, count),
        Markup().join(
            Markup('<path class="h{}" d="{}"/>').format(level, "".join(path))
            for level, path in enumerate(paths)
            if path
        ),
        _dots(paths),
        Markup('<path class="cross" d="{}"/>').format("".join(crosses)) if crosses else "",
    )
    return HeatMap(svg, tuple(map(_table_row, rows)), len(series) - len(rows))


def _draw(
    row: Series, at: tuple[int, float, int], paths: list[list[str]], crosses: list[str]
) -> None:
    """The cells of one row, each into the path of its colour."""
    n, width, per_cell = at
    y = _TOP + n * _HEIGHT
    failing = {index // per_cell for index in row.failing}
    for column, ratio in enumerate(_ratios(row, per_cell)):
        x = _LEFT + column * width
        if ratio is not None:
            size = f"{width * 0.94:.1f}"
            paths[_level(ratio)].append(f"M{x:.1f} {y}h{size}v{_HEIGHT - 1}h-{size}z")
        if column in failing:
            crosses.append(f"M{x + width / 2:.1f} {y + _HEIGHT // 2}m-3-3l6 6m0-6l-6 6")


def _dots(paths: Sequence[Sequence[str]]) -> Markup:
    """A dot in every cell above 1.5, for readers and printers without colours."""
    dots = "".join(f"{cell.split('h', 1)[0]}m1 2h2v2h-2z" for path in paths[3:] for cell in path)
    return Markup('<path class="dot" d="{}"/>').format(dots) if dots else Markup()


def _ratios(row: Series, per_cell: int) -> Iterable[float | None]:
    count = min(len(row.candidate), len(row.reference))
    for start in range(0, count, per_cell):
        end = min(start + per_cell, count)
        ours, theirs = row.candidate[start:end], row.reference[start:end]
        both = any(a is not None and b is not None for a, b in zip(ours, theirs, strict=True))
        ratio = rms_ratio(ours, theirs)
        # Both without an error: as good as equal.
        yield 0.0 if both and ratio is None else ratio


def _level(ratio: float) -> int:
    return sum(ratio > limit for limit in LEVELS)


def _table_row(row: Series) -> HeatRow:
    found = [(ratio, n) for n, ratio in enumerate(_ratios(row, 1)) if ratio is not None]
    largest, at = max(found, key=lambda pair: pair[0], default=(None, None))
    return HeatRow(
        row.anchor,
        row.prompt,
        number(rms_ratio(row.candidate, row.reference)),
        "∞" if largest == math.inf else number(largest),
        number(at),
        len(row.failing),
    )


def _labels(rows: Sequence[Series], end: int, count: int) -> Markup:
    names = Markup().join(
        Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(
            _LEFT - 6, _TOP + n * _HEIGHT + 11, visible(row.prompt[:20])[:22]
        )
        for n, row in enumerate(rows)
    )
    last = _LEFT + _WIDTH * count / end
    return names + Markup(
        '<text x="{}" y="11">0</text><text x="{:.1f}" y="11" text-anchor="end">{}</text>'
    ).format(_LEFT, last, count - 1)
