"""Error ratios over time."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from harness.report.charts.frame import Frame, path, ticks
from harness.statistics.intervals import Interval


def trend_chart(ratios: Sequence[Interval], limit: float, label: str) -> Markup:
    """One point with its interval per alignment, in the order given; empty
    where none has a value."""
    ends = [v for one in ratios for v in (one.value, one.low, one.high) if v is not None]
    if not ends:
        return Markup()
    low, high = min(*ends, limit, 1.0), max(*ends, limit, 1.0)
    room = 0.1 * (high - low)
    frame = Frame(720, 200, 52, 708, 12, 174, -0.5, len(ratios) - 0.5, low - room, high + room)
    there = [(n, one) for n, one in enumerate(ratios) if one.value is not None]
    spans = "".join(
        f"M{frame.x(n):.1f} {frame.y(one.low):.1f}V{frame.y(one.high):.1f}"
        for n, one in there
        if one.low is not None and one.high is not None
    )
    values = [one.value for one in ratios]
    numbers = Markup().join(
        Markup('<text x="{:.1f}" y="190" text-anchor="middle">{}</text>').format(frame.x(n), n + 1)
        for n in range(len(ratios))
    )
    points = "".join(f"M{frame.x(n):.1f} {frame.y(one.value or 0.0):.1f}h0" for n, one in there)
    threads = "".join(
        f"{'M' if n == 0 or values[n - 1] is None else 'L'}{frame.x(n):.1f} {frame.y(v):.1f}"
        for n, v in enumerate(values)
        if v is not None
    )
    return frame.svg(
        label,
        [
            frame.axes([], ticks(frame.y0, frame.y1, 4)),
            path("diagonal", f"M{frame.left} {frame.y(limit):.1f}H{frame.right}"),
            path("thread", threads),
            path("span", spans),
            path("point", points),
            numbers,
        ],
    )
