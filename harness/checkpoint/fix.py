"""Mend the fields of a config.json that its weights determine, and touch nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.checkpoint.findings import Inspection
from harness.errors import ModelError
from harness.files.atomic import write_bytes
from harness.model.hub import first_line

#: Where a missing field goes: after the first of these that is there.
_NEIGHBOURS = ("num_key_value_heads", "num_attention_heads", "hidden_size")


@dataclass(frozen=True)
class Change:
    """One field; ``old`` is None where it was absent."""

    name: str
    old: Any
    new: Any


def plan_changes(found: Inspection) -> list[Change]:
    """What fix-config would write.

    Raises:
        ModelError: if a wrong value is not determined by the weights.
    """
    if found.known_as is None:
        raise ModelError(
            f"{found.folder}: its family ({found.family}) is not known, or its tensors are "
            "another's, so its config.json cannot be derived"
        )
    if found.within and found.wrong:
        names = ", ".join(field.name for field in found.wrong)
        raise ModelError(
            f"{found.folder}: the wrong fields ({names}) stand under {found.within}; correct them "
            "there by hand"
        )
    for finding in found.findings:
        if finding.about == "heads":
            why = "the weights do not determine the heads"
        elif finding.about == "shapes":
            why = "the weights contradict themselves"
        else:
            continue
        raise ModelError(f"{found.folder}: {why}: {finding.what}; {finding.remedy}")
    return [Change(f.name, f.config, f.weights) for f in found.wrong]


def fix_config(folder: Path, changes: Sequence[Change]) -> Path:
    """Write the changes into config.json, atomically; returns the backup's path.

    Raises:
        ModelError: if the file cannot be read, or states a key twice.
        HarnessError: if the folder does not take it; the file is then as it was.
    """
    path = folder / "config.json"
    try:
        before = path.read_bytes()
        after = changed(before.decode("utf-8"), changes).encode("utf-8")
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {first_line(error)}") from error
    backup = _free_name(folder)
    write_bytes(backup, before)
    try:
        write_bytes(path, after)
    except BaseException:
        backup.unlink(missing_ok=True)
        raise
    return backup


def _free_name(folder: Path) -> Path:
    names = (folder / f"config.json.bak{n}" for n in ("", *(f".{i}" for i in range(1, 1000))))
    return next(name for name in names if not name.exists())


@dataclass(frozen=True)
class _Member:
    """A key of the outermost object, and where it and its value are."""

    key: str
    start: int
    value_start: int
    value_end: int


def changed(text: str, changes: Sequence[Change]) -> str:
    """The text of a JSON object with some of its members changed or added.

    Every other character stays: order, indentation, spelling of numbers.

    Raises:
        ValueError: if it is not a JSON object, or a key appears twice.
    """
    for change in changes:
        members = {m.key: m for m in _members(text)}
        value = json.dumps(change.new)
        if change.name in members:
            here = members[change.name]
            text = text[: here.value_start] + value + text[here.value_end :]
        else:
            text = _inserted(text, list(members.values()), f"{json.dumps(change.name)}: {value}")
    return text


def _inserted(text: str, members: list[_Member], member: str) -> str:
    if not members:
        return "{" + member + "}"
    keys = [m.key for m in members]
    after = next((keys.index(n) for n in _NEIGHBOURS if n in keys), len(members) - 1)
    # The white space before a key is the indentation of them all.
    space = (
        text[text.rindex(",", 0, members[after].start) + 1 : members[after].start]
        if (after)
        else text[text.index("{") + 1 : members[0].start]
    )
    end = members[after].value_end
    return text[:end] + "," + space + member + text[end:]


def _members(text: str) -> Iterator[_Member]:
    decoder = json.JSONDecoder()
    position = _skip(text, 0)
    if text[position : position + 1] != "{":
        raise ValueError("is not a JSON object")
    position = _skip(text, position + 1)
    seen: set[str] = set()
    while text[position : position + 1] != "}":
        start = position
        key, position = decoder.raw_decode(text, position)
        if not isinstance(key, str):
            raise ValueError(f"the key {key!r} is not a string")
        if key in seen:
            raise ValueError(f"the key {key!r} appears twice")
        seen.add(key)
        position = _skip(text, position)
        if text[position : position + 1] != ":":
            raise ValueError(f"no value for {key!r}")
        value_start = _skip(text, position + 1)
        _, value_end = decoder.raw_decode(text, value_start)
        yield _Member(key, start, value_start, value_end)
        position = _skip(text, value_end)
        if text[position : position + 1] == ",":
            position = _skip(text, position + 1)


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position
