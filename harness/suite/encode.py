"""A suite's prompts as token ids."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from harness.errors import ModelError, SuiteError
from harness.suite.chat import PLAIN, ChatTemplate, Unsteady
from harness.suite.suite import TWICE, Prompt, Suite, _length


@dataclass(frozen=True)
class EncodedPrompt:
    """What a device gets, ``token_ids``, and what a person reads for it, ``text``.

    ``unsteady``: why another run of the suite would have other ids; None where it would not.
    """

    id: str
    text: str
    token_ids: tuple[int, ...]
    unsteady: Unsteady | None = None


class SuiteTokenizer(Protocol):
    """The part of a model's tokenizer that a suite needs.

    ``encode`` adds the special tokens that the tokenizer adds by itself.
    ``encode_chat`` applies the chat template once, with the generation prompt
    and one BOS at most; it raises ModelError where the model has no template,
    that is, where ``template`` is None. ``unsteady`` says why the same messages
    would become other ids in another run.
    """

    @property
    def vocab_size(self) -> int: ...

    @property
    def template(self) -> str | None: ...

    def encode(self, text: str) -> tuple[int, ...]: ...

    def encode_chat(
        self, messages: Sequence[Mapping[str, str]], chat: ChatTemplate = PLAIN
    ) -> tuple[int, ...]: ...

    def unsteady(
        self, messages: Sequence[Mapping[str, str]], chat: ChatTemplate = PLAIN
    ) -> Unsteady | None: ...

    def decode(self, ids: Sequence[int]) -> str: ...


def fitting(
    suite: Suite, tokenizer: SuiteTokenizer, model: str, note: Callable[[str], None]
) -> Suite:
    """The part of a suite that a model can be given.

    A base model has no chat template, and text that looks like one would be
    an invention: chat messages are left out, and a line says so. The digest is
    that of the prompts that remain, so only runs of the same prompts are
    compared. With a template, and where nothing would remain, it is the suite
    itself; ``encode_suite`` refuses the latter.

    Args:
        model: how the line names the model.
        note: is given the line.
    """
    chats = suite.chats
    if tokenizer.template is not None or not chats or len(chats) == len(suite.prompts):
        return suite
    prompts = "prompt is" if len(chats) == 1 else "prompts are"
    note(
        f"suite {suite.name}: {len(chats)} of {len(suite.prompts)} {prompts} left out, because "
        f"the model {model} has no chat template: {', '.join(chats)}"
    )
    return suite.without(chats)


def encode_suite(
    suite: Suite,
    tokenizer: SuiteTokenizer,
    max_positions: int,
    max_new_tokens: int | None = None,
) -> tuple[EncodedPrompt, ...]:
    """Token ids of every prompt, in the suite's order.

    ``max_positions`` is the longest prompt + output, in tokens, that the model
    takes; ``max_new_tokens`` stands in for the suite's own. Raises SuiteError,
    with file and line, for a prompt that this model cannot be given or that has
    the tokens of another, and ModelError for a chat without a chat template.
    """
    new = suite.generation.max_new_tokens if max_new_tokens is None else _length(max_new_tokens)
    encoded = []
    seen: dict[tuple[int, ...], str] = {}
    for prompt in suite.prompts:
        text, ids = _encode(suite, prompt, tokenizer)
        unsteady = tokenizer.unsteady(_turns(prompt), suite.chat) if prompt.messages else None
        problem = _unfit(ids, tokenizer.vocab_size, max_positions, new, suite.given)
        if problem is None and not suite.given and ids in seen:
            # The judgement takes prompts for independent samples.
            problem = f"has the token ids of prompt {seen[ids]}, {TWICE}; change or remove one"
        if problem is not None:
            raise _prompt_error(suite, prompt, problem)
        seen[ids] = prompt.id
        encoded.append(EncodedPrompt(prompt.id, text, ids, unsteady))
    return tuple(encoded)


def _encode(suite: Suite, prompt: Prompt, tokenizer: SuiteTokenizer) -> tuple[str, tuple[int, ...]]:
    """What a person reads, and the token ids."""
    if prompt.token_ids is not None:
        # Checked before decoding: tokenizers fail on strange ids in strange ways.
        bad = _outside(prompt.token_ids, tokenizer.vocab_size)
        if bad is not None:
            raise _prompt_error(suite, prompt, bad)
        return tokenizer.decode(prompt.token_ids), prompt.token_ids
    turns = prompt.messages or ()
    text = prompt.text or "\n".join(f"{turn.role}: {turn.content}" for turn in turns)
    surrogate = re.search("[\ud800-\udfff]", text)
    if surrogate:
        problem = (
            f"character {surrogate.start()} is the surrogate {surrogate[0]!a}, which no "
            "tokenizer takes; write the character itself, or \\U and eight digits"
        )
        raise _prompt_error(suite, prompt, problem)
    if prompt.messages is not None:
        try:
            return text, tuple(tokenizer.encode_chat(_turns(prompt), suite.chat))
        except ModelError as error:
            where = f"{suite.path}:{prompt.line}, prompt {prompt.id}"
            raise ModelError(f"{error} (chat messages of {where})") from error
    ids = tuple(tokenizer.encode(text))
    if prompt.tokens is None:
        return text, ids
    if len(ids) < prompt.tokens:
        problem = f"only {len(ids)} tokens for tokens: {prompt.tokens}; set or raise repeat"
        raise _prompt_error(suite, prompt, problem)
    ids = ids[: prompt.tokens]
    return tokenizer.decode(ids), ids


def _turns(prompt: Prompt) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in prompt.messages or ()]


def unsteady_prompts(prompts: Sequence[EncodedPrompt]) -> dict[str, Unsteady]:
    """Why another run would have other ids, by the prompt's id."""
    return {p.id: p.unsteady for p in prompts if p.unsteady is not None}


