"""From an alignment to what the templates show: pure functions, frozen data.

Everything here is computed from the alignment alone. Texts stay as they are
(the templates make them harmless), figures become short texts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.alignment.outcomes import ALIGNED, FAILING
from harness.alignment.prompt_result import PromptAlignment
from harness.alignment.result import Alignment, Arm
from harness.report.language import Said, said, said_of
from harness.report.text import NONE, number, percent, shortened
from harness.report.views.environment import EnvironmentRow, compared_rows, environment_rows
from harness.report.views.gates import STATUS_TONE, GateView, gate_view, interval
from harness.report.views.performance import PerformanceView, performance_view
from harness.report.views.prompt import (
    TONES,
    VERDICT_MARK,
    PromptView,
    flips,
    prompt_view,
    ran_free,
    tone_of,
    worst_first,
)
from harness.report.views.scope import ScopeRow, could_see
from harness.report.views.sections import Sections, sections
from harness.report.views.texts import Texts, texts
from harness.report.views.why import Why, why
from harness.statistics.intervals import Interval

#: Which word explains which figure.
_WORDS = {
    "hero.failed": "gate",
    "hero.undecided": "gate",
    "hero.error_ratio": "error_ratio",
    "hero.beyond": "tolerance",
    "hero.flips": "flip",
}
#: Prompts that only flip, in a short report.
MOST_FLIPPING = 3
#: Characters of tokens, figures and texts that the details of one report may
#: weigh; prompts beyond are in the list only, the worst first.
DETAILS_BUDGET = 2_600_000
#: What a prompt in detail takes apart from its positions.
_PROMPT_WEIGHT = 4_000
#: What a position weighs in that budget, about.
_POSITION_WEIGHT = 250

#: Sections of a page after the verdict, in order.
PARTS = (
    *("gates", "diagnosis", "equal_tokens", "equal_texts"),
    *("prompts", "texts", "heat", "scatter", "survival", "depth", "compared", "scope"),
    *("performance", "matrix", "doctor", "magnifier", "reproduce"),
)


@dataclass(frozen=True)
class HeroView:
    """One of the figures that carry the verdict; with an interval where it has one. ``word``
    is the one of the glossary that explains its label."""

    label: str
    value: str
    note: Said
    tone: str
    interval: Interval | None = None
    limit: float | None = None

    @property
    def word(self) -> str | None:
        """Key of the word, None where the label says all."""
        return _WORDS.get(self.label)


@dataclass(frozen=True)
class AlignmentView:
    """One alignment, ready to be shown."""

    anchor: str
    source: Alignment
    verdict: str
    tone: str
    mark: str
    sentence: Said
    hero: tuple[HeroView, ...]
    why: Why
    error_ratio: Said
    top_k_error_ratio: Said
    flips: int
    beyond: int | None
    diverged: str
    classes: tuple[tuple[str, int], ...]
    gates: tuple[GateView, ...]
    warnings: tuple[Said, ...]
    could_see: tuple[ScopeRow, ...]
    prompts: tuple[PromptView, ...]
    embedded: tuple[int, ...]
    texts: Texts | None
    performance: PerformanceView
    arms: tuple[Arm, ...]
    compared: tuple[EnvironmentRow, ...]
    differing: tuple[EnvironmentRow, ...]
    one_sided: tuple[EnvironmentRow, ...]
    same: tuple[EnvironmentRow, ...]
    sections: Sections

    @property
    def parts(self) -> tuple[str, ...]:
        """Messages that head the sections of this alignment, in order."""
        there = {
            "diagnosis": self.sections.diagnosis is not None,
            "scope": bool(self.could_see),
            **{name: self._equal == name for name in ("equal_tokens", "equal_texts")},
            "texts": self.texts is not None,
            "heat": bool(self.prompts),
            "scatter": any(_has_shift(p) for p in self.source.prompts),
            "survival": bool(self.prompts),
            "depth": bool(self.sections.depth),
            "matrix": bool(self.sections.matrix),
            "doctor": bool(self.sections.doctor),
            "magnifier": self.sections.magnifier is not None,
        }
        parts = tuple(name for name in PARTS if there.get(name, True))
        if self.source.comparability.comparable:
            return parts
        # What refuses a comparison comes first.
        return ("compared", *(name for name in parts if name != "compared"))

    @property
    def _equal(self) -> str | None:
        return None if self.sections.equal is None else self.sections.equal.heading

    @property
    def worst_first(self) -> tuple[PromptView, ...]:
        """Prompts whose verdict fails first, then those without judgement."""
        return tuple(sorted(self.prompts, key=lambda prompt: TONES.index(prompt.tone)))

    @property
    def verdict_counts(self) -> tuple[tuple[str, str, str, int], ...]:
        """How many prompts have which verdict: (verdict, mark, tone, count), worst first."""
        counts: dict[tuple[str, str, str], int] = {}
        for p in self.worst_first:
            key = (p.verdict, p.mark, p.tone)
            counts[key] = counts.get(key, 0) + 1
        return tuple((*key, count) for key, count in counts.items())

    @property
    def noteworthy(self) -> tuple[PromptView, ...]:
        """Prompts whose positions a short report shows: those that fail, and
        the first few of those that only flip."""
        failing = [p for p in self.worst_first if p.window and p.series.failing]
        return (*failing, *self._only_flipping[:MOST_FLIPPING])

    @property
    def flipping_left_out(self) -> int:
        """Prompts with a flip and no failing position that a short report leaves out."""
        return max(0, len(self._only_flipping) - MOST_FLIPPING)

    @property
    def _only_flipping(self) -> list[PromptView]:
        return [p for p in self.worst_first if p.window and p.series.flips and not p.series.failing]


def views(alignments: Sequence[Alignment]) -> tuple[AlignmentView, ...]:
    """One view per alignment, in order; together they keep to the budget."""
    budget = DETAILS_BUDGET // max(1, len(alignments))
    return tuple(view(alignment, f"a{n}", budget) for n, alignment in enumerate(alignments, 1))


def view(alignment: Alignment, anchor: str = "a1", budget: int = DETAILS_BUDGET) -> AlignmentView:
    """What the templates show of an alignment; ``anchor`` begins its HTML ids."""
    tone = tone_of(alignment.verdict)
    arms = (alignment.candidate, *alignment.baseline)
    rows = environment_rows(arms)
    embedded = embedded_prompts(alignment.prompts, budget)
    entries = {n: entry for entry, n in enumerate(embedded)}
    return AlignmentView(
        anchor=anchor,
        source=alignment,
        verdict=alignment.verdict,
        tone=tone,
        mark=VERDICT_MARK[tone],
        sentence=said_of(alignment),
        hero=hero(alignment),
        why=why(alignment),
        error_ratio=interval(alignment.error_ratio),
        top_k_error_ratio=interval(alignment.top_k_error_ratio),
        flips=flip_count(alignment),
        beyond=beyond_count(alignment),
        diverged=_diverged(alignment),
        classes=tuple((name, count) for name, count in alignment.classes.items() if count),
        gates=tuple(sorted(map(gate_view, alignment.gates), key=_by_need)),
        warnings=tuple(map(said_of, alignment.remarks)),
        could_see=could_see(alignment),
        prompts=tuple(
            prompt_view(alignment, prompt, f"{anchor}-p{n}", entries.get(n))
            for n, prompt in enumerate(alignment.prompts)
        ),
        embedded=embedded,
        texts=texts(alignment, anchor, embedded),
        performance=performance_view(alignment),
        arms=arms,
        compared=compared_rows(alignment),
        differing=tuple(row for row in rows if row.differs),
        one_sided=tuple(row for row in rows if row.one_sided),
        same=tuple(row for row in rows if not row.differs and not row.one_sided),
        sections=sections(alignment),
    )


def _has_shift(prompt: PromptAlignment) -> bool:
    at = prompt.positions
    return any(m is not None and s is not None for m, s in zip(at.margin, at.shift, strict=False))


def embedded_prompts(prompts: Sequence[PromptAlignment], budget: int) -> tuple[int, ...]:
    """Indices of the prompts that are shown in detail, in their own order: all
    where they fit, else the worst as far as they do; at least one."""
    kept: list[int] = []
    left = budget
    for n in worst_first(prompts):
        left -= _weight(prompts[n])
        if left < 0 and kept:
            break
        kept.append(n)
    return tuple(sorted(kept))


def _weight(prompt: PromptAlignment) -> int:
    texts = len(prompt.text) + len(prompt.context_text) + len(prompt.candidate_text)
    # They stand in the list of texts too, at most MOST_TEXT of each.
    return _PROMPT_WEIGHT + 2 * texts + _POSITION_WEIGHT * len(prompt.context_token_ids)


def _by_need(gate: GateView) -> int:
    """What failed first, then what is open; the rest in the order of the judgement."""
    first = ("FAIL", "INCONCLUSIVE")
    return first.index(gate.status) if gate.status in first else len(first)


def hero(alignment: Alignment) -> tuple[HeroView, ...]:
    """The figures that carry the verdict, after the gates that failed or are open; for a
    refusal, what differs."""
    if not alignment.comparability.comparable:
        names = [d.field for d in alignment.comparability.differences]
        note = said("hero.fields.note", names=", ".join(shortened(n, 60) for n in names[:6]))
        return (HeroView("hero.fields", f"{len(names):,}", note, "open"),)
    figures = (_hero_ratio(alignment), _hero_beyond(alignment), _hero_flips(alignment))
    return (*_hero_gates(alignment), *figures)


def _hero_gates(alignment: Alignment) -> tuple[HeroView, ...]:
    """What the verdict is of, where it is bad: the other figures may all look good."""
    for status, label, tone in (
        ("FAIL", "hero.failed", "bad"),
        ("INCONCLUSIVE", "hero.undecided", "open"),
    ):
        names = [gate.name for gate in alignment.gates if gate.status == status]
        if names and alignment.verdict not in ALIGNED:
            note = said("hero.fields.note", names=", ".join(names))
            return (HeroView(label, f"{len(names):,}", note, tone),)
    return ()


def _hero_ratio(alignment: Alignment) -> HeroView:
    ratio = alignment.error_ratio
    gate = next((g for g in alignment.gates if g.name == "error_ratio"), None)
    limit = None if gate is None else gate.limit
    if ratio.value is None:
        # The gate says why: no oracle, rows that are not finite, texts without rows.
        why = said("hero.error_ratio.none") if gate is None else said_of(gate)
        return HeroView("hero.error_ratio", NONE, why, "open")
    key = "hero.error_ratio.point" if None in (ratio.low, ratio.high) else "hero.error_ratio.note"
    note = said(key, low=_two(ratio.low), high=_two(ratio.high), limit=number(limit))
    tone = "open" if gate is None else STATUS_TONE[gate.status]
    return HeroView("hero.error_ratio", f"{ratio.value:.2f}×", note, tone, ratio, limit)


def _two(value: float | None) -> str:
    return NONE if value is None else f"{value:.2f}"


def _hero_beyond(alignment: Alignment) -> HeroView:
    count = beyond_count(alignment)
    if count is None:
        return HeroView("hero.beyond", NONE, said("hero.beyond.none"), "open")
    note = said("hero.beyond.note", all=f"{alignment.positions:,}")
    return HeroView("hero.beyond", f"{count:,}", note, "bad" if count else "good")


def _hero_flips(alignment: Alignment) -> HeroView:
    flipped, judged = flip_count(alignment), alignment.positions
    share = percent(flipped / judged if judged else None)
    note = said("hero.flips.note", all=f"{judged:,}", percent=share)
    return HeroView("hero.flips", f"{flipped:,}", note, "plain")


def flip_count(alignment: Alignment) -> int:
    """Flips over all prompts."""
    return sum(len(flips(prompt)) for prompt in alignment.prompts)


def beyond_count(alignment: Alignment) -> int | None:
    """Positions that fail the point guard; None where nothing could be judged."""
    classes = [c for p in alignment.prompts for c in p.positions.class_]
    if not any(c is not None for c in classes):
        return None
    return sum(c in FAILING for c in classes)


def _diverged(alignment: Alignment) -> str:
    free = [prompt for prompt in alignment.prompts if ran_free(alignment, prompt)]
    left = sum(prompt.first_divergence is not None for prompt in free)
    return f"{left:,} / {len(free):,}" if free else NONE
