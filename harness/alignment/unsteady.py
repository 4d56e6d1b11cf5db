"""What is said of prompts whose token ids change from one run to the next."""

from __future__ import annotations

from collections.abc import Iterator

from harness.alignment.result import Comparability
from harness.messages.message import Message, message
from harness.recording.format import Recording
from harness.suite.chat import Unsteady


def unsteady_warnings(candidate: Recording, reference: Recording) -> Iterator[Message]:
    """A warning for each cause: the date, and chance."""
    causes = _causes(candidate, reference)
    dated = [i for i, cause in causes.items() if cause == "date"]
    drawn = [i for i, cause in causes.items() if cause == "chance"]
    if dated:
        yield message("warning.dated", prompts=len(dated), ids=", ".join(dated))
    if drawn:
        yield message("warning.drawn", prompts=len(drawn), ids=", ".join(drawn))


def refusal(
    refused: Message, compared: Comparability, candidate: Recording, reference: Recording
) -> Message:
    """A refusal, with the date as its cause where prompts differ that the date is in."""
    causes = _causes(candidate, reference)
    differing = {difference.field for difference in compared.differences}
    ids = [i for i in causes if f"prompts[{i}].prompt_token_ids" in differing]
    if not any(causes[i] == "date" for i in ids):
        return refused
    return message("verdict.refused.dated", refused=refused, ids=", ".join(ids))


def _causes(candidate: Recording, reference: Recording) -> dict[str, Unsteady]:
    causes = {**(reference.suite.unsteady or {}), **(candidate.suite.unsteady or {})}
    return dict(sorted(causes.items()))
