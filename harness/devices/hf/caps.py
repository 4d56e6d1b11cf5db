"""Soft-caps of attention scores and of logits: c · tanh(x / c)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from harness.devices.causes import USUAL_CAPS, Cause

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
    [(holders, name)] = [(h, n) for kind, h, n in _caps(model) if cause.kind.startswith(kind)]
    before = [getattr(holder, name) for holder in holders]
    now = before[0]
    bend = size / USUAL_CAPS[cause.kind] ** 2 if now is None else (1.0 + size) / now**2
    missing = cause.kind.endswith("_missing") or bend <= 0.0
    config = model.config.get_text_config()
    own = config._attn_implementation
    try:
        for holder in holders:
            setattr(holder, name, None if missing else 1.0 / math.sqrt(bend))
        if cause.kind.startswith("attention"):
            config._attn_implementation = "eager"  # no other kernel has a cap
        yield
    finally:
        config._attn_implementation = own
        for holder, value in zip(holders, before, strict=True):
            setattr(holder, name, value)


def _caps(model: Any) -> Iterator[tuple[str, list[Any], str]]:
    """Each kind of cap with the objects that hold it."""
    yield "attention_cap", [m for m in model.modules() if hasattr(m, _ATTENTION)], _ATTENTION
    config = model.config.get_text_config()
    yield "final_cap", [config] if hasattr(config, _FINAL) else [], _FINAL
