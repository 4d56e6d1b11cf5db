"""Finding out what a server can do, before anything is recorded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from harness.devices.base import ignore_token
from harness.devices.server.dialect import COMPLETIONS, Answer, Dialect, complete
from harness.devices.server.http import Http, Refused
from harness.devices.server.options import ServerOptions
from harness.devices.server.reply import Entries, MalformedReply, prompt_entries
from harness.errors import DeviceError

#: Tokens of the trial completion.
TRIAL_TOKENS = 16
#: Nats by which a greedy choice may trail the best of its row: servers round.
GREEDY_TOLERANCE = 1e-3

_FEWER = (20, 10, 5, 2)  # log-probabilities to try; OpenAI's own limit is 5
_NO_SUCH_FIELD = (400, 422)


@dataclass(frozen=True)
class Probed:
    """What a server can do.

    Attributes:
        max_model_len: longest prompt + output, where the server says.
        version: of the server, where it says; vLLM's only.
        warning: what a reader of the recording must know; None for nothing.
    """

    dialect: Dialect
    max_model_len: int | None
    version: str | None
    warning: str | None


def probe(http: Http, options: ServerOptions, name: str, prompt: tuple[int, ...]) -> Probed:
    """Ask for the models, and for one completion twice.

    Args:
        name: of the model, for a server that has several.
        prompt: a few token ids of ordinary text.

    Raises:
        DeviceError: if the server cannot serve at all, or changes the prompt.
    """
    served, longest = served_model(http, options.served_model, name)
    dialect, answer = _trial(http, options, served, prompt)
    ids = _where_ids_are(http, options, answer)
    dialect = replace(dialect, ids=ids, rows=ids is not None and _has_rows(answer))
    if answer.prompt_ids is not None and answer.prompt_ids != prompt:
        raise DeviceError(
            f"{http.name}: {http.url} changes the prompt: {len(prompt)} token ids were sent and "
            f"{len(answer.prompt_ids)} taken; it must add no tokens of its own"
        )
    again = complete(http, dialect.body(prompt, TRIAL_TOKENS), ignore_token)
    if dialect.rows:
        dialect = replace(dialect, prompt_logprobs=_has_prompt_logprobs(http, dialect, prompt))
    return Probed(
        dialect=dialect,
        max_model_len=longest,
        version=_version(http),
        warning=_warning(dialect, answer, again),
    )


def not_greedy(tokens: Sequence[int], entries: Sequence[Entries]) -> int:
    """How many tokens are not the likeliest of their own row."""
    count = 0
    for token, row in zip(tokens, entries, strict=True):
        finite = [value for value in row.values() if value is not None]
        mine = row.get(token)
        count += bool(finite) and (mine is None or max(finite) - mine > GREEDY_TOLERANCE)
    return count


def served_model(
    http: Http, wanted: str | None, name: str, option: str = "--engine-arg served_model=NAME"
) -> tuple[str, int | None]:
    """The server's name for the model, and its longest context in tokens, if it tells.

    Args:
        wanted: the name that the user gave, if any.
        name: taken where the server has it; else the server's only model is.
        option: the option that names one, for the message.

    Raises:
        DeviceError: if the server lists no models, or none can be chosen.
    """
    reply = http.get("/v1/models")
    listed = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(listed, list):
        raise DeviceError(f"{http.name}: {http.url}/v1/models lists no models")
    models: dict[str, Mapping[str, Any]] = {
        m["id"]: m for m in listed if isinstance(m, dict) and isinstance(m.get("id"), str)
    }
    chosen = wanted or (name if name in models else None)
    if chosen is None and len(models) == 1:
        [chosen] = models
    if chosen is None or chosen not in models:
        shown = http.shown(", ".join(list(models)[:8])) or "none"
        raise DeviceError(
            f"{http.name}: {http.url} has no model {wanted or name!r} but {shown}; "
            f"name one with {option}"
        )
    longest = models[chosen].get("max_model_len")
    return chosen, longest if type(longest) is int and 0 < longest < 2**31 else None


def _trial(
    http: Http, options: ServerOptions, served: str, prompt: tuple[int, ...]
) -> tuple[Dialect, Answer]:
    """The richest request that the server takes, and its answer."""
    first: Refused | None = None
    tops = sorted({options.logprobs, *(n for n in _FEWER if n < options.logprobs)}, reverse=True)
    for extras in (True, False):
        for top in (*tops, None):
            ids = _asked_ids(options) if extras else None
            dialect = Dialect(served, extras, top, ids)
            try:
                answer = complete(http, dialect.body(prompt, TRIAL_TOKENS), ignore_token)
            except Refused as error:
                if error.status not in _NO_SUCH_FIELD:
                    raise
                first = first or error
            else:
                return dialect, answer
    assert first is not None  # else something was returned
    raise first


def _asked_ids(options: ServerOptions) -> Any:
    return {"auto": "field", "none": None}.get(options.token_ids, options.token_ids)


def _where_ids_are(http: Http, options: ServerOptions, answer: Answer) -> Any:
    """Where token ids are found; None for text only."""
    n = len(answer.stamps)
    there = {
        "field": len(answer.field_ids or ()) == n > 0,
        "logprobs": len(answer.told_ids or ()) == n > 0,
    }
    asked = options.token_ids
    if asked in there and not there[asked]:
        raise DeviceError(
            f"{http.name}: {http.url} does not give token ids with token_ids={asked}; "
            "leave the option out, and the harness takes what the server has"
        )
    if asked == "none":
        return None
    return next((where for where in ("field", "logprobs") if there[where]), None)


def _has_rows(answer: Answer) -> bool:
    """Whether each token has log-probabilities by id; fewer than two have no margin to judge."""
    entries = answer.entries or ()
    return len(entries) == len(answer.stamps) and any(len(row) >= 2 for row in entries)


def _has_prompt_logprobs(http: Http, dialect: Dialect, prompt: tuple[int, ...]) -> bool:
    body = dialect.body(prompt, 1, stream=False) | {"prompt_logprobs": dialect.logprobs}
    try:
        reply = http.post(COMPLETIONS, body)
        return prompt_entries(reply["choices"][0], len(prompt)) is not None
    except Refused as error:
        if error.status not in _NO_SUCH_FIELD:
            raise
        return False
    except DeviceError as error:
        if isinstance(error.__cause__, MalformedReply):
            return False  # a server that streams unasked
        raise
    except (MalformedReply, KeyError, IndexError, TypeError):
        return False


def _version(http: Http) -> str | None:
    try:
        reply = http.get("/version")
    except DeviceError:
        return None
    version = reply.get("version") if isinstance(reply, dict) else None
    return http.shown(version) if isinstance(version, str) else None


def _warning(dialect: Dialect, answer: Answer, again: Answer) -> str | None:
    tokens = answer.token_ids(dialect.ids)
    if dialect.rows and not_greedy(tokens, answer.entries or ()):
        return (
            "a greedy request got tokens that are not the likeliest of their own "
            "row: the server samples, penalizes or masks despite the request"
        )
    if (answer.text, tokens) != (again.text, again.token_ids(dialect.ids)):
        return (
            "two equal greedy requests got different answers: the server samples despite the "
            "request, or does not repeat itself"
        )
    return None
