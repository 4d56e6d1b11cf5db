"""Plain lists: prompts and outputs as any other tool writes them, without logits.

A JSON list of objects, the same under a key such as ``results``, or JSON lines.
Of each entry the prompt is read (text, chat messages or token ids), the output
(token ids or text), and an id and the seconds it took where they are there. The
spellings are those of vLLM's and SGLang's outputs, of OpenAI's responses, of
Transformers' scripts and of lm-eval's samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import EmptyComparison, FormatError
from harness.files import jsonfile
from harness.recording.format import Recording, load_recording
from harness.recording.plain_fields import Fields
from harness.recording.shelf import Shelf
from harness.suite.suite import Message

#: What a file may look like, for error messages.
SHAPE = '[{"prompt": ..., "token_ids": [...]}]'

_HARNESS = "harness."
_CONTAINERS = (
    *("results", "outputs", "data", "samples", "generations", "responses", "completions"),
    *("records", "items", "entries", "predictions", "requests", "prompts"),
)


@dataclass(frozen=True)
class PlainEntry:
    """One prompt with its output; None is what the file does not say.

    Attributes:
        where: the place in its file, for error messages.
        text: the prompt as a person reads it.
        output: the text of the output.
        seconds: from the request to its last token.
    """

    where: str
    id: str | None = None
    text: str | None = None
    messages: tuple[Message, ...] | None = None
    prompt_token_ids: tuple[int, ...] | None = None
    token_ids: tuple[int, ...] | None = None
    output: str | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class PlainList:
    """A file of another tool. ``entries`` are in the order of the file."""

    path: Path
    entries: tuple[PlainEntry, ...]

    def problem(self, entry: PlainEntry, field: str, problem: str) -> FormatError:
        """An error of one field of one entry."""
        if entry.where.startswith(":"):  # JSON lines are named as FILE:LINE
            return FormatError(f"{self.path}{entry.where}", field, problem)
        return FormatError(str(self.path), f"{entry.where}.{field}", problem)


def load_either(path: Path, shelf: Shelf | None = None) -> Recording | PlainList:
    """A recording, or a plain list of another tool; ``shelf`` as of ``load_recording``.

    Raises:
        FormatError: if the file is neither; naming file, entry and field.
        EmptyComparison: if the list is empty.
    """
    if path.is_dir() or jsonfile.begins_with_schema(path, _HARNESS):
        return load_recording(path, shelf)
    found = load_plain(path)
    return load_recording(path, shelf) if found is None else found


def load_plain(path: Path) -> PlainList | None:
    """A plain list; None where the file holds something else.

    Raises:
        FormatError: naming file, entry and field of what cannot be understood.
        EmptyComparison: if the list is empty.
    """
    read = jsonfile.parse_foreign(path)
    places = _places(read)
    if places is None:
        return None
    if not places:
        raise EmptyComparison(f"{path}: the list is empty, so there is nothing to judge")
    return PlainList(path, tuple(_entry(place, item, path) for place, item in places))


def _places(read: jsonfile.Foreign) -> list[tuple[str, Any]] | None:
    """Each entry with its place; None where there are no entries."""
    value = read.value
    if read.lines:
        return [(f":{line}", item) for line, item in zip(read.lines, value, strict=True)]
    if isinstance(value, list):
        return [(f"[{n}]", item) for n, item in enumerate(value)]
    if not isinstance(value, dict) or "schema" in value:
        return None
    return [("[0]", value)] if Fields(value, "").is_entry else _inside(value)


def _inside(value: Mapping[str, Any]) -> list[tuple[str, Any]] | None:
    """The entries that an object holds under one of its keys, or one under each."""
    empty: list[tuple[str, Any]] | None = None
    for key in _CONTAINERS:
        inside = value.get(key)
        if isinstance(inside, list) and inside:
            return [(f"{key}[{n}]", item) for n, item in enumerate(inside)]
        if isinstance(inside, dict) and (named := list(_named(inside, f"{key}."))):
            return named
        empty = [] if isinstance(inside, list) and key != "prompts" else empty
    return list(_named(value, "")) or empty


def _named(value: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """The entries of an object that has one entry for each id."""
    if all(isinstance(item, dict) and Fields(item, "").has_output for item in value.values()):
        for name, item in value.items():
            yield f"{prefix}{name}", {"id": name, **item}


def _entry(place: str, item: Any, path: Path) -> PlainEntry:
    line = place.startswith(":")
    file, prefix = (f"{path}{place}", "") if line else (str(path), place)
    if isinstance(item, list):
        item = {"token_ids": item}
    elif isinstance(item, str):
        item = {"text": item}
    if not isinstance(item, dict):
        raise FormatError(file, prefix or None, f"is not an object; write {SHAPE}")
    fields = Fields(item, prefix)
    try:
        prompt_ids = fields.prompt_ids()
        found = PlainEntry(
            where=place,
            id=fields.id(),
            text=fields.prompt_text(),
            messages=fields.messages(),
            prompt_token_ids=prompt_ids,
            token_ids=fields.output_ids(prompt_ids or ()),
            output=fields.output_text(),
            seconds=fields.seconds(),
        )
    except ValueError as error:
        field, _, problem = str(error).partition(": ")
        raise FormatError(file, field or None, problem) from None
    if found.token_ids is None and found.output is None:
        field = ".".join(part for part in (prefix, "token_ids") if part)
        raise FormatError(file, field, f"field required: {fields.why_no_output()}")
    return found
