"""Token ids that a plain list gives, ready to be replayed on a model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.alignment.fronts import cut_fronts
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.errors import FormatError
from harness.messages.message import Message, message
from harness.model.subject import Subject
from harness.process.progress import Progress
from harness.recording.plain import PlainEntry, PlainList
from harness.suite.suite import TWICE

#: A longer text is not a name.
_MOST_NAME = 100


@dataclass(frozen=True)
class Given:
    """For each prompt its token ids and its output's, by name; ``subject`` is the
    model whose tokenizer was asked, None where it was not needed."""

    tokens: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]]
    subject: Subject | None = None


def given_tokens(
    plain: PlainList, spec: DeviceSpec, progress: Progress
) -> tuple[Given, list[Message]]:
    """The tokens of a plain list, and what is to be said of them.

    Prompts without token ids are encoded by the model's own tokenizer: chat
    messages through its template, a text as it stands.

    Raises:
        FormatError: if an output has no token ids, or a prompt is not there.
        HarnessError: if the tokenizer cannot be opened, or refuses a prompt.
    """
    for entry in plain.entries:
        if entry.token_ids is None:
            raise plain.problem(entry, "token_ids", "field required: a text does not tell tokens")
        if not entry.token_ids:
            raise plain.problem(entry, "token_ids", "is empty, so there is nothing to judge")
        if entry.prompt_token_ids is None and entry.text is None:
            raise plain.problem(
                entry, "prompt_token_ids", "field required, or the prompt's text as prompt"
            )
    said: list[Message] = []
    subject = None
    bare = [e for e in plain.entries if e.prompt_token_ids is None]
    if bare:
        subject = open_target(spec, progress=progress).subject
        said.append(message("warning.plain.encoded", file=plain.path.as_posix(), count=len(bare)))
        said += _unsteady(bare, subject)
    prompts = [e.prompt_token_ids or _encoded(plain, e, subject) for e in plain.entries]
    entries, warning = cut_fronts(plain.entries, prompts, plain.path.as_posix())
    said += [] if warning is None else [warning]
    outputs = [e.token_ids or () for e in entries]
    for entry, output in zip(entries, outputs, strict=True):
        if not output:
            raise plain.problem(entry, "token_ids", "holds the prompt and no new token")
    pairs = list(zip(prompts, outputs, strict=True))
    refuse_repeats([entry.where for entry in entries], pairs, plain.path)
    return Given(dict(zip(_names(entries), pairs, strict=True)), subject), said


def refuse_repeats(names: Sequence[str], tokens: Iterable[object], path: Path) -> None:
    """Check that no prompt appears twice with one output: the judgement takes
    prompts for independent samples.

    Raises:
        FormatError: naming both.
    """
    seen: dict[object, str] = {}
    for name, pair in zip(names, tokens, strict=True):
        if pair in seen:
            problem = f"holds the same prompt and output as {seen[pair]}, {TWICE}; remove one"
            raise FormatError(str(path), name, problem)
        seen[pair] = name


def _encoded(plain: PlainList, entry: PlainEntry, subject: Subject | None) -> tuple[int, ...]:
    assert subject is not None  # opened where any prompt lacks its token ids
    if entry.messages is not None:
        ids = subject.tokenizer.encode_chat(_turns(entry))
    else:
        ids = subject.tokenizer.encode(entry.text or "")
    if not ids:
        raise plain.problem(entry, "prompt", "encodes to no token at all; give prompt_token_ids")
    return tuple(ids)


def _turns(entry: PlainEntry) -> list[dict[str, str]]:
    return [{"role": turn.role, "content": turn.content} for turn in entry.messages or ()]


def _unsteady(entries: Sequence[PlainEntry], subject: Subject) -> list[Message]:
    """A warning where messages become other ids today than on the day of their outputs."""
    chats = [e for e in entries if e.messages is not None]
    dated = [e for e in chats if subject.tokenizer.unsteady(_turns(e)) is not None]
    if not dated:
        return []
    places = ", ".join(e.where for e in dated)
    return [message("warning.plain.dated", count=len(dated), places=places)]


def _names(entries: Sequence[PlainEntry]) -> list[str]:
    """Ids where all have one of their own, else places from 1."""
    ids = [entry.id for entry in entries]
    named = len(set(ids)) == len(ids) and all(i and len(i) <= _MOST_NAME for i in ids)
    return [i if named and i else f"prompt-{n}" for n, i in enumerate(ids, 1)]
