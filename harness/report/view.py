"""From an alignment to what the templates show: pure functions, frozen data.

Everything here is computed from the alignment alone. Texts stay as they are
(the templates make them harmless), figures become short texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.alignment.result import Alignment, Arm, Figures, Gate, Interval
from harness.report.prompt_view import (
    TONES,
    VERDICT_MARK,
    PromptView,
    flips,
    prompt_views,
    ran_free,
    tone_of,
)
from harness.report.text import NONE, number, seconds, shortened

#: Prompts that only flip, in a short report.
MOST_FLIPPING = 3

_STATUS_TONE = {"PASS": "good", "WARN": "warn", "FAIL": "bad"}
_STATUS_MARK = {"PASS": "✓", "WARN": "!", "FAIL": "✗", "INCONCLUSIVE": "?", "NOT_RUN": NONE}


@dataclass(frozen=True)
class GateView:
    """A gate: ``found`` is its value with its interval."""

    name: str
    status: str
    tone: str
    mark: str
    found: str
    threshold: str
    sentence: str


@dataclass(frozen=True)
class FigureView:
    """A figure of performance of both arms and what it means."""

    name: str
    candidate: str
    reference: str
    ratio: str
    better: str
    definition: str


@dataclass(frozen=True)
class EnvironmentRow:
    """A field over the arms: candidate first, then the baseline's."""

    name: str
    values: tuple[str, ...]
    differs: bool


@dataclass(frozen=True)
class AlignmentView:
    """One alignment, ready to be shown."""

    anchor: str
    source: Alignment
    verdict: str
    tone: str
    mark: str
    error_ratio: str
    top_k_error_ratio: str
    flips: int
    diverged: str
    classes: tuple[tuple[str, int], ...]
    gates: tuple[GateView, ...]
    prompts: tuple[PromptView, ...]
    performance: tuple[FigureView, ...]
    samples: str
    arms: tuple[Arm, ...]
    differing: tuple[EnvironmentRow, ...]
    same: tuple[EnvironmentRow, ...]

    @property
    def worst_first(self) -> tuple[PromptView, ...]:
        """Prompts whose verdict fails first, then those without judgement."""
        return tuple(sorted(self.prompts, key=lambda prompt: TONES.index(prompt.tone)))

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
    """One view per alignment, in order."""
    return tuple(view(alignment, f"a{n}") for n, alignment in enumerate(alignments, 1))


def view(alignment: Alignment, anchor: str = "a1") -> AlignmentView:
    """What the templates show of an alignment; ``anchor`` begins its HTML ids."""
    tone = tone_of(alignment.verdict)
    arms = (alignment.candidate, *alignment.baseline)
    rows = _environment(arms)
    figures = alignment.performance
    return AlignmentView(
        anchor=anchor,
        source=alignment,
        verdict=alignment.verdict,
        tone=tone,
        mark=VERDICT_MARK[tone],
        error_ratio=interval(alignment.error_ratio),
        top_k_error_ratio=interval(alignment.top_k_error_ratio),
        flips=sum(len(flips(prompt)) for prompt in alignment.prompts),
        diverged=_diverged(alignment),
        classes=tuple((name, count) for name, count in alignment.classes.items() if count),
        gates=tuple(_gate(gate) for gate in alignment.gates),
        prompts=prompt_views(alignment, anchor),
        performance=_performance(alignment),
        samples=_samples(figures.candidate, figures.reference),
        arms=arms,
        differing=tuple(row for row in rows if row.differs),
        same=tuple(row for row in rows if not row.differs),
    )


def interval(found: Interval) -> str:
    """``1.02 (0.98 to 1.07)``, or what there is of it."""
    if found.value is None:
        return NONE
    return number(found.value) + (_ends(found.low, found.high) or " (no interval)")


def _ends(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f" ({number(low)} to {number(high)})"


def _gate(gate: Gate) -> GateView:
    return GateView(
        name=gate.name,
        status=gate.status,
        tone=_STATUS_TONE.get(gate.status, "open"),
        mark=_STATUS_MARK[gate.status],
        found=number(gate.value) + _ends(gate.low, gate.high),
        threshold=number(gate.threshold),
        sentence=gate.sentence,
    )


def _diverged(alignment: Alignment) -> str:
    free = [prompt for prompt in alignment.prompts if ran_free(alignment, prompt)]
    left = sum(prompt.first_divergence is not None for prompt in free)
    return f"{left:,} of {len(free):,}" if free else NONE


#: Figure, name, what is better, definition (DESIGN: names of performance figures).
_FIGURES = (
    ("load_s", "load", "lower", "opening the device: from nothing to a loaded model"),
    ("ttft_s", "time to first token", "lower", "request handed over to first token"),
    ("itl_s", "inter-token latency", "lower", "gap between two tokens, over all gaps"),
    ("decode_tpot_s", "time per output token", "lower", "(last − first) / (n − 1) of a request"),
    (
        "decode_tok_s",
        "decode tokens per second",
        "higher",
        "tokens after the first over their time, summed over requests",
    ),
    (
        "total_tok_s",
        "tokens per second",
        "higher",
        "output tokens over the requests' time, first token included",
    ),
)


def _performance(alignment: Alignment) -> tuple[FigureView, ...]:
    found = alignment.performance
    rows = []
    for key, name, better, definition in _FIGURES:
        show = number if key.endswith("tok_s") else seconds
        rows.append(
            FigureView(
                name=name,
                candidate=show(getattr(found.candidate, key)),
                reference=show(getattr(found.reference, key)),
                ratio=number(found.ratio.get(key)),
                better=better,
                definition=definition,
            )
        )
    return tuple(rows)


def _samples(candidate: Figures, reference: Figures) -> str:
    return (
        f"Medians over {candidate.samples:,} requests and {candidate.gaps:,} gaps of the "
        f"candidate, {reference.samples:,} requests and {reference.gaps:,} gaps of the reference."
    )


def _environment(arms: Sequence[Arm]) -> list[EnvironmentRow]:
    """Every field of every arm; fields come in the order of the first arm that has them."""
    columns = [dict(_fields(arm)) for arm in arms]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = []
    for name in names:
        whole = [column.get(name, NONE) for column in columns]
        # Load times are measurements, which always differ.
        differs = len(set(whole)) > 1 and not name.startswith("load.")
        rows.append(EnvironmentRow(name, tuple(shortened(v, 300) for v in whole), differs))
    return rows


def _fields(arm: Arm) -> Iterator[tuple[str, str]]:
    document = arm.model_dump(mode="python")
    for name in ("model", "suite", "settings", "overridden", "engine", "environment", "load"):
        yield from _flat(name, document[name])


def _flat(name: str, value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}", inner)
    else:
        yield name, _value(value)


def _value(value: Any) -> str:
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False)
