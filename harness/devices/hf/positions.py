"""Offsets of positions between tokens, for as long as a context is entered. RoPE tells nothing
of an offset that all tokens share."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from harness.devices.causes import Cause

_ROTATES = "apply_rotary_pos_emb"


def offsets_of(model: Any) -> tuple[Cause, ...]:
    """The offsets that can be made in this model."""
    found = [Cause("decode_offset")] if rotary_modules(model) else []
    return (*found, Cause("query_offset")) if _rotating(model) else tuple(found)


def rotary_modules(model: Any) -> list[Any]:
    """The modules that turn positions into angles."""
    return [m for m in model.modules() if "rotary" in type(m).__name__.lower()]


@contextmanager
def generated_apart(
    torch: Any, model: Any, size: float, generated: Callable[[], int]
) -> Iterator[None]:
    """The last ``generated()`` tokens of a pass at positions that are ``size`` too far: an
    engine that counts otherwise when it decodes than when it reads the prompt."""

    def enters(_: Any, given: Any, named: dict[str, Any]) -> Any:
        by_name = "position_ids" in named
        positions = (named["position_ids"] if by_name else given[1]).to(torch.float32)
        moved = positions.clone()
        moved[..., positions.shape[-1] - generated() :] += size
        if by_name:
            return given, {**named, "position_ids": moved}
        return (given[0], moved, *given[2:]), named

    handles = [m.register_forward_pre_hook(enters, with_kwargs=True) for m in rotary_modules(model)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def queries_apart(torch: Any, model: Any, size: float) -> Iterator[None]:
    """Queries that are rotated by ``size`` positions more than keys."""
    before = [(module, getattr(module, _ROTATES)) for module in _rotating(model)]
    try:
        for module, rotate in before:
            setattr(module, _ROTATES, _queries_further(torch, rotate, size))
        yield
    finally:
        for module, rotate in before:
            setattr(module, _ROTATES, rotate)


def _queries_further(torch: Any, rotate: Any, size: float) -> Any:
    def apart(q: Any, k: Any, cos: Any, sin: Any, *rest: Any, **named: Any) -> Any:
        further = _further(torch, cos, sin, size)
        queries, _ = rotate(q, k, *further, *rest, **named)
        return queries, rotate(q, k, cos, sin, *rest, **named)[1]

    return apart


def _rotating(model: Any) -> list[Any]:
    """The Python modules of a model's attention that rotate queries and keys by one function."""
    found = []
    for name in sorted({type(m).__module__ for m in model.modules()}):
        module = sys.modules.get(name)
        rotate = getattr(module, _ROTATES, None)
        if rotate is not None and list(inspect.signature(rotate).parameters)[:4] == [
            "q", "k", "cos", "sin",
        ]:  # fmt: skip
            found.append(module)
    return found


def _further(torch: Any, cos: Any, sin: Any, size: float) -> tuple[Any, Any]:
    """The rotation of positions further on: the angle of one position is what lies between
    two neighbours."""
    if cos.shape[-2] < 2:
        return cos, sin
    one, next_one = slice(0, 1), slice(1, 2)
    along = cos[..., next_one, :] * cos[..., one, :] + sin[..., next_one, :] * sin[..., one, :]
    across = sin[..., next_one, :] * cos[..., one, :] - cos[..., next_one, :] * sin[..., one, :]
    angle = size * torch.atan2(across, along)
    return cos * angle.cos() - sin * angle.sin(), sin * angle.cos() + cos * angle.sin()
