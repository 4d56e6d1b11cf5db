"""What was asked and what both said, prompt by prompt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from harness.alignment.prompt_result import PromptAlignment
from harness.alignment.result import Alignment
from harness.report.language import Said, said
from harness.report.text import NONE, number, seconds, shortened
from harness.report.views.prompt import VERDICT_MARK, tone_of, worst_first

#: Prompts of the table, characters of each text, and prompts that are open at first.
MOST, MOST_TEXT, OPEN = 100, 1200, 6


@dataclass(frozen=True)
class TextRow:
    """One prompt: what was asked, what both said, and how long they took."""

    mark: str
    tone: str
    id: str
    anchor: str
    outcome: Said
    input: str
    candidate: str
    reference: str
    counts: Said


@dataclass(frozen=True)
class Texts:
    """The first rows are open in a page, the others folded; ``left_out`` are in the JSON."""

    rows: tuple[TextRow, ...]
    folded: tuple[TextRow, ...]
    left_out: int
    own: bool

    @property
    def reference(self) -> str:
        """Key of the name of the other text: the reference's own, or the context tokens."""
        return "reference" if self.own else "prompt.context"


def texts(alignment: Alignment, anchor: str, details: Sequence[int]) -> Texts | None:
    """Prompts with a text of the candidate or of the reference, the worst first.

    Args:
        anchor: what the ids of this alignment's prompts begin with.
        details: indices of the prompts that the page shows in detail.
    """
    order = [n for n in worst_first(alignment.prompts) if _has_text(alignment.prompts[n])]
    if not order:
        return None
    shown = [n for n in order if n in set(details)][:MOST]
    rows = [_row(alignment, n, f"{anchor}-p{n}") for n in shown]
    reference = alignment.reference
    own = reference is None or "free" in reference.replay.split(", ")
    return Texts(tuple(rows[:OPEN]), tuple(rows[OPEN:]), len(order) - len(rows), own)


def _has_text(prompt: PromptAlignment) -> bool:
    return bool(prompt.candidate_text or prompt.context_text)


def _row(alignment: Alignment, n: int, anchor: str) -> TextRow:
    prompt = alignment.prompts[n]
    tone = tone_of(prompt.verdict)
    mine, theirs = len(prompt.candidate_token_ids), len(prompt.context_token_ids)
    return TextRow(
        mark=VERDICT_MARK[tone],
        tone=tone,
        id=prompt.id,
        anchor=anchor,
        outcome=_outcome(prompt),
        input=shortened(prompt.text, MOST_TEXT),
        candidate=shortened(prompt.candidate_text, MOST_TEXT),
        reference=shortened(prompt.context_text, MOST_TEXT),
        counts=said(
            "texts.counts",
            a=number(mine) if mine else NONE,
            b=seconds(prompt.candidate_seconds),
            c=number(theirs) if theirs else NONE,
            d=seconds(prompt.reference_seconds),
        ),
    )


def _outcome(prompt: PromptAlignment) -> Said:
    if prompt.candidate_text == prompt.context_text:
        return said("texts.equal")
    if prompt.first_divergence is None:
        return said("texts.other")
    return said("texts.parted", n=prompt.first_divergence)
