"""Whether a model fits into this host's memory, and what to do where it does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal, cast, get_args

from harness.devices.spec import DeviceSpec
from harness.errors import UsageError
from harness.model.facts import ModelFacts
from harness.process.memory import available_bytes

#: Where weights are: on disk, read layer by layer; ``auto``: where they do not fit into memory.
Weights = Literal["auto", "memory", "stream"]
#: Bytes of one number.
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
#: Of the memory that is available, what weights may take: activations and rows need some too.
_SHARE = 0.8


def does_not_fit(spec: DeviceSpec, facts: ModelFacts, dtype: str) -> str | None:
    """Why a model cannot be held in memory on a Transformers device of this host's CPU; None
    where it can, or nothing is known.

    Args:
        dtype: that it is computed in.
    """
    if spec.kind.family != "transformers" or spec.kind.backend != "cpu":
        return None
    available = available_bytes()
    if available is None or facts.parameters is None:
        return None
    needs = facts.parameters * _BYTES[dtype]
    if needs <= _SHARE * available:
        return None
    return f"{needs / 1e9:.1f} GB in {dtype}, and {available / 1e9:.1f} GB of memory are available"


def streamed(spec: DeviceSpec) -> DeviceSpec:
    """The same device, with its weights left on disk and read layer by layer."""
    return replace(spec, engine_args={**spec.engine_args, "weights": "stream"})


def checked_weights(option: str, text: str) -> Weights:
    """Where weights are to be, as an option says it.

    Raises:
        UsageError: naming the option and what it takes.
    """
    for known in get_args(Weights):
        if text == known:
            return cast("Weights", known)
    raise UsageError(f"{option} {text!r} is not one of {', '.join(get_args(Weights))}")
