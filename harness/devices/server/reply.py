"""What a completions endpoint says of each token, read with suspicion."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from harness.statistics.rows import NO_TOKEN, TOP_K, RowStatistics, untold_masks

#: Log-probabilities by token id; None where the server wrote no number.
Entries = Mapping[int, "float | None"]

_ID = "token_id:"
_LARGEST = float(np.finfo(np.float32).max)
#: vLLM writes this for minus infinity, which JSON does not have.
_MINUS_INFINITY = -9999.0


class MalformedReply(ValueError):
    """A reply that is not what the protocol says."""


@dataclass(frozen=True)
class Delta:
    """One chunk of a completion.

    Attributes:
        text: what it adds to the text.
        field_ids: token ids from the field ``token_ids``; None without it.
        told_ids: token ids from the log-probabilities: their names (``token_id:123``), or
            the ``id`` of each entry (llama.cpp); None where there are texts, or nothing.
        entries: the largest log-probabilities of each of its tokens, likewise.
        finish: why the completion ended; None while it goes on.
        prompt_ids: the prompt as the server took it, where it says so.
    """

    text: str
    field_ids: tuple[int, ...] | None
    told_ids: tuple[int, ...] | None
    entries: tuple[Entries, ...] | None
    finish: str | None
    prompt_ids: tuple[int, ...] | None


def parse_json(text: str | bytes) -> Any:
    """JSON, with NaN as the float that some servers write.

    Raises:
        MalformedReply: for anything else.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise MalformedReply("the data is not JSON") from error


def read_chunk(data: str) -> Delta | None:
    """The delta of an event; None for one without a choice (usage).

    Raises:
        MalformedReply: if it is not a chunk, or holds the server's own error.
    """
    chunk = parse_json(data)
    if not isinstance(chunk, dict):
        raise MalformedReply("the data is not a JSON object")
    if chunk.get("error") or chunk.get("object") == "error":
        raise MalformedReply(f"the server reported an error: {error_text(chunk)}")
    choices = chunk.get("choices")
    if not isinstance(choices, list) or len(choices) > 1:
        raise MalformedReply("choices must be a list of one choice")
    return read_choice(choices[0]) if choices else None


def read_choice(choice: Any) -> Delta:
    """One choice of a reply, streamed or whole."""
    if not isinstance(choice, dict):
        raise MalformedReply("a choice must be an object")
    text, finish = choice.get("text") or "", choice.get("finish_reason")
    if not isinstance(text, str) or not (finish is None or isinstance(finish, str)):
        raise MalformedReply("text and finish_reason must be strings")
    told, entries = _log_probabilities(choice.get("logprobs"))
    return Delta(
        text=text,
        field_ids=_ids(choice.get("token_ids")),
        told_ids=told,
        entries=entries,
        finish=finish,
        prompt_ids=_ids(choice.get("prompt_token_ids")),
    )


def prompt_entries(choice: Any, length: int) -> list[Entries] | None:
    """The largest log-probabilities at positions 1 to ``length - 1`` of a
    prompt; None where the server has none."""
    found = choice.get("prompt_logprobs") if isinstance(choice, dict) else None
    if found is None:
        return None
    if not isinstance(found, list) or len(found) != length:
        raise MalformedReply("prompt_logprobs and the prompt differ in length")
    result: list[Entries] = []
    for position in found[1:]:
        if not isinstance(position, dict):
            raise MalformedReply("each entry of prompt_logprobs must be an object")
        try:
            result.append({_id(key): _number(value["logprob"]) for key, value in position.items()})
        except (KeyError, TypeError) as error:
            raise MalformedReply("prompt_logprobs must give a logprob for each token id") from error
    return result


