"""One prompt of an alignment as the templates show it: pure functions, frozen data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from harness.alignment.outcomes import ALIGNED, FAILING, NO_JUDGEMENT, Verdict
from harness.alignment.prompt_result import PromptAlignment, TopTokens
from harness.alignment.result import Alignment
from harness.report.characters import whole_characters
from harness.report.language import Said, said, said_of
from harness.report.text import NONE, number, shortened

#: Positions of a Markdown report on either side of the one to look at.
AROUND = 8
#: Logits named per position.
TOP = 5
#: Characters shown of one token.
MOST_PIECE = 80
#: Tokens of a prompt that are set side by side.
MOST_CELLS = 512
#: Marked positions listed per prompt where no script can list all.
MOST_MARKED = 16

_T = TypeVar("_T")

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
    """One judged position; ``context`` is the token all arms were given there.

    ``reach`` is the shift over its tolerance, at most 2, None where there is
    no tolerance.
    """

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
    reach: float | None
    reference_top: tuple[TopView, ...]
    candidate_top: tuple[TopView, ...]

    @property
    def tops(self) -> tuple[tuple[TopView | None, TopView | None], ...]:
        """Both lists of largest logits, row by row."""
        count = max(len(self.reference_top), len(self.candidate_top))
        return tuple((_at(self.reference_top, n), _at(self.candidate_top, n)) for n in range(count))


@dataclass(frozen=True)
class CellView:
    """The context's token and the candidate's own at one index; None where
    one of them had ended. ``marks``: classes of the style sheet."""

    index: int
    context: str | None
    candidate: str | None
    equal: bool
    first: bool
    marks: str


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
    anchor: str = ""

    @property
    def there(self) -> bool:
        """Whether anything can be drawn."""
        return any(value is not None for value in (*self.candidate, *self.reference))


@dataclass(frozen=True)
class PromptView:
    """One prompt: its row of the list and, in it, its details.

    ``entry`` is its place among the prompts that the page's data holds, None
    where it has no details. ``findings`` speak against it beside its positions.
    """

    anchor: str
    entry: int | None
    id: str
    verdict: str
    tone: str
    mark: str
    class_: str
    compared: str
    diverged: int | None
    divergence: Said
    shown: str
    margin: str
    shift: str
    tolerance: str
    error_ratio: str
    free: bool
    text: str
    context_text: str
    candidate_text: str
    cells: tuple[CellView, ...]
    cells_before: int
    cells_after: int
    position: PositionView | None
    window: tuple[PositionView, ...]
    marked: tuple[PositionView, ...]
    failing: int
    series: Series
    findings: tuple[Said, ...] = ()


def tone_of(verdict: Verdict) -> str:
    """``good``, ``open`` or ``bad``: the three exit statuses."""
    if verdict in ALIGNED:
        return "good"
    return "open" if verdict in NO_JUDGEMENT else "bad"


def worst_first(prompts: Sequence[PromptAlignment]) -> list[int]:
    """Indices of prompts: those that fail, those without judgement, those that
    flip, the others."""
    return sorted(
        range(len(prompts)),
        key=lambda n: (TONES.index(tone_of(prompts[n].verdict)), not flips(prompts[n])),
    )


def prompt_view(
    alignment: Alignment, prompt: PromptAlignment, anchor: str, entry: int | None
) -> PromptView:
    """What the templates show of a prompt; the details only where it has an entry."""
    tone = tone_of(prompt.verdict)
    count = len(prompt.positions.class_)
    shown = prompt.shown if prompt.shown is not None and 0 <= prompt.shown < count else None
    failing = [n for n, name in enumerate(prompt.positions.class_) if name in FAILING]
    flipped = flips(prompt)
    detailed = entry is not None
    window = range(0) if shown is None else _around(shown, count)
    marked = sorted({*failing, *flipped, *([] if shown is None else [shown])})[:MOST_MARKED]
    cells, before, after = _cells(alignment, prompt) if detailed else ((), 0, 0)
    return PromptView(
        anchor=anchor,
        entry=entry,
        id=prompt.id,
        verdict=prompt.verdict,
        tone=tone,
        mark=VERDICT_MARK[tone],
        class_=prompt.class_ or NONE,
        compared=f"{prompt.tokens_compared:,} / {prompt.tokens_expected:,}",
        diverged=prompt.first_divergence,
        divergence=_divergence(alignment, prompt),
        shown=NONE if shown is None else str(shown),
        margin=number(prompt.margin),
        shift=number(prompt.shift),
        tolerance=number(prompt.tolerance),
        error_ratio=number(error_ratio(prompt)),
        free=ran_free(alignment, prompt),
        text=prompt.text,
        context_text=prompt.context_text,
        candidate_text=prompt.candidate_text,
        cells=cells,
        cells_before=before,
        cells_after=after,
        position=None if shown is None or not detailed else _position(alignment, prompt, shown),
        window=tuple(_position(alignment, prompt, n) for n in window) if detailed else (),
        marked=tuple(_position(alignment, prompt, n) for n in marked) if detailed else (),
        failing=len(failing),
        series=Series(
            prompt=prompt.id,
            candidate=tuple(prompt.positions.error),
            reference=tuple(prompt.positions.reference_error),
            failing=tuple(failing),
            flips=tuple(flipped),
            anchor=anchor if detailed else "",
        ),
        findings=tuple(map(said_of, prompt.findings)),
    )


def ran_free(alignment: Alignment, prompt: PromptAlignment) -> bool:
    """Whether the candidate chose tokens of its own; forced runs never diverge."""
    if prompt.first_divergence is not None:
        return True
    return bool(prompt.candidate_token_ids) and "free" in alignment.candidate.replay.split(", ")


def _divergence(alignment: Alignment, prompt: PromptAlignment) -> Said:
    if prompt.first_divergence is not None:
        return Said(str(prompt.first_divergence), str(prompt.first_divergence))
    return said("divergence.none" if ran_free(alignment, prompt) else "divergence.forced")


def error_ratio(prompt: PromptAlignment) -> float | None:
    """Error of the candidate over that of the reference, of this prompt alone;
    None without an oracle or where the reference has no error."""
    return rms_ratio(prompt.positions.error, prompt.positions.reference_error)


def rms_ratio(ours: Sequence[float | None], theirs: Sequence[float | None]) -> float | None:
    """Root of the ratio of the summed squares, over the positions that have both."""
    both = [(a, b) for a, b in zip(ours, theirs, strict=False) if a is not None and b is not None]
    largest = max((abs(value) for pair in both for value in pair), default=0.0) or 1.0
    # Scaled, since a square may leave the range of a double.
    mine, other = (math.hypot(*(pair[side] / largest for pair in both)) for side in (0, 1))
    if other > 0:
        return mine / other
    return None if not both or mine == 0 else math.inf


def flips(prompt: PromptAlignment) -> list[int]:
    """Positions where the candidate would take another token than the reference."""
    positions = prompt.positions
    tokens = zip(positions.reference_token, positions.candidate_token, strict=False)
    return [n for n, (reference, candidate) in enumerate(tokens) if reference != candidate]


def _around(shown: int, count: int) -> range:
    return range(max(0, shown - AROUND), min(count, shown + AROUND + 1))


def _at(values: Sequence[_T], index: int) -> _T | None:
    return values[index] if 0 <= index < len(values) else None


def _piece(alignment: Alignment, token_id: int | None) -> str | None:
    return None if token_id is None else shortened(alignment.piece(token_id), MOST_PIECE)


def _spoken(alignment: Alignment, tokens: Sequence[int], text: str) -> list[str]:
    """The texts of tokens that follow one another in ``text``."""
    pieces = [alignment.piece(token) for token in tokens]
    return [shortened(piece, MOST_PIECE) for piece in whole_characters(pieces, text)]


def _tops(alignment: Alignment, top: TopTokens | None) -> tuple[TopView, ...]:
    return tuple(
        TopView(shortened(alignment.piece(t), MOST_PIECE), number(z)) for t, z in (top or [])[:TOP]
    )


def _position(alignment: Alignment, prompt: PromptAlignment, n: int) -> PositionView:
    positions = prompt.positions
    name = positions.class_[n]
    shift, tolerance = _at(positions.shift, n), _at(positions.tolerance, n)
    equal = _at(positions.bit_equal, n)
    return PositionView(
        index=n,
        shown=n == prompt.shown,
        failing=name in FAILING,
        class_=name or NONE,
        context=_piece(alignment, _at(prompt.context_token_ids, n)),
        reference=_piece(alignment, _at(positions.reference_token, n)),
        candidate=_piece(alignment, _at(positions.candidate_token, n)),
        margin=number(_at(positions.margin, n)),
        shift=number(shift),
        tolerance=number(tolerance),
        error=number(_at(positions.error, n)),
        reference_error=number(_at(positions.reference_error, n)),
        bit_equal=NONE if equal is None else "=" if equal else "≠",
        reach=None if shift is None or not tolerance else min(abs(shift) / tolerance, 2.0),
        reference_top=_tops(alignment, _at(positions.reference_top, n)),
        candidate_top=_tops(alignment, _at(positions.candidate_top, n)),
    )


def _cells(alignment: Alignment, prompt: PromptAlignment) -> tuple[tuple[CellView, ...], int, int]:
    """The tokens side by side, and how many are left out before and after."""
    context, own = prompt.context_token_ids, prompt.candidate_token_ids
    count = max(len(context), len(own))
    first = prompt.first_divergence
    start = max(0, (first or 0) - MOST_CELLS // 2) if count > MOST_CELLS else 0
    end = min(count, start + MOST_CELLS)
    flipped = set(flips(prompt))
    theirs = _spoken(alignment, context[start:end], prompt.context_text)
    mine = _spoken(alignment, own[start:end], prompt.candidate_text)
    cells = []
    for n in range(start, end):
        marks = "x" if _at(prompt.positions.class_, n) in FAILING else "f" if n in flipped else ""
        cells.append(
            CellView(
                index=n,
                context=_at(theirs, n - start),
                candidate=_at(mine, n - start),
                equal=_at(context, n) == _at(own, n) or not own,
                first=n == first,
                marks=marks,
            )
        )
    return tuple(cells), start, count - end
