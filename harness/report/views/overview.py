"""Several alignments at once: side by side, per prompt, and over time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.report.language import Said
from harness.report.text import NONE, number, shortened
from harness.report.views.alignment import AlignmentView
from harness.report.views.environment import fields, moment
from harness.statistics.intervals import Interval

#: Prompts in the table of all alignments.
MOST_PROMPTS = 300
_MOST_CHANGES = 6


@dataclass(frozen=True)
class PromptRow:
    """One prompt over all alignments; None where one does not have it.

    A cell is (mark, tone, verdict, where the own run diverged, anchor).
    """

    id: str
    cells: tuple[tuple[str, str, str, Said, str] | None, ...]


@dataclass(frozen=True)
class TrendPoint:
    """One alignment of a trend and what changed since the one before."""

    view: AlignmentView
    changed: tuple[tuple[str, str, str], ...] | None
    more: int


@dataclass(frozen=True)
class Trend:
    """Alignments of one device, model, suite and dtype, oldest first."""

    anchor: str
    name: str
    points: tuple[TrendPoint, ...]
    intervals: tuple[Interval, ...]
    limit: float


@dataclass(frozen=True)
class Overview:
    """What several alignments have to say together."""

    alike: bool
    labels: tuple[str, ...]
    prompts: tuple[PromptRow, ...]
    left_out: int
    trends: tuple[Trend, ...]


def overview(shown: Sequence[AlignmentView]) -> Overview:
    """The table of prompts and the trends of several alignments."""
    arms = [view.source.candidate for view in shown]
    # A server may not tell its weights: what is not known differs from nothing.
    weights = {arm.model.weights for arm in arms if arm.model.weights}
    ids = list(dict.fromkeys(p.id for v in shown for p in v.prompts))
    return Overview(
        alike=len({arm.suite.digest for arm in arms}) == 1 and len(weights) <= 1,
        labels=_labels(shown),
        prompts=tuple(_prompt_row(name, shown) for name in ids[:MOST_PROMPTS]),
        left_out=max(0, len(ids) - MOST_PROMPTS),
        trends=_trends(shown),
    )


def _labels(shown: Sequence[AlignmentView]) -> tuple[str, ...]:
    """Names of candidates, with the time of recording where two have one name."""
    arms = [v.source.candidate for v in shown]
    names = [shortened(arm.name, 60) for arm in arms]
    return tuple(
        name if names.count(name) == 1 else f"{name}, {moment(arm.created)}"
        for name, arm in zip(names, arms, strict=True)
    )


def speed(view: AlignmentView) -> tuple[str, str]:
    """Decoded tokens per second, and against the reference."""
    found = view.source.performance
    return number(found.candidate.decode_tok_s), number(found.ratio.get("decode_tok_s"))


def _prompt_row(name: str, shown: Sequence[AlignmentView]) -> PromptRow:
    cells = []
    for view in shown:
        p = next((p for p in view.prompts if p.id == name), None)
        anchor = "" if p is None or p.entry is None else p.anchor
        cells.append(None if p is None else (p.mark, p.tone, p.verdict, p.divergence, anchor))
    return PromptRow(name, tuple(cells))


def _trends(shown: Sequence[AlignmentView]) -> tuple[Trend, ...]:
    groups: dict[tuple[str, ...], list[AlignmentView]] = {}
    for view in shown:
        arm = view.source.candidate
        key = (arm.name, arm.model.name, arm.suite.digest, arm.dtype)
        groups.setdefault(key, []).append(view)
    trends: list[Trend] = []
    for group in groups.values():
        ordered = sorted(group, key=lambda v: v.source.candidate.created)
        # Several of one moment are one run judged in several ways.
        if len({v.source.candidate.created for v in ordered}) > 1:
            trends.append(_trend(f"trend-{len(trends) + 1}", ordered))
    return tuple(trends)


def _trend(anchor: str, ordered: Sequence[AlignmentView]) -> Trend:
    arm = ordered[0].source.candidate
    limits = [g.limit for v in ordered for g in v.source.gates if g.name == "error_ratio"]
    return Trend(
        anchor=anchor,
        name=shortened(f"{arm.name}, {arm.model.name}, {arm.suite.name}, {arm.dtype}", 200),
        points=tuple(_point(view, ordered[n - 1] if n else None) for n, view in enumerate(ordered)),
        intervals=tuple(v.source.error_ratio for v in ordered),
        limit=next((limit for limit in limits if limit is not None), 1.5),
    )


def _point(view: AlignmentView, before: AlignmentView | None) -> TrendPoint:
    if before is None:
        return TrendPoint(view, None, 0)
    old, new = (dict(fields(v.source.candidate)) for v in (before, view))
    changed = [
        (name, shortened(old.get(name, NONE), 60), shortened(new.get(name, NONE), 60))
        for name in dict.fromkeys((*old, *new))
        if old.get(name) != new.get(name) and not name.startswith("load.")
    ]
    return TrendPoint(view, tuple(changed[:_MOST_CHANGES]), max(0, len(changed) - _MOST_CHANGES))
