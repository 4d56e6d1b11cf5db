"""Recordings of the parts of a suite, joined into the one that a single run would have made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from harness.devices.facts import LoadFigures
from harness.errors import UsageError
from harness.recording.format import PromptRecord, Recording, Repeat
from harness.statistics.detail import name_of
from harness.statistics.rows import Detail
from harness.suite.suite import Suite

#: Parts of a recording in which shards of one run are equal, as a reader knows them.
_EQUAL = ("detail", "schema_", "device", "dtype", "model", "suite", "settings", "overridden",
          "engine", "environment")  # fmt: skip
#: What of them is told of a shard's own prompts.
_OF_PROMPTS = {"suite": {"unsteady"}}


def merge(parts: Mapping[str, Recording], suite: Suite) -> Recording:
    """The recording that one run of ``suite`` would have made, but for its times.

    ``created`` is the earliest; each figure of ``load`` is the largest of the parts', each of
    which loaded the model.

    Args:
        parts: recordings by the name that a message gives them, such as a file's; at least two.
        suite: the whole suite, with the settings of the recordings.

    Raises:
        UsageError: if the parts are not of one run: of another device, model, suite, setting,
            engine or environment, with a prompt twice, or one missing.
    """
    (first_name, first), *others = parts.items()
    if not others:
        raise UsageError(f"{first_name}: there is nothing to merge it with; name all the shards")
    for name, other in others:
        _refuse_difference(first_name, first, name, other)
    whole = suite.without(first.suite.left_out or ())
    if whole.digest != first.suite.digest:
        raise UsageError(
            f"{first_name}: it is of another suite than {suite.path} is now; name the suite that "
            "was recorded with --suite"
        )
    prompts = _prompts(parts)
    order = [prompt.id for prompt in whole.prompts]
    foreign = sorted(prompts.keys() - set(order))
    if foreign:
        raise UsageError(
            f"{_short(', '.join(foreign), 200)}: recorded, and not in suite {suite.name}; name the "
            "suite that was recorded with --suite"
        )
    missing = [id_ for id_ in order if id_ not in prompts]
    if missing:
        shown = _short(", ".join(missing), 200)
        raise UsageError(
            f"{len(missing)} of {len(order)} prompts of suite {suite.name} are in none of the "
            f"recordings ({shown}); name the missing shards too"
        )
    unsteady = {k: v for part in parts.values() for k, v in (part.suite.unsteady or {}).items()}
    pieces = {token: text for part in parts.values() for token, text in part.pieces.items()}
    return first.model_copy(
        update={
            "created": min(part.created for part in parts.values()),
            "suite": first.suite.model_copy(update={"unsteady": unsteady or None}),
            "load": _largest([part.load for part in parts.values()]),
            "prompts": tuple(prompts[id_] for id_ in order),
            "repeats": _repeats(parts, order),
            "pieces": dict(sorted(pieces.items(), key=lambda piece: int(piece[0]))),
        }
    )


def _refuse_difference(first_name: str, first: Recording, name: str, other: Recording) -> None:
    for field in _EQUAL:
        mine, theirs = (_plain(getattr(part, field), field) for part in (first, other))
        if mine == theirs:
            continue
        where, a, b = _where(field.rstrip("_"), mine, theirs)
        raise UsageError(
            f"{name}: {where} is {_short(str(b))}, and {_short(str(a))} in "
            f"{first_name}; only shards of one run can be merged"
        )


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _plain(value: Any, field: str) -> Any:
    if isinstance(value, Detail):
        return name_of(value)
    if not hasattr(value, "model_dump"):
        return value
    return value.model_dump(exclude=_OF_PROMPTS.get(field))


def _where(name: str, a: Any, b: Any) -> tuple[str, Any, Any]:
    """The first place where two values differ, by its path, and both values there."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in sorted({*a, *b}, key=str):
            if a.get(key) != b.get(key):
                return _where(f"{name}.{key}", a.get(key), b.get(key))
    return name, a, b


def _prompts(parts: Mapping[str, Recording]) -> dict[str, PromptRecord]:
    found: dict[str, PromptRecord] = {}
    owner: dict[str, str] = {}
    for name, part in parts.items():
        for prompt in part.prompts:
            if prompt.id in found:
                raise UsageError(
                    f"{name}: prompt {prompt.id} is in {owner[prompt.id]} too; shards have no "
                    "prompt in common"
                )
            found[prompt.id], owner[prompt.id] = prompt, name
    return found


def _repeats(parts: Mapping[str, Recording], order: Sequence[str]) -> tuple[Repeat, ...]:
    place = {id_: number for number, id_ in enumerate(order)}
    found = [repeat for part in parts.values() for repeat in part.repeats]
    return tuple(sorted(found, key=lambda repeat: place[repeat.prompt_id]))


def _largest(loads: Sequence[LoadFigures]) -> LoadFigures:
    figures: dict[str, float] = {}
    for load in loads:
        for name, value in load.model_dump(exclude_none=True).items():
            figures[name] = max(value, figures.get(name, value))
    return LoadFigures(**figures)
