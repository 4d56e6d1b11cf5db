"""A cause in words: its message, with the size in the unit that a porter thinks in."""

from __future__ import annotations

import math
import re

from harness.devices.causes import EXCHANGES, PARTS, ROUNDINGS, WHOLE, Cause
from harness.messages.message import Message, Value, message
from harness.statistics.intervals import Interval
from harness.statistics.score import Size

_LAYER = re.compile(r"layers\.(\d+)(?:\.|$)")


def layer_of(cause: Cause) -> int | None:
    """The decoder layer of a cause; None for one of all layers, or outside of them."""
    found = _LAYER.search(cause.place)
    return int(found.group(1)) if found else None


def name_of(cause: Cause) -> Message:
    """What is changed: "the softmax scale of layer 10"."""
    layer = layer_of(cause)
    values: dict[str, Value] = {"module": cause.place}
    if layer is not None:
        values["layer"] = layer
    if cause.index >= 0:
        values["index"] = cause.index
    if cause.column >= 0:
        values["column"] = cause.column
    if cause.kind in ROUNDINGS:
        values["format"] = cause.kind
        return message(f"cause.rounded.{_reach(cause, layer)}", **values)
    if cause.kind in (*PARTS, "norm", "linear", "head", "query_head", "value_head"):
        all_norms = cause.kind == "norm" and not cause.place
        return message("cause.norm.all" if all_norms else f"cause.{cause.kind}", **values)
    if cause.kind in ("softmax_scale", "attention", "mlp", "layer"):
        return message(f"cause.{cause.kind}.{'all' if layer is None else 'layer'}", **values)
    return message(f"cause.{cause.kind}", **values)


def _reach(cause: Cause, layer: int | None) -> str:
    if not cause.place:
        return "all"
    return "layer" if layer is not None and cause.place.endswith(f"layers.{layer}") else "module"


def size_in_words(cause: Cause, size: Size, now: float | None) -> tuple[Message, Interval]:
    """What would give this error, and the size in that unit.

    Args:
        now: the setting's own value, of a base or an epsilon.
    """
    if cause.kind in ("rope_base", "norm_epsilon"):
        sizes = (size.value, size.low, size.high)
        if cause.kind == "rope_base":
            times = [math.exp(min(max(x, -50.0), 50.0)) for x in sizes]
        else:
            times = [max(1.0 + x, 0.0) for x in sizes]
        if now is not None:
            found = _interval([now * x for x in times])
            return message("size.instead", **_values(found), now=now), found
        found = _interval(times)
        return message("size.times", **_values(found)), found
    if cause.kind in EXCHANGES:
        found = _interval([size.value, size.low, size.high])
        return message("size.done", **_values(found)), found
    if cause.kind in WHOLE:
        found = _interval([size.value, size.low, size.high])
        return message("size.share", **_values(found)), found
    if cause.kind == "weight":
        found = _interval([size.value, size.low, size.high])
        return message("size.added", **_values(found)), found
    found = _interval([1.0 + size.value, 1.0 + size.low, 1.0 + size.high])
    return message("size.times", **_values(found)), found


def _values(found: Interval) -> dict[str, Value]:
    """For a reader: four digits, so that a base is 9,010 and not 9.01e+03."""
    return {
        name: None if x is None else float(f"{x:.4g}")
        for name, x in (("value", found.value), ("low", found.low), ("high", found.high))
    }


def _interval(of: list[float]) -> Interval:
    value, one, other = of
    return Interval(value=value, low=min(one, other), high=max(one, other))
