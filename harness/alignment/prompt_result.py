"""The judgement of one prompt and of each of its positions."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from harness.alignment.outcomes import PointClass, Verdict
from harness.devices.facts import Seconds
from harness.files.strict_model import FROM_LIST, StrictModel
from harness.messages.message import Message
from harness.messages.statement import Statement
from harness.recording.format import Count
from harness.statistics.rows import NO_TOKEN

#: A token id, or NO_TOKEN (-1) where a row has no finite logit to choose by.
Token = Annotated[int, Field(ge=NO_TOKEN, lt=2**31)]

#: (token id, logit) pairs, largest first.
TopTokens = list[Annotated[tuple[Count, float], FROM_LIST]]


class Positions(StrictModel):
    """Per-position figures of one prompt, one list entry per judged position.

    ``reference_token`` is the reference's choice at this position and
    ``candidate_token`` the candidate's, both after the same context. ``margin``
    is the reference's lead of its token over the rival, ``shift`` how the
    candidate changed it, ``tolerance`` the largest shift that is noise, all in
    logits; None where it is not known (``class`` too). ``error`` and ``reference_error`` are
    root-mean-square logit errors over the vocabulary against the oracle.
    ``bit_equal`` is None where a side has no whole rows.
    The ``top`` lists hold (token id, logit), largest first.
    """

    class_: list[PointClass | None] = Field(alias="class")
    reference_token: list[Token]
    candidate_token: list[Token]
    margin: list[float | None]
    shift: list[float | None]
    tolerance: list[float | None]
    error: list[float | None]
    reference_error: list[float | None]
    bit_equal: list[bool | None]
    reference_top: list[TopTokens]
    candidate_top: list[TopTokens]

    def whole(self) -> Positions:
        """The same, all lists in memory."""
        return self

    @model_serializer(mode="wrap")
    def _as_lists(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self.whole())
        return content

    @model_validator(mode="after")
    def _one_entry_per_position(self) -> Positions:
        lengths = {name: len(getattr(self, name)) for name in type(self).model_fields}
        if len(set(lengths.values())) > 1:
            raise ValueError("the lists differ in length")
        return self


class Finding(Statement):
    """What speaks against one prompt beside its positions: the best verdict that it
    leaves the prompt, and why."""

    verdict: Verdict
    sentence: str = ""
    message: Message | None = None


class PromptAlignment(StrictModel):
    """One prompt of the comparison.

    ``class``, ``margin``, ``shift`` and ``tolerance`` are those of ``shown``,
    the position that a reader should look at: the first failing one, else the
    first flip, else the largest shift against its tolerance.
    ``first_divergence`` is the first position where the candidate's own free
    run left the context tokens, None where it did not or there was none.
    ``tokens_compared`` counts judged positions, ``tokens_expected`` those of
    the context. ``findings`` speak against it beside its positions.
    ``candidate_seconds`` and ``reference_seconds`` are of the run that each text is of, from
    the request to its last token; None where that is not known or the run was one pass.
    """

    id: str
    verdict: Verdict
    text: str
    tokens_compared: int
    tokens_expected: int
    first_divergence: int | None
    shown: int | None
    class_: PointClass | None = Field(alias="class")
    margin: float | None
    shift: float | None
    tolerance: float | None
    context_token_ids: list[Count]
    candidate_token_ids: list[Count]
    context_text: str
    candidate_text: str
    positions: Positions
    findings: Annotated[tuple[Finding, ...], FROM_LIST] = ()
    candidate_seconds: Seconds | None = None
    reference_seconds: Seconds | None = None

    @model_validator(mode="after")
    def _counts_fit(self) -> PromptAlignment:
        n = len(self.positions.class_)
        if self.tokens_compared != n or not (self.shown is None or 0 <= self.shown < n):
            raise ValueError("tokens_compared and shown do not fit the positions")
        return self
