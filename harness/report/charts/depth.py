"""Error over the depth of the model."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from harness.report.charts.frame import Frame, line, path, ticks
from harness.report.text import visible
from harness.report.views.sections import Depth

#: Names of modules on the axis, and characters of each.
_NAMES, _LONGEST = 14, 22


def depth_chart(curve: Sequence[Depth], label: str, begins: str | None = None) -> Markup:
    """The candidate's error and the noise, module by module, under their names; empty where
    there is nothing to draw.

    Args:
        begins: the module that a line marks by its name.
    """
    errors = [v for point in curve for v in (point.error, point.noise) if v is not None]
    if not errors:
        return Markup()
    top = max(errors) or 1.0
    long = max(len(_short(point.module)) for point in curve) > 4
    frame = Frame(
        720,
        250 if long else 190,
        92 if long else 52,
        708,
        22,
        164,
        0,
        max(len(curve) - 1, 1),
        0,
        top,
    )
    return frame.svg(
        label,
        [
            frame.axes([], ticks(0, top, 4)),
            _names(frame, curve, long),
            _beginning(frame, curve, begins),
            path("line reference", line(frame, [point.noise for point in curve])),
            path("line candidate", line(frame, [point.error for point in curve])),
        ],
    )


def _names(frame: Frame, curve: Sequence[Depth], long: bool) -> Markup:
    """Names under the axis, as many as there is room for; long ones aslant."""
    step = -(-len(curve) // _NAMES)
    shown = range(0, len(curve), step)
    marks = "".join(f"M{frame.x(n):.1f} {frame.bottom}v4" for n in shown)
    how = Markup('transform="rotate(-40 {} {})" text-anchor="end"') if long else None
    names = []
    for n in shown:
        x, y = f"{frame.x(n):.1f}", frame.bottom + 16
        turned = Markup('text-anchor="middle"') if how is None else how.format(x, y - 4)
        text = Markup('<text x="{}" y="{}" {}>{}</text>')
        names.append(text.format(x, y, turned, visible(_short(curve[n].module))))
    return Markup('<path class="axis" d="{}"/>').format(marks) + Markup().join(names)


def _beginning(frame: Frame, curve: Sequence[Depth], begins: str | None) -> Markup:
    at = next((n for n, point in enumerate(curve) if point.module == begins), None)
    if at is None:
        return Markup()
    x, late = frame.x(at), at > len(curve) / 2
    text = Markup('<text x="{:.1f}" y="16" text-anchor="{}">{}</text>').format(
        x - 5 if late else x + 5, "end" if late else "start", visible(_short(curve[at].module))
    )
    return Markup('<path class="limit" d="M{:.1f} {}V{}"/>').format(x, 8, frame.bottom) + text


def _short(module: str) -> str:
    """The end of a module's name, which tells it apart."""
    name = module.removeprefix("model.").replace("layers.", "")
    return name if len(name) <= _LONGEST else f"…{name[-_LONGEST:]}"
