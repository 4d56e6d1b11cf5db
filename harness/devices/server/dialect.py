"""What a server understands, what it is asked, and one whole answer of it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from harness.devices.base import Stop
from harness.devices.server.http import Http
from harness.devices.server.reply import Delta, Entries, MalformedReply, read_chunk
from harness.devices.server.sse import DONE
from harness.errors import DeviceError

COMPLETIONS = "/v1/completions"

#: Fields that vLLM has beyond OpenAI's: neutral sampling, the recording's own
#: stops and no others, special tokens in the text.
_EXTRAS: dict[str, Any] = {
    "top_k": -1,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "ignore_eos": True,
    "skip_special_tokens": False,
    "include_stop_str_in_output": True,
}


#: Words of servers for the end of a completion. ``stop`` is an eos id, since no text
#: is given to stop at; what is not listed is kept as it is, and not taken for an end.
_STOPS: dict[str | None, Stop] = {
    "stop": "eos",
    "eos_token": "eos",
    "length": "length",
    "abort": "abort",
    "content_filter": "content_filter",
    "tool_calls": "tool_calls",
    "function_call": "function_call",
    "error": "error",
    None: "none",
}


@dataclass(frozen=True)
class Dialect:
    """How to speak to one server.

    Attributes:
        model: its name for the model.
        extras: whether it takes vLLM's own fields.
        logprobs: how many log-probabilities to ask for; None asks for none.
        ids: where token ids are found; None where there is text only.
        rows: whether log-probabilities by id come with them; else nothing can be judged but
            the text, and the ids are kept for ``harness verify``.
        prompt_logprobs: whether it tells those of a prompt.
    """

    model: str
    extras: bool
    logprobs: int | None
    ids: Literal["field", "logprobs"] | None = None
    rows: bool = False
    prompt_logprobs: bool = False

    def body(
        self,
        prompt: tuple[int, ...],
        max_tokens: int,
        stops: tuple[int, ...] = (),
        *,
        stream: bool = True,
    ) -> dict[str, Any]:
        """A request for greedy tokens with nothing that would change them."""
        body: dict[str, Any] = {
            "model": self.model,
            "prompt": list(prompt),
            "max_tokens": max_tokens,
            "temperature": 0.0,
            "top_p": 1.0,
            "n": 1,
            "seed": 0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "stream": stream,
        }
        if self.logprobs is not None:
            body["logprobs"] = self.logprobs
        if self.extras:
            body |= _EXTRAS | {"stop_token_ids": list(stops)}
            # Another one each time, so that no prefix cache is hit: a hit changes bits.
            body["cache_salt"] = secrets.token_hex(16)
            body["return_token_ids"] = self.ids == "field"
            # Also where ids come in a field of their own: names of tokens are not ids.
            body["return_tokens_as_token_ids"] = self.ids is not None
        return body


@dataclass
class Answer:
    """One completion as it arrives.

    ``stamps`` are seconds of the monotonic clock: one per token, or, without
    token ids, one per chunk of text. ``done``: the stream was ended as it should be.
    """

    started: float = field(default_factory=time.monotonic)
    text: str = ""
    field_ids: list[int] | None = field(default_factory=list)
    told_ids: list[int] | None = field(default_factory=list)
    entries: list[Entries] | None = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    finish: str | None = None
    done: bool = False
    prompt_ids: tuple[int, ...] | None = None

    @property
    def stop(self) -> Stop:
        """Why it ended, by the server's own word; ``none`` where it has none."""
        return _STOPS.get(self.finish, "other")

    def token_ids(self, ids: Literal["field", "logprobs"] | None) -> tuple[int, ...]:
        """What was chosen; empty where it cannot be told."""
        ids_of_tokens = {"field": self.field_ids, "logprobs": self.told_ids, None: None}[ids]
        return tuple(ids_of_tokens or ())

    def add(self, delta: Delta) -> int:
        """Take a chunk in; how many tokens it brought, one for mere text."""
        self.text += delta.text
        self.finish = delta.finish or self.finish
        self.prompt_ids = delta.prompt_ids if self.prompt_ids is None else self.prompt_ids
        brought = [x for x in (delta.field_ids, delta.told_ids, delta.entries) if x is not None]
        count = len(brought[0]) if brought else int(bool(delta.text))
        if any(len(other) != count for other in brought):
            raise MalformedReply("token ids and log-probabilities differ in number")
        if not count:
            return 0
        self.field_ids = _joined(self.field_ids, delta.field_ids)
        self.told_ids = _joined(self.told_ids, delta.told_ids)
        self.entries = _joined(self.entries, delta.entries)
        self.stamps += [time.monotonic()] * count
        return count


def complete(
    http: Http,
    body: dict[str, Any],
    on_token: Callable[[], None],
    go_on: Callable[[], bool] = lambda: True,
) -> Answer:
    """Stream one completion to its end.

    Args:
        on_token: called for each token (or chunk of text).
        go_on: called before each chunk; False leaves the stream.

    Raises:
        DeviceError: for a failure of any kind; in the middle as well.
    """
    answer = Answer()
    with http.stream(COMPLETIONS, body) as events:
        for delta in _deltas(events, answer):
            for _ in range(answer.add(delta)):
                on_token()
            if len(answer.stamps) > body["max_tokens"]:
                raise MalformedReply(f"more tokens came than the {body['max_tokens']} asked for")
            if not go_on():
                break
    # Here as well, for a key that came in pieces, or in JSON's escapes.
    answer.text, answer.finish = http.without_key(answer.text), http.without_key(answer.finish)
    if answer.finish is None and not answer.done:
        raise DeviceError(
            f"{http.name}: {http.url}{COMPLETIONS} ended its stream after {len(answer.stamps)} "
            "tokens and said no reason: the server died, or something between cut it off; "
            "finished prompts are kept"
        )
    return answer


def _deltas(events: Iterator[str], answer: Answer) -> Iterator[Delta]:
    for event in events:
        if event.strip() == DONE:
            answer.done = True
            return
        delta = read_chunk(event)
        if delta is not None:
            yield delta


def _joined(kept: list[Any] | None, new: tuple[Any, ...] | None) -> list[Any] | None:
    """None if any token came without one."""
    return None if kept is None or new is None else [*kept, *new]
