"""Soft-caps of attention scores and of logits: c · tanh(x / c)."""

from __future__ import annotations

import inspect
import math
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from harness.devices.causes import USUAL_CAPS, Cause

_ATTENDS = "eager_attention_forward"
_ATTENTION, _FINAL = "attn_logit_softcapping", "final_logit_softcapping"


def caps_of(model: Any) -> tuple[Cause, ...]:
    """Caps that are there or could be, of an architecture that knows them."""
    found = []
    for kind, holders, name in _caps(model):
        if holders:
            there = getattr(holders[0], name) is not None
            ends = ("", "_missing") if there else ("_added",)
            found += [Cause(f"{kind}{end}") for end in ends]
    return tuple(found)


def cap_now(model: Any, cause: Cause) -> float | None:
    """The cap; None where there is none."""
    for kind, holders, name in _caps(model):
        if holders and cause.kind.startswith(kind):
            now = getattr(holders[0], name)
            return None if now is None else float(now)
    return None


@contextmanager
def changed_cap(model: Any, cause: Cause, size: float) -> Iterator[None]:
    """Another cap, none, or one where there is none."""
    now = cap_now(model, cause)
    bend = size / USUAL_CAPS[cause.kind] ** 2 if now is None else (1.0 + size) / now**2
    missing = cause.kind.endswith("_missing") or bend <= 0.0
    cap = None if missing else 1.0 / math.sqrt(bend)
    config = model.config.get_text_config()
    with ExitStack() as stack:
        if cause.kind.startswith("final"):
            stack.enter_context(_held(config, _FINAL, cap))
        else:
            # No other kernel has a cap, and Gemma 3 gives its own to none.
            stack.enter_context(_held(config, "_attn_implementation", "eager"))
            for module in _eager(model):
                attend = getattr(module, _ATTENDS)
                stack.enter_context(_held(module, _ATTENDS, _capped(attend, cap)))
        yield


def _capped(attend: Any, cap: float | None) -> Any:
    def capped(*given: Any, **named: Any) -> Any:
        return attend(*given, **{**named, "softcap": cap})

    return capped


def _eager(model: Any) -> list[Any]:
    """The Python modules whose attention can have a cap."""
    names = {type(m).__module__ for m in model.modules() if hasattr(m, _ATTENTION)}
    found = [sys.modules[name] for name in sorted(names)]
    return [m for m in found if "softcap" in _parameters(m)]


def _parameters(module: Any) -> Any:
    attend = getattr(module, _ATTENDS, None)
    return {} if attend is None else inspect.signature(attend).parameters


@contextmanager
def _held(holder: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(holder, name)
    setattr(holder, name, value)
    try:
        yield
    finally:
        setattr(holder, name, before)


def _caps(model: Any) -> Iterator[tuple[str, list[Any], str]]:
    """Each kind of cap with what holds it."""
    config = model.config.get_text_config()
    known = hasattr(config, _ATTENTION) and _eager(model)
    yield "attention_cap", [config] if known else [], _ATTENTION
    yield "final_cap", [config] if hasattr(config, _FINAL) else [], _FINAL
