"""Performance for the templates: figures side by side, with their definitions."""

from __future__ import annotations

from dataclasses import dataclass

from harness.alignment.outcomes import ALIGNED
from harness.alignment.result import Alignment, Figures, Performance
from harness.report.language import Said, said
from harness.report.text import number, seconds

#: What the figures were taken of, said in a line of its own.
_COUNTS = ("samples", "gaps")


@dataclass(frozen=True)
class FigureView:
    """A figure of performance of both arms; ``key`` names its messages."""

    key: str
    candidate: str
    reference: str
    ratio: str
    better: str


@dataclass(frozen=True)
class PerformanceView:
    """``void`` where the verdict makes every figure worthless."""

    rows: tuple[FigureView, ...]
    samples: Said
    void: bool


def performance_view(alignment: Alignment) -> PerformanceView:
    """The figures of an alignment."""
    performance = alignment.performance
    a, b = performance.candidate, performance.reference
    return PerformanceView(
        rows=tuple(_row(performance, key) for key in Figures.model_fields if key not in _COUNTS),
        samples=said(
            "performance.samples",
            a=f"{a.samples:,}",
            b=f"{a.gaps:,}",
            c=f"{b.samples:,}",
            d=f"{b.gaps:,}",
        ),
        void=alignment.verdict not in ALIGNED,
    )


def _row(performance: Performance, key: str) -> FigureView:
    return FigureView(
        key=key,
        candidate=_shown(key, getattr(performance.candidate, key)),
        reference=_shown(key, getattr(performance.reference, key)),
        ratio=number(performance.ratio.get(key)),
        better="better.higher" if key.endswith("tok_s") else "better.lower",
    )


def _shown(key: str, value: float | None) -> str:
    return number(value) if key.endswith("tok_s") else seconds(value)
