"""What the charts share: a frame with axes, ticks, lines and marks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup

from harness.report.text import number

#: Points of a line, at most.
BINS = 256
#: The largest value at an end of an axis, so that no difference leaves a double.
LARGEST = 1e300

CROSS = "m-3.5-3.5l7 7m0-7l-7 7"
FLIP = "m-4-4h8l-4 7z"


@dataclass(frozen=True)
class Frame:
    """A plot area in a picture of ``width`` by ``height``, and the values at its
    ends, within LARGEST either way."""

    width: int
    height: int
    left: int
    right: int
    top: int
    bottom: int
    x0: float
    x1: float
    y0: float
    y1: float

    def x(self, value: float) -> float:
        """Where a value lies across."""
        share = (value - self.x0) / ((self.x1 - self.x0) or 1)
        return self.left + (self.right - self.left) * share

    def y(self, value: float) -> float:
        """Where a value lies down."""
        share = (value - self.y0) / ((self.y1 - self.y0) or 1)
        return self.bottom - (self.bottom - self.top) * share

    def svg(self, label: str, parts: Iterable[Markup], kind: str = "chart") -> Markup:
        """The picture of all parts, named by the element of id ``label``."""
        return Markup(
            '<svg class="{}" viewBox="0 0 {} {}" role="img" aria-labelledby="{}">{}</svg>'
        ).format(kind, self.width, self.height, label, Markup().join(parts))

    def axes(self, xs: Sequence[float], ys: Sequence[float]) -> Markup:
        """Both axes with ticks, and a light line across at each of ``ys``."""
        grid = "".join(f"M{self.left} {self.y(v):.1f}H{self.right}" for v in ys)
        ticks = "".join(f"M{self.x(v):.1f} {self.bottom}v4" for v in xs)
        across = Markup().join(
            Markup('<text x="{:.1f}" y="{}" text-anchor="middle">{}</text>').format(
                self.x(v), self.bottom + 16, number(v)
            )
            for v in xs
        )
        down = Markup().join(
            Markup('<text x="{}" y="{:.1f}" text-anchor="end">{}</text>').format(
                self.left - 7, self.y(v) + 4, number(v)
            )
            for v in ys
        )
        return (
            Markup('<path class="grid" d="{}"/><path class="axis" d="M{} {}H{}{}"/>').format(
                grid, self.left, self.bottom, self.right, ticks
            )
            + across
            + down
        )


def ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round values from ``low`` to ``high``: steps of 1, 2 or 5 times a power of ten."""
    if not math.isfinite(high - low) or high <= low:
        return [low]
    rough = (high - low) / about
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * n for n in (1, 2, 5, 10) if power * n >= rough * 0.75)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)]


def positions_ticks(count: int) -> list[float]:
    """Whole positions from 0 to the last."""
    last = max(count - 1, 1)
    found = [v for v in ticks(0, last, 8) if v == int(v)]
    return found or [0]


def path(kind: str, commands: str) -> Markup:
    """A path of one class; nothing where it has no commands."""
    return Markup('<path class="{}" d="{}"/>').format(kind, commands) if commands else Markup()


def line(frame: Frame, values: Sequence[float | None]) -> str:
    """A path through values at 0, 1, 2..., broken where there is none; more
    than BINS are shown by the largest of a few."""
    step = max(1, -(-len(values) // BINS))
    parts: list[str] = []
    drawing = False
    for start in range(0, len(values), step):
        found = [value for value in values[start : start + step] if value is not None]
        if not found:
            drawing = False
            continue
        x, y = frame.x(start + (step - 1) / 2), frame.y(max(found))
        parts.append(f"{'L' if drawing else 'M'}{x:.1f} {y:.1f}")
        if not drawing:
            parts.append("h0")  # a point alone is drawn as a dot
        drawing = True
    return "".join(parts)


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share lies below, between neighbours; 0.0 without values."""
    return float(np.quantile(np.clip(values, -LARGEST, LARGEST), share)) if values else 0.0