def unsteady_line(suite: Suite, causes: Mapping[str, Unsteady], model: str) -> str:
    """What is wrong with prompts whose ids another run would not have, and how to mend it.

    Args:
        causes: by the prompt's id; not empty.
        model: how the line names the model.
    """
    where = f"suite {suite.name}: the token ids of {', '.join(sorted(causes))}"
    template = f"the chat template of the model {model}"
    if "date" in causes.values():
        return (
            f"{where} change with the date, because {template} reads the clock; write "
            f"`date: {datetime.now():%Y-%m-%d}` beside `prompts` in {suite.path.as_posix()}, or "
            "give what the template takes for it in `chat_template_kwargs`"
        )
    return (
        f"{where} differ in every run, because {template} draws at random; give the prompt as "
        "text, or change the template"
    )


def _unfit(
    ids: tuple[int, ...], vocab_size: int, max_positions: int, new: int, given: bool
) -> str | None:
    """Why a model cannot be given these tokens."""
    if not ids:
        return "encodes to no token at all; give it text"
    if len(ids) + new > max_positions:
        remedy = (
            "leave long outputs out of the file, or name a model that takes them"
            if given
            else "shorten the prompt or lower max_new_tokens"
        )
        return (
            f"{len(ids)} tokens and {new} new ones are more than the {max_positions} positions "
            f"of this model; {remedy}"
        )
    return _outside(ids, vocab_size)


def _outside(ids: tuple[int, ...], vocab_size: int) -> str | None:
    bad = next((i for i in ids if not 0 <= i < vocab_size), None)
    if bad is None:
        return None
    return f"token id {bad} is outside this model's vocabulary of {vocab_size}; use a lower id"


def _prompt_error(suite: Suite, prompt: Prompt, problem: str) -> SuiteError:
    return SuiteError(str(suite.path), prompt.line or None, f"prompt {prompt.id}: {problem}")
