"""Compare texts, for a device that gives no token ids.

Equal texts show nothing of the logits behind them, and a different one may be
a tie. So the verdict is always INCONCLUSIVE.
"""

from __future__ import annotations

from harness.alignment.prompt_result import Positions, PromptAlignment
from harness.alignment.result import Gate
from harness.messages.message import Message, Value, message
from harness.recording.format import PromptRecord, Recording, Run

#: Why the gates that judge logits have no data.
NO_LOGITS = message("gate.no_logits")
#: The gate that texts are judged by.
TEXT_GATE = "coverage"

_SHOWN = 3  # prompts whose difference the sentence quotes
_AROUND = 12  # characters of each text that it quotes


def judge_texts(
    candidate: Recording, reference: Recording
) -> tuple[tuple[PromptAlignment, ...], Message]:
    """Each prompt, and where the texts part. The prompts of both are the same."""
    prompts, parted = [], []
    for mine in candidate.prompts:
        theirs = reference.prompt(mine.id)
        assert theirs is not None  # comparability has refused otherwise
        _, quoted = parted_at(mine.id, mine.run.text, theirs.run.text)
        parted += [] if quoted is None else [quoted]
        prompts.append(_prompt(mine, theirs.run))
    return tuple(prompts), outcome_of(len(prompts), parted)


def parted_at(prompt_id: str, mine: str, theirs: str) -> tuple[int | None, Message | None]:
    """Where two texts of a prompt part, and what to say of it; None where they are equal."""
    place = first_difference(mine, theirs)
    return place, None if place is None else _quoted(prompt_id, mine, theirs, place)


def plain(text: str) -> str:
    """A text without the differences that servers and tokenizers make at its ends:
    one leading space, and half a character."""
    return text.removeprefix(" ").rstrip("\N{REPLACEMENT CHARACTER}")


def first_difference(mine: str, theirs: str) -> int | None:
    """The character, from 0, of the plain texts at which they part; None where
    they are equal."""
    a, b = plain(mine), plain(theirs)
    if a == b:
        return None
    shared = min(len(a), len(b))
    return next((i for i in range(shared) if a[i] != b[i]), shared)


def text_gate(outcome: Message) -> Gate:
    """The gate that says that no position was judged."""
    return Gate(name=TEXT_GATE, status="INCONCLUSIVE", value=0.0, limit=1.0, message=outcome)


def _quoted(prompt_id: str, mine: str, theirs: str, place: int) -> Message:
    a, b = (plain(text)[place : place + _AROUND] for text in (mine, theirs))
    return message("text.parted", prompt=prompt_id, place=place, candidate=a, reference=b)


def outcome_of(count: int, parted: list[Message]) -> Message:
    """How many of ``count`` texts are equal, and where the first others part."""
    counts: dict[str, Value] = {"equal": count - len(parted), "count": count}
    shown, more = tuple(parted[:_SHOWN]), len(parted) - _SHOWN
    if not parted:
        return message("gate.texts.equal", **counts)
    if more > 0:
        return message("gate.texts.more", **counts, parted=shown, more=more)
    return message("gate.texts.differ", **counts, parted=shown)


def _prompt(mine: PromptRecord, reference: Run) -> PromptAlignment:
    return text_prompt(
        mine.id,
        mine.text,
        context_token_ids=list(reference.token_ids),
        candidate_token_ids=list(mine.run.token_ids),
        context_text=reference.text,
        candidate_text=mine.run.text,
        seconds=(mine.run.seconds, reference.seconds),
    )


def text_prompt(
    name: str,
    text: str,
    *,
    context_token_ids: list[int],
    candidate_token_ids: list[int],
    context_text: str,
    candidate_text: str,
    seconds: tuple[float | None, float | None],
) -> PromptAlignment:
    """A prompt without positions: the gate's sentence says where the texts part.

    Args:
        seconds: of the candidate's request and of the reference's, None where not known.
    """
    nothing = Positions.model_validate({_alias(name): [] for name in Positions.model_fields})
    return PromptAlignment.model_validate(
        {
            "id": name,
            "verdict": "INCONCLUSIVE",
            "text": text,
            "tokens_compared": 0,
            "tokens_expected": len(context_token_ids),
            **dict.fromkeys(("first_divergence", "shown", "class", "margin", "shift")),
            "tolerance": None,
            "context_token_ids": context_token_ids,
            "candidate_token_ids": candidate_token_ids,
            "context_text": context_text,
            "candidate_text": candidate_text,
            "positions": nothing,
            "candidate_seconds": seconds[0],
            "reference_seconds": seconds[1],
        }
    )


def _alias(name: str) -> str:
    return Positions.model_fields[name].alias or name
