"""How long prompts stay on the reference's tokens."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.charts.frame import Frame, path, positions_ticks
from harness.report.text import percent


@dataclass(frozen=True)
class Survival:
    """The picture, and rows of (position, prompts still equal, share)."""

    svg: Markup
    rows: tuple[tuple[int, int, str], ...]
    prompts: int


def survival(diverged: Sequence[int | None], length: int, label: str) -> Survival | None:
    """The share of prompts that have diverged nowhere up to a position.

    Args:
        diverged: per prompt with a free run, where it diverged, or None.
        length: positions of the longest prompt.
    """
    if not diverged or length < 1:
        return None
    count = len(diverged)
    # Counted where something diverges: a file may claim any length.
    falls = Counter(max(at, 0) for at in diverged if at is not None and at < length)
    frame = Frame(720, 190, 52, 708, 12, 164, 0, max(length - 1, 1), 0, 1)
    commands, alive = [f"M{frame.x(0):.1f} {frame.y(1):.1f}"], count
    for position in sorted(falls):
        alive -= falls[position]
        commands.append(f"H{frame.x(position):.1f}V{frame.y(alive / count):.1f}")
    commands.append(f"H{frame.right}")
    axes = frame.axes(positions_ticks(length), [])
    share = Markup().join(
        Markup('<text x="45" y="{:.1f}" text-anchor="end">{} %</text>').format(
            frame.y(v / 100) + 4, v
        )
        for v in (0, 50, 100)
    )
    grid = path("grid", "".join(f"M52 {frame.y(v):.1f}H708" for v in (0.5, 1)))
    svg = frame.svg(label, [grid, axes, share, path("line candidate step", "".join(commands))])
    return Survival(svg, _rows(diverged, length), count)


def _rows(diverged: Sequence[int | None], length: int) -> tuple[tuple[int, int, str], ...]:
    count, last = len(diverged), length - 1
    places = [n for n in (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024) if n < last]
    left = {n: sum(at is None or at > n for at in diverged) for n in (*places, last)}
    return tuple((n, alive, percent(alive / count)) for n, alive in left.items())
