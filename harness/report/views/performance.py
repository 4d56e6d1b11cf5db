"""Performance for the templates: figures side by side, with their definitions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.alignment.outcomes import ALIGNED
from harness.alignment.result import Alignment, Arm, Figures
from harness.report.language import Said, said
from harness.report.text import NONE, number, seconds, shortened, size
from harness.report.views.environment import moment

#: Counts of what was run, and figures of memory, which come from the load.
_COUNTS = ("samples", "output_tokens")
_MEMORY = ("weights_bytes", "peak_device_bytes", "peak_rss_bytes")
#: A ratio of speeds within this of 1 is called equal.
_ALIKE = 0.02


@dataclass(frozen=True)
class FigureView:
    """A figure of performance of both arms; ``key`` names its messages, ``better`` the one
    for which way is better, None where none is."""

    key: str
    candidate: str
    reference: str
    ratio: str
    better: str | None


@dataclass(frozen=True)
class PerformanceView:
    """``speed`` is the outcome in words, ``where`` the host and time of both arms; ``void``
    where the verdict makes every figure worthless."""

    speed: Said
    where: tuple[Said, ...]
    rows: tuple[FigureView, ...]
    samples: Said
    void: bool


def performance_view(alignment: Alignment) -> PerformanceView:
    """The figures of an alignment."""
    a, b = alignment.performance.candidate, alignment.performance.reference
    return PerformanceView(
        speed=_speed(a, b),
        where=tuple(_where(alignment)),
        rows=tuple(_rows(alignment)),
        samples=said(
            "performance.samples",
            a=f"{a.samples:,}",
            b=f"{a.gaps:,}",
            c=f"{b.samples:,}",
            d=f"{b.gaps:,}",
        ),
        void=alignment.verdict not in ALIGNED,
    )


def _speed(candidate: Figures, reference: Figures) -> Said:
    """How much faster, by output tokens over the requests' time."""
    mine, theirs = candidate.total_tok_s, reference.total_tok_s
    if not mine or not theirs:
        return said("performance.speed.unknown")
    ratio = mine / theirs
    key = "alike" if abs(ratio - 1) <= _ALIKE else "faster" if ratio > 1 else "slower"
    times = f"{ratio if ratio > 1 else 1 / ratio:.2f}"
    return said(f"performance.speed.{key}", times=times, a=number(mine), b=number(theirs))


def _where(alignment: Alignment) -> Iterator[Said]:
    for arm in (alignment.candidate, alignment.reference):
        if arm is not None:
            yield said(
                "performance.where",
                role=said(arm.role),
                device=arm.device,
                host=_host(arm),
                when=moment(arm.created),
            )


def _host(arm: Arm) -> str:
    """The card or processor, and the system around it."""
    environment = arm.environment
    told = (environment.get("accelerator") or environment.get("processor"),
            environment.get("platform"))  # fmt: skip
    return ", ".join(shortened(str(value), 80) for value in told if value) or NONE


def _rows(alignment: Alignment) -> Iterator[FigureView]:
    performance = alignment.performance
    a, b = performance.candidate, performance.reference
    for key in _COUNTS:
        yield FigureView(key, _count(getattr(a, key)), _count(getattr(b, key)), NONE, None)
    for key in Figures.measured():
        way = "better.higher" if key.endswith("tok_s") else "better.lower"
        mine, theirs = (_shown(key, getattr(arm, key)) for arm in (a, b))
        yield FigureView(key, mine, theirs, number(performance.ratio.get(key)), way)
    yield from _memory(alignment)


def _memory(alignment: Alignment) -> Iterator[FigureView]:
    """What the load told of memory, where one of both told it."""
    for key in _MEMORY:
        arms = (alignment.candidate, alignment.reference)
        mine, theirs = (None if arm is None else getattr(arm.load, key) for arm in arms)
        if mine is not None or theirs is not None:
            ratio = mine / theirs if mine and theirs else None
            better = None if key == "weights_bytes" else "better.lower"
            yield FigureView(key, size(mine), size(theirs), number(ratio), better)


def _count(value: int | None) -> str:
    return number(value or None)


def _shown(key: str, value: float | None) -> str:
    return number(value) if key.endswith("tok_s") else seconds(value)
