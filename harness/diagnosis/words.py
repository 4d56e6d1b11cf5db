"""A cause in words: its message, with the size in the unit that a porter thinks in."""

from __future__ import annotations

import math
import re

from harness.devices.causes import (
    DISTANCES,
    DONE,
    NEIGHBOURS,
    ROUNDINGS,
    USUAL_CAPS,
    Cause,
)
from harness.messages.message import Message, Value, message
from harness.statistics.intervals import Interval
from harness.statistics.score import Size

#: The unit of a size, of kinds that are no scale.
_SIZES = {
    **dict.fromkeys((*ROUNDINGS, "kv_int8", "kv_fp8"), "size.share"),
    "weight": "size.added",
}
#: A cap is told as at most a thousand times that it is measured by.
_STRAIGHT = 1e-6
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
    if cause.kind == "distance":
        low, *after = DISTANCES[cause.index :]
        values = {"module": cause.place, "low": low}
        if after:
            values["high"] = after[0] - 1
    return message(f"cause.{_key(cause, layer)}", **values)


def _key(cause: Cause, layer: int | None) -> str:
    """The end of the message's key."""
    kind = cause.kind
    if kind in ROUNDINGS:
        return f"rounded.{_reach(cause, layer)}"
    if kind in NEIGHBOURS:
        return f"{kind}.{_reach(cause, layer)}"
    if kind in ("softmax_scale", "attention", "mlp", "layer"):
        return f"{kind}.{'all' if layer is None else 'layer'}"
    of = "kind" if cause.place else "all"
    if kind == "distance":
        return f"distance.{_how_far(cause.index)}.{of}"
    if kind in ("window", "window_missing"):
        return f"{kind}.{of}"
    return "norm.all" if kind == "norm" and not cause.place else kind


def _how_far(index: int) -> str:
    """What a bucket of distances holds."""
    if index + 1 == len(DISTANCES):
        return "beyond"
    low, after = DISTANCES[index : index + 2]
    if after - low > 1:
        return "to"
    return "one" if low else "own"


def _reach(cause: Cause, layer: int | None) -> str:
    if not cause.place:
        return "all"
    return "layer" if layer is not None and cause.place.endswith(f"layers.{layer}") else "module"


def size_in_words(cause: Cause, size: Size, now: float | None) -> tuple[Message, Interval]:
    """What would give this error, and the size in that unit.

    Args:
        now: the setting's own value, of a base, an epsilon or a cap.
    """
    sizes, kind = [size.value, size.low, size.high], cause.kind
    if kind == "rope_base":
        return _in_place([math.exp(min(max(x, -50.0), 50.0)) for x in sizes], now)
    if kind == "norm_epsilon":
        return _in_place([max(1.0 + x, 0.0) for x in sizes], now)
    if kind in ("attention_cap", "final_cap"):
        return _in_place([_cap(1.0 + x) for x in sizes], now)
    if kind in USUAL_CAPS:
        return _said("size.cap", [USUAL_CAPS[kind] * _cap(x) for x in sizes])
    key = "size.done" if kind in DONE else _SIZES.get(kind, "size.times")
    return _said(key, [1.0 + x for x in sizes] if key == "size.times" else sizes)


def _said(key: str, values: list[float]) -> tuple[Message, Interval]:
    found = _interval(values)
    return message(key, **_values(found)), found


def _in_place(times: list[float], now: float | None) -> tuple[Message, Interval]:
    """A value in place of what is there; where that is not known, how many times it."""
    if now is None:
        return _said("size.times", times)
    found = _interval([now * x for x in times])
    return message("size.instead", **_values(found), now=now), found


def _cap(bends: float) -> float:
    """How many times as large a cap is that bends so many times as much; one that bends next
    to nothing is as good as none."""
    return 1.0 / math.sqrt(max(bends, _STRAIGHT))


def _values(found: Interval) -> dict[str, Value]:
    """For a reader: four digits, so that a base is 9,010 and not 9.01e+03."""
    return {
        name: None if x is None else float(f"{x:.4g}")
        for name, x in (("value", found.value), ("low", found.low), ("high", found.high))
    }


def _interval(of: list[float]) -> Interval:
    value, one, other = of
    return Interval(value=value, low=min(one, other), high=max(one, other))
