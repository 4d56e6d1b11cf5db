"""Offsets of positions between tokens, for as long as a context is entered. RoPE tells nothing
of an offset that all tokens share."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from harness.devices.causes import Cause

_ROTATES = "apply_rotary_pos_emb"


#: By how many positions generated tokens stand apart from the prompt's, or queries from keys.
_APART = {"decode_behind": -1, "decode_ahead": 1, "queries_behind": -1, "queries_ahead": 1}
_FROM_ZERO = "decode_from_zero"


def offsets_of(model: Any) -> tuple[Cause, ...]:
    """The offsets that can be made in this model."""
    decoded = [*(k for k in _APART if k.startswith("decode")), _FROM_ZERO]
    queries = [k for k in _APART if k.startswith("queries")]
    known = [*(decoded if rotary_modules(model) else ()), *(queries if _rotating(model) else ())]
    return tuple(Cause(kind) for kind in known)


def apart(
    torch: Any, model: Any, kind: str, generated: Callable[[], int]
) -> AbstractContextManager[None] | None:
    """A context in which positions are off; None for another kind of cause.

    Args:
        generated: how many tokens of a pass were generated, its last ones.
    """
    if kind == _FROM_ZERO:
        return _generated_apart(model, None, generated)
    if kind not in _APART:
        return None
    if kind.startswith("decode"):
        return _generated_apart(model, _APART[kind], generated)
    return _queries_apart(torch, model, _APART[kind])


def rotary_modules(model: Any) -> list[Any]:
    """The modules that turn positions into angles."""
    return [m for m in model.modules() if "rotary" in type(m).__name__.lower()]


@contextmanager
def _generated_apart(model: Any, by: int | None, generated: Callable[[], int]) -> Iterator[None]:
    """Generated tokens at positions that are ``by`` too far, or that begin at 0: an engine that
    counts otherwise when it decodes than when it reads the prompt."""

    def enters(_: Any, given: Any, named: dict[str, Any]) -> Any:
        by_name = "position_ids" in named
        positions = named["position_ids"] if by_name else given[1]
        prompt = positions.shape[-1] - generated()
        moved = positions.clone()
        moved[..., prompt:] += -prompt if by is None else by
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
def _queries_apart(torch: Any, model: Any, by: int) -> Iterator[None]:
    """Queries that are rotated by ``by`` positions more than keys."""
    before = [(module, getattr(module, _ROTATES)) for module in _rotating(model)]
    try:
        for module, rotate in before:
            setattr(module, _ROTATES, _queries_further(torch, rotate, by))
        yield
    finally:
        for module, rotate in before:
            setattr(module, _ROTATES, rotate)


def _queries_further(torch: Any, rotate: Any, by: int) -> Any:
    def further(q: Any, k: Any, cos: Any, sin: Any, *rest: Any, **named: Any) -> Any:
        moved = _further(torch, cos, sin, by)
        queries, _ = rotate(q, k, *moved, *rest, **named)
        return queries, rotate(q, k, cos, sin, *rest, **named)[1]

    return further


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


def _further(torch: Any, cos: Any, sin: Any, by: int) -> tuple[Any, Any]:
    """The rotation of positions further on: the angle of one position is what lies between
    two neighbours."""
    if cos.shape[-2] < 2:
        return cos, sin
    one, next_one = slice(0, 1), slice(1, 2)
    along = cos[..., next_one, :] * cos[..., one, :] + sin[..., next_one, :] * sin[..., one, :]
    across = sin[..., next_one, :] * cos[..., one, :] - cos[..., next_one, :] * sin[..., one, :]
    angle = by * torch.atan2(across, along)
    return cos * angle.cos() - sin * angle.sin(), sin * angle.cos() + cos * angle.sin()
