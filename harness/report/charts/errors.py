"""Error per position of one prompt."""

from __future__ import annotations

from markupsafe import Markup

from harness.report.charts.frame import CROSS, FLIP, Frame, line, path, positions_ticks, ticks
from harness.report.views.prompt import Series


def error_chart(series: Series, label: str) -> Markup:
    """Error of the candidate and the reference, in logits.

    An empty Markup where there is no error to show.
    """
    if not series.there:
        return Markup()
    count = max(len(series.candidate), len(series.reference))
    values = [v for v in (*series.candidate, *series.reference) if v is not None]
    top = max(values, default=0.0) or 1.0
    frame = Frame(720, 150, 52, 708, 22, 124, 0, max(count - 1, 1), 0, top)
    return frame.svg(
        label,
        [
            frame.axes(positions_ticks(count), ticks(0, top, 4)),
            path("line reference", line(frame, series.reference)),
            path("line candidate", line(frame, series.candidate)),
            path("flip", "".join(f"M{frame.x(n):.1f} 12{FLIP}" for n in series.flips)),
            path("cross", "".join(f"M{frame.x(n):.1f} 11{CROSS}" for n in series.failing)),
        ],
    )
