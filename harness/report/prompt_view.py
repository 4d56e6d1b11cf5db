"""One prompt of an alignment as the templates show it: pure functions, frozen data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.alignment.result import (
    ALIGNED,
    FAILING,
    NO_JUDGEMENT,
    Alignment,
    PromptAlignment,
    TopTokens,
    Verdict,
)
from harness.report.text import NONE, number, shortened

#: Positions shown on either side of the one that a reader should look at.
AROUND = 8
#: Logits named per position.
TOP = 5
#: Characters shown of one token.
MOST_PIECE = 80
#: Tokens of a prompt that are set side by side.
MOST_PAIRS = 256
#: Failing positions listed per prompt.
MOST_FAILING = 64
#: Prompts with tokens, chart and positions; all are in the table.
MOST_DETAILED = 100

_T = TypeVar("_T")

_YES_NO = {True: "yes", False: "no", None: NONE}


VERDICT_MARK = {"good": "✓", "open": "?", "bad": "✗"}
#: Worst first.
TONES = ("bad", "open", "good")


@dataclass(frozen=True)
class TopView:
    """One of the largest logits: a token's text and its logit."""

    text: str
    logit: str


@dataclass(frozen=True)
class PositionView:
    """One judged position; ``context`` is the token all arms were given there."""

    index: int
    shown: bool
    failing: bool
    class_: str
    context: str | None
    reference: str | None
    candidate: str | None
    margin: str
    shift: str
    tolerance: str
    error: str
    reference_error: str
    bit_equal: str
    reference_top: tuple[TopView, ...]
    candidate_top: tuple[TopView, ...]


@dataclass(frozen=True)
class PairView:
    """The context's token and the candidate's own at one index; None where
    one of them had ended."""

    index: int
    context: str | None
    candidate: str | None
    equal: bool
    first: bool


@dataclass(frozen=True)
class Series:
    """Errors of one prompt over its positions, for the charts.

    ``candidate`` and ``reference`` are in logits, None where there is none;
    ``failing`` and ``flips`` are indices of positions.
    """

    prompt: str
    candidate: tuple[float | None, ...]
    reference: tuple[float | None, ...]
    failing: tuple[int, ...]
    flips: tuple[int, ...]

    @property
    def there(self) -> bool:
        """Whether anything can be drawn."""
        return any(value is not None for value in (*self.candidate, *self.reference))


@dataclass(frozen=True)
class PromptView:
    """One prompt: its row of the parity table and, below, its details."""

    anchor: str
    id: str
    verdict: str
    tone: str
    mark: str
    class_: str
    compared: str
    divergence: str
    shown: str
    margin: str
    shift: str
    tolerance: str
    error_ratio: str
    detailed: bool
    free: bool
    text: str
    context_text: str
    candidate_text: str
    pairs: tuple[PairView, ...]
    pairs_before: int
    pairs_after: int
    window: tuple[PositionView, ...]
    failing: tuple[PositionView, ...]
    failing_left_out: int
    series: Series


def tone_of(verdict: Verdict) -> str:
    """``good``, ``open`` or ``bad``: the three exit statuses."""
    if verdict in ALIGNED:
        return "good"
    return "open" if verdict in NO_JUDGEMENT else "bad"


def prompt_views(alignment: Alignment, anchor: str) -> tuple[PromptView, ...]:
    """A view per prompt, in order; the first MOST_DETAILED, worst first, in detail."""
    ranked = sorted(
        range(len(alignment.prompts)),
        key=lambda n: TONES.index(tone_of(alignment.prompts[n].verdict)),
    )
    detailed = set(ranked[:MOST_DETAILED])
    return tuple(
        _prompt(alignment, prompt, f"{anchor}-p{n}", n in detailed)
        for n, prompt in enumerate(alignment.prompts)
    )


def _prompt(
    alignment: Alignment, prompt: PromptAlignment, anchor: str, detailed: bool
) -> PromptView:
    tone = tone_of(prompt.verdict)
    count = len(prompt.positions.class_)
    shown = prompt.shown if prompt.shown is not None and 0 <= prompt.shown < count else None
    failing = [n for n, name in enumerate(prompt.positions.class_) if name in FAILING]
    window = _around(shown, count) if detailed else range(0)
    listed = failing[:MOST_FAILING] if detailed else []
    pairs, before, after = _pairs(alignment, prompt) if detailed else ((), 0, 0)
    return PromptView(
        anchor=anchor,
        id=prompt.id,
        verdict=prompt.verdict,
        tone=tone,
        mark=VERDICT_MARK[tone],
        class_=prompt.class_ or NONE,
        compared=f"{prompt.tokens_compared:,} / {prompt.tokens_expected:,}",
        divergence=_divergence(alignment, prompt),
        shown=NONE if shown is None else str(shown),
        margin=number(prompt.margin),
        shift=number(prompt.shift),
        tolerance=number(prompt.tolerance),
        error_ratio=number(error_ratio(prompt)),
        detailed=detailed,
        free=ran_free(alignment, prompt),
        text=prompt.text,
        context_text=prompt.context_text,
        candidate_text=prompt.candidate_text,
        pairs=pairs,
        pairs_before=before,
        pairs_after=after,
        window=tuple(_position(alignment, prompt, n) for n in window),
        failing=tuple(_position(alignment, prompt, n) for n in listed),
        failing_left_out=len(failing) - len(listed),
        series=Series(
            prompt=prompt.id,
            candidate=tuple(prompt.positions.error),
            reference=tuple(prompt.positions.reference_error),
            failing=tuple(failing),
            flips=tuple(flips(prompt)),
        ),
    )


