"""Performance for the templates: figures side by side, with their definitions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from harness.alignment.outcomes import ALIGNED
from harness.alignment.result import Alignment
from harness.report.language import MESSAGES, Said, said
from harness.report.text import NONE, number, seconds

#: Figures that are always shown; others of the same kind only where there are any.
_ALWAYS = ("load_s", "ttft_s", "itl_s", "decode_tpot_s", "decode_tok_s", "total_tok_s")
_OTHERS = ("e2e_s", "prefill_tok_s", "peak_memory_bytes")


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
    found = alignment.performance
    keys = [*_ALWAYS, *(k for k in _OTHERS if _value(found.candidate, k) is not None)]
    a, b = found.candidate, found.reference
    return PerformanceView(
        rows=tuple(_row(found, key) for key in keys if f"perf.{key}" in MESSAGES["en"]),
        samples=said(
            "performance.samples",
            a=f"{a.samples:,}",
            b=f"{a.gaps:,}",
            c=f"{b.samples:,}",
            d=f"{b.gaps:,}",
        ),
        void=alignment.verdict not in ALIGNED,
    )


def _row(found: Any, key: str) -> FigureView:
    return FigureView(
        key=key,
        candidate=_shown(key, _value(found.candidate, key)),
        reference=_shown(key, _value(found.reference, key)),
        ratio=number(found.ratio.get(key)),
        better="better.higher" if key.endswith("tok_s") else "better.lower",
    )


def _value(figures: Any, key: str) -> float | None:
    value = getattr(figures, key, None)
    return float(value) if isinstance(value, (int, float)) else None


def _shown(key: str, value: float | None) -> str:
    if key.endswith("tok_s"):
        return number(value)
    if key.endswith("_bytes"):
        return NONE if value is None else f"{value / 2**30:.3g} GiB"
    return seconds(value)
