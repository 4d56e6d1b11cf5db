"""Margin against shift: why a choice flips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.alignment.outcomes import FAILING
from harness.alignment.prompt_result import PromptAlignment
from harness.report.charts.frame import CROSS, FLIP, LARGEST, Frame, path, quantile, ticks
from harness.report.text import number, percent

#: Upper ends of the margins that the table beneath counts by, in logits.
EDGES = (0.0, 0.125, 0.25, 0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Point:
    """A position: its margin and shift, whether it flips, whether it fails."""

    margin: float
    shift: float
    flip: bool
    failing: bool


@dataclass(frozen=True)
class Bin:
    """A row of the table beneath."""

    margin: str
    positions: int
    flips: int
    rate: str
    largest: str
    failing: int


@dataclass(frozen=True)
class Scatter:
    """The picture, its table, and what is not drawn as it is."""

    svg: Markup
    bins: tuple[Bin, ...]
    drawn: int
    positions: int
    outside: int


def scatter(prompts: Sequence[PromptAlignment], label: str) -> Scatter | None:
    """Every position with a margin and a shift; None where there is none."""
    points, tolerances = _points(prompts)
    if not points:
        return None
    middle = quantile(tolerances, 0.5)
    frame = _frame(points, middle)
    plain = {_place(frame, p) for p in points if not p.flip and not p.failing}
    flips = {_place(frame, p) for p in points if p.flip and not p.failing}
    failing = {_place(frame, p) for p in points if p.failing}
    diagonal = min(frame.x1, -frame.y0)
    start = f"M{frame.x(0):.1f} {frame.y(0):.1f}"
    band = "".join(f"M{frame.left} {frame.y(v):.1f}H{frame.right}" for v in (middle, -middle))
    svg = frame.svg(
        label,
        [
            path("flipside", f"{start}L{frame.x(diagonal):.1f} {frame.y(-diagonal):.1f}"
                 f"V{frame.bottom}H{frame.left}z"),
            frame.axes(ticks(frame.x0, frame.x1, 8), ticks(frame.y0, frame.y1, 5)),
            path("band", band if middle else ""),
            path("diagonal", f"{start}L{frame.x(diagonal):.1f} {frame.y(-diagonal):.1f}"),
            path("dots", _marks(plain, "h0")),
            path("flip", _marks(flips, FLIP)),
            path("cross", _marks(failing, CROSS)),
        ],
    )  # fmt: skip
    outside = sum(p.margin > frame.x1 or not frame.y0 <= p.shift <= frame.y1 for p in points)
    drawn = len(plain) + len(flips) + len(failing)
    return Scatter(svg, _bins(points), drawn, len(points), outside)


def _points(prompts: Sequence[PromptAlignment]) -> tuple[list[Point], list[float]]:
    points, tolerances = [], []
    for prompt in prompts:
        at = prompt.positions
        for margin, shift, tolerance, ours, theirs, name in zip(
            at.margin, at.shift, at.tolerance, at.candidate_token, at.reference_token, at.class_,
            strict=False,
        ):  # fmt: skip
            if margin is None or shift is None:
                continue
            points.append(Point(margin, shift, ours != theirs, name in FAILING))
            if tolerance is not None:
                tolerances.append(tolerance)
    return points, tolerances


def _frame(points: Sequence[Point], tolerance: float) -> Frame:
    """Wide enough for every flip and failure, and for most of the rest."""
    marked = [p for p in points if p.flip or p.failing]
    shifts = [abs(p.shift) for p in points]
    extremes = quantile([abs(p.shift) for p in marked], 0.98)
    high = 1.08 * (max(quantile(shifts, 0.995), 1.3 * tolerance, extremes) or 1.0)
    margins = quantile([p.margin for p in points], 0.6)
    wide = max(2.5 * high, min(margins, 8 * high), 1.1 * quantile([p.margin for p in marked], 0.98))
    high, wide = min(high, LARGEST), min(wide, LARGEST)
    return Frame(720, 320, 52, 708, 12, 296, 0.0, wide, -high, high)


def _place(frame: Frame, point: Point) -> tuple[int, int]:
    """Where a point is drawn, in whole units; the edge stands for what is beyond."""
    return (
        round(frame.x(min(max(point.margin, frame.x0), frame.x1))),
        round(frame.y(min(max(point.shift, frame.y0), frame.y1))),
    )


def _marks(places: set[tuple[int, int]], shape: str) -> str:
    return "".join(f"M{x} {y}{shape}" for x, y in sorted(places))


def _bins(points: Sequence[Point]) -> tuple[Bin, ...]:
    rows: list[list[Point]] = [[] for _ in range(len(EDGES) + 1)]
    for point in points:
        rows[sum(point.margin > edge for edge in EDGES)].append(point)
    names = ["0", *(f"≤ {number(edge)}" for edge in EDGES[1:]), f"> {number(EDGES[-1])}"]
    return tuple(_bin(name, points) for name, points in zip(names, rows, strict=True))


def _bin(name: str, points: Sequence[Point]) -> Bin:
    flips = sum(p.flip for p in points)
    return Bin(
        name,
        len(points),
        flips,
        percent(flips / len(points)) if points else number(None),
        number(max((abs(p.shift) for p in points), default=None)),
        sum(p.failing for p in points),
    )