def ran_free(alignment: Alignment, prompt: PromptAlignment) -> bool:
    """Whether the candidate chose tokens of its own; forced runs never diverge."""
    if prompt.first_divergence is not None:
        return True
    return bool(prompt.candidate_token_ids) and "free" in alignment.candidate.replay.split(", ")


def _divergence(alignment: Alignment, prompt: PromptAlignment) -> str:
    if prompt.first_divergence is not None:
        return str(prompt.first_divergence)
    return "none" if ran_free(alignment, prompt) else f"{NONE} (no free run)"


def error_ratio(prompt: PromptAlignment) -> float | None:
    """Error of the candidate over that of the reference, of this prompt alone;
    None without an oracle or where the reference has no error."""
    both = [
        (ours, theirs)
        for ours, theirs in zip(
            prompt.positions.error, prompt.positions.reference_error, strict=False
        )
        if ours is not None and theirs is not None
    ]
    ours, theirs = (math.fsum(pair[side] ** 2 for pair in both) for side in (0, 1))
    return math.sqrt(ours / theirs) if theirs > 0 else None


def flips(prompt: PromptAlignment) -> list[int]:
    """Positions where the candidate would take another token than the reference."""
    positions = prompt.positions
    tokens = zip(positions.reference_token, positions.candidate_token, strict=False)
    return [n for n, (reference, candidate) in enumerate(tokens) if reference != candidate]


def _around(shown: int | None, count: int) -> range:
    if shown is None:
        return range(0)
    return range(max(0, shown - AROUND), min(count, shown + AROUND + 1))


def _at(values: Sequence[_T], index: int) -> _T | None:
    return values[index] if 0 <= index < len(values) else None


def _piece(alignment: Alignment, token_id: int | None) -> str | None:
    return None if token_id is None else shortened(alignment.piece(token_id), MOST_PIECE)


def _tops(alignment: Alignment, top: TopTokens | None) -> tuple[TopView, ...]:
    return tuple(
        TopView(shortened(alignment.piece(t), MOST_PIECE), number(z)) for t, z in (top or [])[:TOP]
    )


def _position(alignment: Alignment, prompt: PromptAlignment, n: int) -> PositionView:
    positions = prompt.positions
    name = positions.class_[n]
    return PositionView(
        index=n,
        shown=n == prompt.shown,
        failing=name in FAILING,
        class_=name or NONE,
        context=_piece(alignment, _at(prompt.context_token_ids, n)),
        reference=_piece(alignment, _at(positions.reference_token, n)),
        candidate=_piece(alignment, _at(positions.candidate_token, n)),
        margin=number(_at(positions.margin, n)),
        shift=number(_at(positions.shift, n)),
        tolerance=number(_at(positions.tolerance, n)),
        error=number(_at(positions.error, n)),
        reference_error=number(_at(positions.reference_error, n)),
        bit_equal=_YES_NO[_at(positions.bit_equal, n)],
        reference_top=_tops(alignment, _at(positions.reference_top, n)),
        candidate_top=_tops(alignment, _at(positions.candidate_top, n)),
    )


def _pairs(alignment: Alignment, prompt: PromptAlignment) -> tuple[tuple[PairView, ...], int, int]:
    """The tokens side by side, and how many are left out before and after."""
    context, own = prompt.context_token_ids, prompt.candidate_token_ids
    count = max(len(context), len(own))
    first = prompt.first_divergence
    start = max(0, (first or 0) - MOST_PAIRS // 2) if count > MOST_PAIRS else 0
    end = min(count, start + MOST_PAIRS)
    pairs = []
    for n in range(start, end):
        theirs, ours = _at(context, n), _at(own, n)
        pairs.append(
            PairView(
                index=n,
                context=_piece(alignment, theirs),
                candidate=_piece(alignment, ours),
                equal=theirs == ours or not own,
                first=n == first,
            )
        )
    return tuple(pairs), start, count - end
