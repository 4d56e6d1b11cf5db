"""Equal tokens per prompt: what bare token ids can show."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

from pydantic import Field

from harness.alignment.pairing import MatchedBy
from harness.alignment.prompt_result import PromptAlignment
from harness.files.strict_model import FROM_LIST, StrictModel
from harness.recording.format import Count

#: Share of equal prompts, from 0 to 1.
Share = Annotated[float, Field(ge=0, le=1)]


class TokenRow(StrictModel):
    """One prompt: how many of its tokens are equal.

    ``equal`` counts positions at which both chose the same token after the same
    tokens, ``of`` the baseline's output (of ``verify`` the candidate's).
    ``first_difference`` is the first position with other tokens, None where all
    are equal. ``candidate`` and ``reference`` are what stands there, as texts,
    and ``*_token`` their ids; None for the one that had ended. Where
    ``unit`` of the table is ``characters`` all of these are of texts.
    """

    id: str
    equal: Count
    of: Count
    first_difference: Count | None = None
    candidate: str | None = None
    reference: str | None = None
    candidate_token: Count | None = None
    reference_token: Count | None = None


class TokenTable(StrictModel):
    """The rows of all prompts that both have.

    ``equal_prompts`` counts prompts without a difference, ``share`` is their
    share. ``matched_by`` says how the prompts of two files were matched; None
    where the candidate's own prompts were run. ``missing`` are prompts of the
    baseline that the candidate lacks, ``surplus`` the other way round.
    """

    unit: Literal["tokens", "characters"] = "tokens"
    rows: Annotated[tuple[TokenRow, ...], FROM_LIST]
    equal_prompts: Count
    share: Share
    matched_by: MatchedBy | None = None
    missing: Annotated[tuple[str, ...], FROM_LIST] = ()
    surplus: Annotated[tuple[str, ...], FROM_LIST] = ()

    @property
    def worst_first(self) -> tuple[TokenRow, ...]:
        """Prompts that differ first, the earliest difference before the others."""
        order = [n for n, row in enumerate(self.rows) if row.first_difference is not None]
        order.sort(key=lambda n: self.rows[n].first_difference or 0)
        same = [row for row in self.rows if row.first_difference is None]
        return (*(self.rows[n] for n in order), *same)


def token_row(prompt: PromptAlignment, piece: Callable[[int], str]) -> TokenRow:
    """The row of a prompt whose tokens were compared."""
    at = prompt.positions
    pairs = list(zip(at.candidate_token, at.reference_token, strict=True))
    equal = sum(a == b for a, b in pairs)
    first = next((t for t, (a, b) in enumerate(pairs) if a != b), None)
    mine = theirs = None
    if first is not None:
        mine, theirs = pairs[first]
    elif prompt.first_divergence is not None:  # one of them had ended
        first = prompt.first_divergence
        mine = _at(prompt.candidate_token_ids, first)
        theirs = _at(prompt.context_token_ids, first)
    return TokenRow(
        id=prompt.id,
        equal=equal,
        of=prompt.tokens_expected,
        first_difference=first,
        candidate=None if mine is None else piece(mine),
        reference=None if theirs is None else piece(theirs),
        candidate_token=None if mine is None or mine < 0 else mine,
        reference_token=None if theirs is None or theirs < 0 else theirs,
    )


def text_row(name: str, mine: str, theirs: str, first: int | None, shown: int) -> TokenRow:
    """The row of a prompt whose texts were compared; ``shown`` characters are quoted."""
    return TokenRow(
        id=name,
        equal=len(theirs) if first is None else first,
        of=len(theirs),
        first_difference=first,
        candidate=None if first is None else mine[first : first + shown] or None,
        reference=None if first is None else theirs[first : first + shown] or None,
    )


def token_table(
    rows: Sequence[TokenRow],
    unit: Literal["tokens", "characters"] = "tokens",
    matched_by: MatchedBy | None = None,
    missing: Sequence[str] = (),
    surplus: Sequence[str] = (),
) -> TokenTable:
    """The table of these rows, at least one."""
    equal = sum(row.first_difference is None for row in rows)
    return TokenTable(
        unit=unit,
        rows=tuple(rows),
        equal_prompts=equal,
        share=equal / len(rows),
        matched_by=matched_by,
        missing=tuple(missing),
        surplus=tuple(surplus),
    )


def _at(ids: Sequence[int], index: int) -> int | None:
    return ids[index] if index < len(ids) else None
