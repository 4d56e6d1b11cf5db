"""Small pictures of one figure."""

from __future__ import annotations

import math

from markupsafe import Markup

from harness.report.charts.frame import path
from harness.statistics.intervals import Interval

_LOW, _HIGH = 0.5, 4.0


def gauge(ratio: Interval, limit: float | None) -> Markup:
    """An error ratio with its interval on a logarithmic axis, 1 and the limit
    marked. Decoration: the figures stand beside it."""
    if ratio.value is None:
        return Markup()
    low, high = ratio.low, ratio.high
    span = "" if low is None or high is None else f"M{_x(low):.1f} 12H{_x(high):.1f}"
    beyond = 0.0 if limit is None else _x(limit)
    return Markup(
        '<svg class="gauge" viewBox="0 0 200 30" aria-hidden="true">{}{}{}{}{}'
        '<text x="{:.1f}" y="28" text-anchor="middle">1</text>{}</svg>'
    ).format(
        path("track", "M0 12H200"),
        path("over", f"M{beyond:.1f} 12H200") if limit is not None else "",
        path("tick", f"M{_x(1):.1f} 6v12"),
        path("span", span),
        path("point", f"M{_x(ratio.value):.1f} 12h0"),
        _x(1),
        Markup('<path class="limit" d="M{:.1f} 5v14"/><text x="{:.1f}" y="28"'
               ' text-anchor="middle">{:g}</text>').format(beyond, beyond, limit)
        if limit is not None
        else "",
    )  # fmt: skip


def _x(value: float) -> float:
    share = math.log(max(value, 1e-9) / _LOW) / math.log(_HIGH / _LOW)
    return 4 + 192 * min(max(share, 0.0), 1.0)


def reach_bar(reach: float | None) -> Markup:
    """How much of its tolerance a shift takes up; the mark is all of it."""
    width = 0.0 if reach is None else 100 * reach
    return Markup(
        '<svg class="reach" viewBox="0 0 200 10" aria-hidden="true" preserveAspectRatio="none">'
        '<rect class="track" y="3" width="200" height="4"/>'
        '<rect class="{}" y="3" width="{:.1f}" height="4"/>'
        '<path class="limit" d="M100 0v10"/></svg>'
    ).format("fill over" if width > 100 else "fill", width)
