"""What a diagnosis says of each head."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from harness.report.text import visible
from harness.report.views.sections import HeadRow

#: What divides the colours, in parts of what chance stays below.
LEVELS = (0.5, 0.75, 1.0, 2.0)
_HEIGHT, _LEFT, _TOP, _WIDTH = 14, 40, 18, 640
#: No cell is wider.
_WIDEST = 48.0


def head_chart(rows: Sequence[HeadRow], limit: float, label: str) -> Markup:
    """Layers by heads, each with the colour of its t and a dot where that is beyond chance;
    empty where there are no heads.

    Args:
        limit: what chance stays below.
        label: id of the element that names the chart.
    """
    most = max((len(row.heads) for row in rows), default=0)
    if not most or not limit > 0.0:
        return Markup()
    width = min(_WIDEST, _WIDTH / most)
    paths: list[list[str]] = [[] for _ in range(len(LEVELS) + 1)]
    dots: list[str] = []
    for n, row in enumerate(rows):
        y = _TOP + n * _HEIGHT
        for column, t in enumerate(row.heads):
            x, size = _LEFT + column * width, f"{0.94 * width:.1f}"
            level = sum(t > part * limit for part in LEVELS)
            paths[level].append(f"M{x:.1f} {y}h{size}v{_HEIGHT - 1}h-{size}z")
            if t > limit:
                dots.append(f"M{x + 1:.1f} {y + 2}h2v2h-2z")
    drawn = [
        Markup('<path class="h{}" d="{}"/>').format(n, "".join(p)) for n, p in enumerate(paths)
    ]
    drawn.append(Markup('<path class="dot" d="{}"/>').format("".join(dots)))
    return Markup(
        '<svg class="chart heads" viewBox="0 0 {} {}" role="img" aria-labelledby="{}">{}{}</svg>'
    ).format(
        _LEFT + _WIDTH + 10,
        _TOP + len(rows) * _HEIGHT + 4,
        label,
        _labels(rows, most, width),
        Markup().join(drawn),
    )


def _labels(rows: Sequence[HeadRow], most: int, width: float) -> Markup:
    names = Markup().join(
        Markup('<text x="{}" y="{}" text-anchor="end">{}</text>').format(
            _LEFT - 6, _TOP + n * _HEIGHT + 11, visible(row.layer)
        )
        for n, row in enumerate(rows)
    )
    # The first and the last head; of one head the first alone.
    ends = dict.fromkeys((0, most - 1))
    return names + Markup().join(
        Markup('<text x="{:.1f}" y="11" text-anchor="middle">{}</text>').format(
            _LEFT + (column + 0.5) * width, column
        )
        for column in ends
    )