def told_rows(positions: Sequence[Entries], top: int) -> RowStatistics:
    """Row statistics of what was told: not whole, see RowStatistics.

    Args:
        positions: of each row, log-probabilities (or logits) by token id.
        top: how many were asked for; servers add that of the chosen token,
            which may be any.
    """
    n = len(positions)
    ids = np.full((n, TOP_K), NO_TOKEN, dtype=np.int32)
    logits = np.zeros((n, TOP_K), dtype=np.float32)
    nonfinite = np.zeros(n, dtype=np.int32)
    for row, entries in enumerate(positions):
        finite = [(i, z) for i, z in entries.items() if z is not None]
        nonfinite[row] = len(entries) - len(finite)
        best = sorted(finite, key=lambda pair: (-pair[1], pair[0]))[: min(top, TOP_K)]
        for column, (token, value) in enumerate(best):
            ids[row, column], logits[row, column] = token, value
    return RowStatistics(
        top_ids=ids,
        top_logits=logits,
        mean=None,
        logsumexp=np.zeros(n),
        nonfinite=nonfinite,
        digest=None,
        sketch=None,
        **untold_masks(n),
    )


def error_text(body: Any) -> str:
    """What an error body of OpenAI's, vLLM's or FastAPI's form says."""
    for key in ("error", "message", "detail"):
        if isinstance(body, dict) and body.get(key):
            body = body[key]
    return body if isinstance(body, str) else json.dumps(body)


def _log_probabilities(
    found: Any,
) -> tuple[tuple[int, ...] | None, tuple[Entries, ...] | None]:
    if isinstance(found, dict) and "tokens" not in found:
        return _of_content(found.get("content"))
    if found is None:
        return None, None
    tokens = found.get("tokens") if isinstance(found, dict) else None
    tops = found.get("top_logprobs") if isinstance(found, dict) else None
    if not isinstance(tokens, list) or not all(isinstance(t, str) for t in tokens):
        raise MalformedReply("logprobs must hold a list of tokens")
    if not all(token.startswith(_ID) for token in tokens):
        return None, None
    ids = tuple(_named_id(token) for token in tokens)
    if tops is None:
        return ids, None
    if not isinstance(tops, list) or len(tops) != len(tokens):
        raise MalformedReply("top_logprobs and tokens differ in length")
    rows: list[Entries] = []
    for top in tops:
        if not isinstance(top, dict):
            raise MalformedReply("each entry of top_logprobs must be an object")
        rows.append({_named_id(name): _number(value) for name, value in top.items()})
    return ids, tuple(rows)


def _of_content(
    found: Any,
) -> tuple[tuple[int, ...] | None, tuple[Entries, ...] | None]:
    """The form of chat completions, in which llama.cpp answers completions too, with ids."""
    if not isinstance(found, list) or not all(isinstance(token, dict) for token in found):
        return None, None  # a form of its own
    if not all("id" in token for token in found):
        return None, None  # OpenAI's own has texts only
    ids = _ids([token["id"] for token in found])
    rows: list[Entries] = []
    for token in found:
        tops = token.get("top_logprobs") or []
        if not isinstance(tops, list) or not all(isinstance(t, dict) and "id" in t for t in tops):
            raise MalformedReply("each entry of top_logprobs must be an object with an id")
        values = [_number(top.get("logprob")) for top in tops]
        rows.append(dict(zip(_ids([top["id"] for top in tops]) or (), values, strict=True)))
    return ids, tuple(rows)


def _named_id(name: str) -> int:
    if not name.startswith(_ID):
        raise MalformedReply("a token is not named by its id")
    return _id(name.removeprefix(_ID))


def _id(digits: str) -> int:
    if not digits.isascii() or not digits.isdecimal():
        raise MalformedReply("a token id is not a number")
    # Ten digits hold every id; int() must not read longer ones.
    if len(digits) > 10 or int(digits) >= 2**31:
        raise MalformedReply("a token id does not fit in 32 bits")
    return int(digits)


def _ids(value: Any) -> tuple[int, ...] | None:
    if value is None:
        return None
    if not isinstance(value, list) or not all(
        isinstance(i, int) and not isinstance(i, bool) and 0 <= i < 2**31 for i in value
    ):
        raise MalformedReply("the reply's token ids are not integers")
    return tuple(value)


def _number(value: Any) -> float | None:
    """A log-probability; None where the server writes NaN or an infinity."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MalformedReply("a log-probability is not a number")
    try:
        number = float(value)
    except OverflowError:
        return None
    if not math.isfinite(number) or number <= _MINUS_INFINITY or abs(number) > _LARGEST:
        return None
    return number
