"""Whether two recordings have the same prompts, settings and model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from harness.alignment.allow import STRICT, Allow
from harness.alignment.result import Comparability, FieldDifference
from harness.files.jsonfile import readable
from harness.model.config_form import ABSENT, config_differences
from harness.model.facts import ModelFacts
from harness.recording.format import Recording

#: Fields that ``--allow-weights`` waives: a quantized checkpoint held against
#: its original differs in the first two; a training form, which is quantized
#: while it runs, in the first and the last.
_WEIGHTS = ("model.weights", "model.config", "model.quantizer")

_SHOWN = 60


def comparability(
    candidate: Recording, reference: Recording, allow: Allow = STRICT
) -> Comparability:
    """Every field that decides what was computed, compared between the two.

    The environment is not among them: a comparison is made to judge another CPU,
    library or driver. A field that one side does not know is ``unknown`` and
    refuses nothing.
    """
    differences: list[FieldDifference] = []
    allowed: list[FieldDifference] = []
    unknown: list[str] = []
    for field, mine, theirs in _fields(candidate, reference):
        if mine is None or theirs is None:
            unknown.append(field)
            continue
        if mine == theirs:
            continue
        found = FieldDifference(field=field, candidate=_short(mine), baseline=_short(theirs))
        waived = (allow.dtype and field == "dtype") or (
            allow.weights and field.startswith(_WEIGHTS)
        )
        (allowed if waived else differences).append(found)
    return Comparability(
        comparable=not differences,
        differences=tuple(differences),
        allowed=tuple(allowed),
        unknown=tuple(unknown),
    )


def _fields(candidate: Recording, reference: Recording) -> Iterator[tuple[str, Any, Any]]:
    yield "suite.digest", candidate.suite.digest, reference.suite.digest
    yield "dtype", candidate.dtype, reference.dtype
    for name in ("weights", "tokenizer"):
        yield f"model.{name}", getattr(candidate.model, name), getattr(reference.model, name)
    # A quantizer in the forward pass changes what the weights mean.
    yield "model.quantizer", _quantizer(candidate), _quantizer(reference)
    # No template is a value of its own where the device can tell its tokenizer.
    if candidate.model.tokenizer is not None and reference.model.tokenizer is not None:
        mine, theirs = candidate.model.template, reference.model.template
        yield "model.template", mine or "none", theirs or "none"
    yield "model.vocab_size", candidate.model.vocab_size, reference.model.vocab_size
    yield from _config(candidate.model, reference.model)
    asked = [arm.settings.model_dump(mode="json") for arm in (candidate, reference)]
    yield from _keys("settings", *asked)
    for prompt in candidate.prompts:
        yield from _prompt_fields(prompt.id, candidate, reference)


def checkpoint_differences(mine: ModelFacts, theirs: ModelFacts) -> tuple[str, ...]:
    """What makes a checkpoint another one: "weights", and each field of the config that
    counts and differs. What one side does not know is none."""
    weights = mine.weights, theirs.weights
    found = ["weights"] if None not in weights and weights[0] != weights[1] else []
    for field, a, b in _config(mine, theirs):
        if a is not None and b is not None and a != b:
            found.append(field.removeprefix("model."))
    return tuple(found)


def _quantizer(recording: Recording) -> str:
    size = recording.engine.qat_group_size
    return "none" if size is None else f"group size {size}"


def _config(mine: ModelFacts, theirs: ModelFacts) -> Iterator[tuple[str, Any, Any]]:
    if mine.config is None or theirs.config is None:
        yield "model.config", mine.config, theirs.config
        return
    for key, a, b in config_differences(
        mine.config, mine.config_defaults, theirs.config, theirs.config_defaults
    ):
        shown = ["absent" if value is ABSENT else readable(value) for value in (a, b)]
        yield f"model.config.{key}", shown[0], shown[1]


def _keys(
    name: str, mine: dict[str, Any] | None, theirs: dict[str, Any] | None
) -> Iterator[tuple[str, Any, Any]]:
    if mine is None or theirs is None:
        yield name, mine, theirs
        return
    absent = "absent"
    for key in sorted(mine.keys() | theirs.keys()):
        # As JSON, which distinguishes null, true and 1 from "null", 1 and 1.0.
        yield (
            f"{name}.{key}",
            readable(mine[key]) if key in mine else absent,
            readable(theirs[key]) if key in theirs else absent,
        )


def _prompt_fields(
    prompt_id: str, candidate: Recording, reference: Recording
) -> Iterator[tuple[str, Any, Any]]:
    mine, theirs = candidate.prompt(prompt_id), reference.prompt(prompt_id)
    name = f"prompts[{prompt_id}]"
    if mine is None or theirs is None:
        yield name, "present" if mine else "absent", "present" if theirs else "absent"
        return
    yield f"{name}.prompt_token_ids", mine.prompt_token_ids, theirs.prompt_token_ids
    if mine.forced is not None:
        yield f"{name}.context_token_ids", mine.forced.token_ids, theirs.run.token_ids


def _short(value: Any) -> str:
    text = str(list(value) if isinstance(value, tuple) else value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"
