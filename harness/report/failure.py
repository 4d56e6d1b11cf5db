"""What a failing prompt prints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.alignment.prompt_result import PromptAlignment
from harness.alignment.result import Alignment
from harness.errors import log_line, printable
from harness.report.summary import number

#: Decoded tokens shown on either side of the position.
AROUND = 8


def prompt_failure(alignment: Alignment, prompt: PromptAlignment, command: str) -> str:
    """Where it fails, what both would have said there, and how to repeat it."""
    return "\n".join(map(log_line, _lines(alignment, prompt, command)))


def prompt_unaligned(prompt: PromptAlignment) -> str:
    """Why a prompt without a failing position is not aligned: what was found beside
    its positions, else how many of them could be judged."""
    if prompt.findings:
        said = "; ".join(printable(finding.sentence.rstrip(".。")) for finding in prompt.findings)
        return log_line(f"{prompt.id}: {prompt.verdict}: {said}")
    ended = prompt.tokens_compared == prompt.tokens_expected
    why = ", but its own run ended elsewhere: compare the eos ids of both" if ended else ""
    return log_line(
        f"{prompt.id}: {prompt.verdict}, {prompt.tokens_compared} of {prompt.tokens_expected} "
        f"positions could be judged{why}"
    )


def _lines(alignment: Alignment, prompt: PromptAlignment, command: str) -> Iterator[str]:
    at = prompt.shown
    if at is None:
        yield f"{prompt.id}: no position was judged"
        return
    positions = prompt.positions
    left = prompt.first_divergence
    yield (
        f"{prompt.id}: {positions.class_[at]} at position {at} of {prompt.tokens_expected}"
        + ("" if left is None else f"; the free run left the context at {left}")
    )
    yield (
        f"  margin {number(positions.margin[at])}, shift {number(positions.shift[at])}, "
        f"tolerance {number(positions.tolerance[at])} (logits)"
    )
    shift, tolerance = positions.shift[at], positions.tolerance[at]
    if positions.class_[at] in ("DIVERGENT", "SILENT_DRIFT") and abs(shift or 0) <= (
        tolerance or 0
    ):
        yield "  its own logits do not lead to this token: look for a penalty, sampling or a mask"
    yield f"  context    {_window(alignment, prompt.context_token_ids, at)}"
    yield f"  candidate  {_window(alignment, prompt.candidate_token_ids, at)}"
    yield f"  top 5 of the reference  {_top(alignment, positions.reference_top[at])}"
    yield f"  top 5 of the candidate  {_top(alignment, positions.candidate_top[at])}"
    yield f"  repeat it: {command}"


def _window(alignment: Alignment, tokens: Sequence[int], at: int) -> str:
    first = max(0, at - AROUND)
    shown = []
    for index, token in enumerate(tokens[first : at + AROUND + 1], start=first):
        piece = printable(alignment.piece(token))
        shown.append(f">>{piece}<<" if index == at else piece)
    return ("…" if first else "") + "|".join(shown)


def _top(alignment: Alignment, top: Sequence[tuple[int, float]]) -> str:
    return "  ".join(f"{printable(alignment.piece(i))!r} {z:.4g}" for i, z in top)
