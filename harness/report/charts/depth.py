"""Error over the depth of the model."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from harness.report.charts.frame import Frame, line, path, ticks
from harness.report.views.sections import Depth


def depth_chart(curve: Sequence[Depth], label: str) -> Markup:
    """The candidate's error and the noise, module by module; empty where
    there is nothing to draw."""
    errors = [v for point in curve for v in (point.error, point.noise) if v is not None]
    if not errors:
        return Markup()
    top = max(errors) or 1.0
    frame = Frame(720, 190, 52, 708, 12, 164, 0, max(len(curve) - 1, 1), 0, top)
    return frame.svg(
        label,
        [
            frame.axes([v for v in ticks(0, max(len(curve) - 1, 1), 8) if v == int(v)],
                       ticks(0, top, 4)),
            path("line reference", line(frame, [point.noise for point in curve])),
            path("line candidate", line(frame, [point.error for point in curve])),
        ],
    )  # fmt: skip
