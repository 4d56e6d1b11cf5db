"""Charts as inline SVG: pure functions of figures, no script, no style attribute.

Colours come from classes of the report's style sheet. Colour never stands
alone: lines differ in their dashes, cells carry marks, and the same figures
are in tables.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from harness.report.prompt_view import Series
from harness.report.text import number, shortened, visible

#: Ratios of the candidate's error to the reference's that divide the colours
#: of the heat map; 1.5 is what an error ratio may reach.
LEVELS = (0.67, 1.0, 1.5, 3.0)
#: Names of the colours, one more than LEVELS.
LEVEL_NAMES = ("up to 0.67", "up to 1", "up to 1.5", "up to 3", "above 3")
#: Rows of the heat map, at most.
MOST_ROWS = 200

_BINS = 256  # points of a line, at most
_COLUMNS = 128  # columns of the heat map, at most
_WIDTH, _HEIGHT = 720, 130
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 708, 20, 108


def error_chart(series: Series) -> Markup:
    """Error per position of the candidate and the reference, in logits.

    More positions than there is room for are shown by the largest of a few.
    An empty Markup where there is no error to show.
    """
    if not series.there:
        return Markup()
    count = max(len(series.candidate), len(series.reference))
    found = (v for v in (*series.candidate, *series.reference) if v is not None)
    top = max(found, default=0.0) or 1.0
    label = f"Error per position of {visible(shortened(series.prompt, 60))}"
    return Markup(
        '<svg class="chart" viewBox="0 0 {} {}" role="img" aria-label="{}">'
        '<path class="axis" d="M{l} {t}V{b}H{r}"/>{}{}{}{}{}</svg>'
    ).format(
        _WIDTH,
        _HEIGHT,
        label,
        _axis_labels(count, top),
        Markup('<path class="line reference" d="{}"/>').format(_line(series.reference, count, top)),
        Markup('<path class="line candidate" d="{}"/>').format(_line(series.candidate, count, top)),
        Markup('<path class="flip" d="{}"/>').format(_marks(series.flips, count, "m-3-4h6l-3 5z")),
        Markup('<path class="cross" d="{}"/>').format(
            _marks(series.failing, count, "m-3-15l6 6m0-6l-6 6")
        ),
        l=_LEFT,
        t=_TOP,
        b=_BOTTOM,
        r=_RIGHT,
    )


def heat_map(rows: Sequence[Series]) -> Markup:
    """Prompts by positions: the candidate's error over the reference's.

    An empty Markup where no prompt has both.
    """
    rows = rows[:MOST_ROWS]
    count = max((min(len(row.candidate), len(row.reference)) for row in rows), default=0)
    if all(ratio is None for row in rows for ratio in _ratios(row, 1)):
        return Markup()
    per_cell = -(-count // _COLUMNS)
    columns = -(-count // per_cell)
    width, height, left, top = 640 / columns, 14, 150, 16
    paths: list[list[str]] = [[] for _ in LEVEL_NAMES]
    crosses: list[str] = []
    for n, row in enumerate(rows):
        y = top + n * height
        failing = {index // per_cell for index in row.failing}
        for column, ratio in enumerate(_ratios(row, per_cell)):
            x = left + column * width
            if ratio is not None:
                paths[_level(ratio)].append(
                    f"M{x:.1f} {y}h{width * 0.94:.1f}v{height - 1}h-{width * 0.94:.1f}z"
                )
            if column in failing:
                crosses.append(f"M{x + width / 2:.1f} {y + height / 2:.0f}m-3-3l6 6m0-6l-6 6")
    label = "Error of the candidate over error of the reference, prompts by positions"
    return Markup(
        '<svg class="heat" viewBox="0 0 {} {}" role="img" aria-label="{}">{}{}{}{}</svg>'
    ).format(
        left + 650,
        top + len(rows) * height + 4,
        label,
        _heat_labels(rows, (left, top, height), columns * per_cell, count),
        Markup().join(
            Markup('<path class="h{}" d="{}"/>').format(level, "".join(path))
            for level, path in enumerate(paths)
            if path
        ),
        _dots(paths),
        Markup('<path class="cross" d="{}"/>').format("".join(crosses)),
    )


def _dots(paths: Sequence[Sequence[str]]) -> Markup:
    """A dot in every cell above 1.5, for readers and printers without colours."""
    dots = "".join(f"{cell.split('h', 1)[0]}m2 2h2v2h-2z" for path in paths[3:] for cell in path)
    return Markup('<path class="dot" d="{}"/>').format(dots)


def _ratios(row: Series, per_cell: int) -> Iterable[float | None]:
    pairs = list(zip(row.candidate, row.reference, strict=False))
    for start in range(0, len(pairs), per_cell):
        both = [
            (a, b) for a, b in pairs[start : start + per_cell] if a is not None and b is not None
        ]
        if not both:
            yield None
            continue
        ours, theirs = (math.fsum(pair[side] ** 2 for pair in both) for side in (0, 1))
        if theirs > 0:
            yield math.sqrt(ours / theirs)
        else:
            yield math.inf if ours > 0 else 0.0


def _level(ratio: float) -> int:
    return sum(ratio > limit for limit in LEVELS)


def _heat_labels(
    rows: Sequence[Series], place: tuple[int, int, int], end: int, count: int
) -> Markup:
    left, top, height = place
    names = Markup().join(
        Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(
            left - 6, top + n * height + 11, visible(row.prompt[:20])[:22]
        )
        for n, row in enumerate(rows)
    )
    last = left + 640 * count / end
    return names + Markup(
        '<text x="{}" y="11">position 0</text><text x="{:.1f}" y="11" text-anchor="end">{}</text>'
    ).format(left, last, count - 1)


def _axis_labels(count: int, top: float) -> Markup:
    return Markup(
        '<text x="{}" y="{}" text-anchor="end">{}</text>'
        '<text x="{}" y="{}" text-anchor="end">0</text>'
        '<text x="{}" y="{}">position 0</text>'
        '<text x="{}" y="{}" text-anchor="end">{}</text>'
    ).format(
        _LEFT - 6,
        _TOP + 8,
        number(top),
        _LEFT - 6,
        _BOTTOM,
        _LEFT,
        _BOTTOM + 16,
        _RIGHT,
        _BOTTOM + 16,
        max(count - 1, 0),
    )


def _x(index: float, count: int) -> float:
    return _LEFT + (_RIGHT - _LEFT) * (index + 0.5) / max(count, 1)


def _line(values: Sequence[float | None], count: int, top: float) -> str:
    """A path through the values, broken where there is none."""
    step = max(1, -(-count // _BINS))
    parts: list[str] = []
    drawing = False
    for start in range(0, len(values), step):
        found = [value for value in values[start : start + step] if value is not None]
        if not found:
            drawing = False
            continue
        y = _BOTTOM - (_BOTTOM - _TOP) * max(found) / top
        parts.append(f"{'L' if drawing else 'M'}{_x(start + (step - 1) / 2, count):.1f} {y:.1f}")
        if not drawing:
            parts.append("h0")  # a point alone is drawn as a dot
        drawing = True
    return "".join(parts)


def _marks(indices: Iterable[int], count: int, shape: str) -> str:
    """The shape above each position; positions that fall together are drawn once."""
    places = dict.fromkeys(f"{_x(index, count):.0f}" for index in indices)
    return "".join(f"M{x} {_TOP - 2}{shape}" for x in places)
