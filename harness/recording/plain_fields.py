"""The fields of one entry of a plain list, under the names that tools give them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.suite.suite import Message

#: Fields that hold token ids and nothing else.
_OUTPUT_IDS = (
    *("token_ids", "output_token_ids", "output_ids", "generated_token_ids", "generated_ids"),
    *("completion_token_ids", "completion_ids", "response_token_ids", "response_ids"),
    *("new_token_ids", "sequence_ids"),
)
#: Fields that hold token ids, or a text, or a number of tokens.
_OUTPUT_EITHER = (
    *("output_tokens", "generated_tokens", "completion_tokens", "response_tokens", "tokens"),
    *("output", "generated", "generation", "completion", "response"),
)
_OUTPUT_TEXT = (
    *("generated_text", "output_text", "completion_text", "response_text", *_OUTPUT_EITHER),
    *("text", "answer", "prediction", "content"),
)
_PROMPT_IDS = ("prompt_token_ids", "prompt_ids", "input_ids", "input_token_ids")
_PROMPT_EITHER = ("prompt_tokens", "input_tokens", "prompt", "input")
_PROMPT_TEXT = ("prompt", "prompt_text", "input", "input_text", "question", "query", "instruction")
_MESSAGES = ("messages", "prompt", "input", "conversation")
_IDS = ("id", "prompt_id", "request_id", "uid", "name", "doc_id", "index", "idx")
_SECONDS = (
    *("seconds", "time", "elapsed", "latency", "duration", "time_s", "elapsed_s", "latency_s"),
    *("duration_s", "e2e_s", "e2e_latency", "generation_time", "inference_time"),
)
#: Fields with an object, or a list of one, that holds the output.
_NESTED = ("outputs", "choices", "completions", "output", "completion", "message", "delta")
#: Longer than any request: such a number is a moment and not a duration.
_LONGEST = 1e6


class Fields:
    """One entry; every method returns None for what it does not say.

    Raises ValueError, ``FIELD: problem``, for what cannot be understood.
    """

    def __init__(self, item: Mapping[str, Any], where: str) -> None:
        self._item = item
        self._where = where

    @property
    def is_entry(self) -> bool:
        """Whether an object is itself an entry and not a file of them."""
        prompt = any(name in self._item for name in (*_PROMPT_IDS, *_PROMPT_TEXT, "messages"))
        return self.has_output and (
            prompt or any(_ids_like(self._item.get(n)) for n in _OUTPUT_IDS)
        )

    @property
    def has_output(self) -> bool:
        """Whether a field that may hold an output is there."""
        names = {*_OUTPUT_IDS, *_OUTPUT_TEXT, *_NESTED, "resps"}
        return any(self._item.get(name) is not None for name in names)

    def id(self) -> str | None:
        """The first id; a number as its digits."""
        for name in _IDS:
            value = self._item.get(name)
            if isinstance(value, str) and value:
                return value
            if type(value) is int:
                return str(value)
        return None

    def prompt_ids(self) -> tuple[int, ...] | None:
        """The prompt's token ids."""
        found = [self._ids(name, self._item[name]) for name in self._given(_PROMPT_IDS)]
        for name in _PROMPT_EITHER:
            value = self._item.get(name)
            if isinstance(value, dict):  # vLLM's own kinds of prompt
                value = value.get("prompt_token_ids")
            if _ids_like(value):
                found.append(self._ids(name, value))
        if not found:
            return None
        if len(set(found)) > 1:
            raise ValueError(f"{self._name('prompt_token_ids')}: two fields of it differ; keep one")
        if not found[0]:
            raise ValueError(f"{self._name('prompt_token_ids')}: is empty; a prompt has a token")
        return found[0]

    def prompt_text(self) -> str | None:
        """The prompt as a person reads it; chat messages as a recording writes them."""
        for name in _PROMPT_TEXT:
            value = self._item.get(name)
            if isinstance(value, dict):
                value = value.get("prompt")
            if isinstance(value, str):
                return value
        turns = self.messages()
        if turns is not None:
            return "\n".join(f"{turn.role}: {turn.content}" for turn in turns)
        return _lm_eval_prompt(self._item.get("arguments"))

    def messages(self) -> tuple[Message, ...] | None:
        """The turns of a chat."""
        for name in _MESSAGES:
            value = self._item.get(name)
            if isinstance(value, list) and value and all(map(_is_turn, value)):
                return tuple(Message(turn["role"], turn["content"]) for turn in value)
        return None

    def output_ids(self, prompt: Sequence[int] = ()) -> tuple[int, ...] | None:
        """The output's token ids; where one field repeats the prompt in front
        of another's ids, the shorter of the two."""
        found = {name: self._ids(name, self._item[name]) for name in self._given(_OUTPUT_IDS)}
        for name in _OUTPUT_EITHER:
            if _ids_like(self._item.get(name)):
                found[name] = self._ids(name, self._item[name])
        for name, inner in self._nested():
            ids = inner.output_ids()
            if ids is not None:
                found[name] = ids
        shortest = min(found.values(), key=len, default=None)
        for name, ids in found.items():
            if ids not in (shortest, (*prompt, *(shortest or ()))):
                other = next(n for n, v in found.items() if v == shortest)
                raise ValueError(f"{self._name(name)}: holds other tokens than {other}; keep one")
        return shortest

    def output_text(self) -> str | None:
        """The text of the output."""
        for name in _OUTPUT_TEXT:
            if isinstance(self._item.get(name), str):
                return str(self._item[name])
        for _, inner in self._nested():
            text = inner.output_text()
            if text is not None:
                return text
        answers: Any = self._item.get("resps")
        while isinstance(answers, list) and len(answers) == 1:
            answers = answers[0]
        return answers if isinstance(answers, str) else None

    def seconds(self) -> float | None:
        """How long the request took; None for a moment, or a text."""
        for name in _SECONDS:
            value = self._item.get(name)
            if isinstance(value, int | float) and not isinstance(value, bool):
                return float(value) if 0 <= value < _LONGEST else None
        return None

    def why_no_output(self) -> str:
        """What is there in its place."""
        pieces = next((n for n in _OUTPUT_EITHER if isinstance(self._item.get(n), list)), None)
        if pieces is not None:
            return f"{pieces} holds no token ids; write them as numbers"
        return "write the output's token ids, or its text as generated_text"

    def _given(self, names: Sequence[str]) -> list[str]:
        return [name for name in names if self._item.get(name) is not None]

    def _nested(self) -> list[tuple[str, Fields]]:
        """Objects within, by their names; several completions are refused."""
        found = []
        for name in self._given(_NESTED):
            value, where = self._item[name], self._name(name)
            if isinstance(value, list) and value and all(isinstance(v, dict) for v in value):
                if len(value) > 1:
                    raise ValueError(
                        f"{where}: holds {len(value)} outputs of one prompt; keep the greedy one"
                    )
                value, where = value[0], f"{where}[0]"
            if isinstance(value, dict):
                found.append((name, Fields(value, where)))
        return found

    def _ids(self, name: str, value: Any) -> tuple[int, ...]:
        if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
            value = value[0]  # a batch of one
        if not isinstance(value, list):
            raise ValueError(f"{self._name(name)}: is not a list of token ids")
        for index, token in enumerate(value):
            if type(token) is not int or not 0 <= token < 2**31:
                raise ValueError(f"{self._name(name)}.{index}: {token!r:.40} is not a token id")
        return tuple(value)

    def _name(self, name: str) -> str:
        return f"{self._where}.{name}" if self._where else name


def _ids_like(value: Any) -> bool:
    """Whether a field with several meanings holds token ids."""
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], list):
        value = value[0]
    return isinstance(value, list) and bool(value) and all(type(v) is int for v in value)


def _is_turn(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(value.get(name), str) for name in ("role", "content")
    )


def _lm_eval_prompt(arguments: Any) -> str | None:
    """The prompt of lm-eval's samples: the first argument of the first request."""
    for _ in range(3):
        if isinstance(arguments, dict):
            arguments = next(iter(arguments.values()), None)
        elif isinstance(arguments, list):
            arguments = arguments[0] if arguments else None
    return arguments if isinstance(arguments, str) else None
