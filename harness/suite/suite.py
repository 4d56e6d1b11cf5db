"""A suite: prompts and generation settings, identified by their content."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from harness.errors import UsageError
from harness.files import jsonfile
from harness.suite.chat import PLAIN, ChatTemplate

ROLES = ("system", "user", "assistant")


# Ids and suite names become names of tests, files and folders.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


_NAME_RULE = "must be 1 to 64 of A-Z a-z 0-9 . _ - and begin with a letter or digit"


#: What is wrong with equal prompts, or prompts and outputs.
TWICE = "which counts one prompt twice"


@dataclass(frozen=True)
class Message:
    """One turn of a chat; ``role`` is one of ROLES."""

    role: str
    content: str


@dataclass(frozen=True)
class Prompt:
    """One prompt; exactly one of ``text``, ``messages``, ``token_ids`` is not None.

    ``line`` is where the prompt begins in its file, from 1, or 0 where it stands
    in none. ``text`` is the whole text, repetitions included. ``tokens``, with
    ``text`` only, is how many leading tokens (special ones included) are given.
    """

    id: str
    line: int
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    tokens: int | None = None


@dataclass(frozen=True)
class Generation:
    """How far a free run goes: at most ``max_new_tokens``, past eos or not."""

    max_new_tokens: int
    ignore_eos: bool


@dataclass(frozen=True)
class Suite:
    """A suite file.

    ``name`` is the file's stem and ``path`` the file, relative to the working
    directory where it lies below it. ``digest`` is the SHA-256, in hex, of the
    content: prompts in their order, generation settings and what ``chat`` gives to
    the chat template, without the name, comments or formatting of the file.
    ``matrix`` asks for the runs of ``--matrix``; it changes nothing that is
    compared, so it is no part of the digest. ``given``: the prompts come with
    outputs of their own, as those that
    ``verify`` reads, so one prompt may stand with several of them. ``left_out``
    are the ids of the file's prompts that are not in ``prompts``.
    """

    name: str
    path: Path
    prompts: tuple[Prompt, ...]
    generation: Generation
    digest: str
    matrix: bool = False
    given: bool = False
    left_out: tuple[str, ...] = ()
    chat: ChatTemplate = PLAIN

    @property
    def chats(self) -> tuple[str, ...]:
        """The ids of the prompts that are chat messages."""
        return tuple(p.id for p in self.prompts if p.messages is not None)

    def without(self, prompt_ids: tuple[str, ...]) -> Suite:
        """The suite less these prompts, and so with another digest; itself without any."""
        kept = tuple(p for p in self.prompts if p.id not in prompt_ids)
        if len(kept) == len(self.prompts):
            return self
        gone = tuple(p.id for p in self.prompts if p.id in prompt_ids)
        return replace(
            self,
            prompts=kept,
            digest=_digest(kept, self.generation, self.chat),
            left_out=(*self.left_out, *gone),
        )

    def with_max_new_tokens(self, max_new_tokens: int) -> Suite:
        """The same prompts with another length, and so another digest.

        Raises UsageError when ``max_new_tokens`` is less than 1.
        """
        return self.with_generation(max_new_tokens, self.generation.ignore_eos)

    def with_generation(self, max_new_tokens: int, ignore_eos: bool) -> Suite:
        """The same prompts with other settings, and so another digest.

        Raises UsageError when ``max_new_tokens`` is less than 1.
        """
        generation = replace(
            self.generation, max_new_tokens=_length(max_new_tokens), ignore_eos=ignore_eos
        )
        digest = _digest(self.prompts, generation, self.chat)
        return replace(self, generation=generation, digest=digest)


def _length(max_new_tokens: int) -> int:
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens is {max_new_tokens}; it must be at least 1")
    return max_new_tokens


def _digest(prompts: tuple[Prompt, ...], generation: Generation, chat: ChatTemplate = PLAIN) -> str:
    content = {
        "generation": asdict(generation),
        "prompts": [_content(p) for p in prompts],
        **chat.content(),
    }
    # Escapes would write a surrogate pair and the character it stands for alike.
    return hashlib.sha256(jsonfile.canonical(content, ascii_only=False)).hexdigest()


def _content(prompt: Prompt) -> dict[str, object]:
    fields = asdict(prompt).items()
    return {name: value for name, value in fields if name != "line" and value is not None}
