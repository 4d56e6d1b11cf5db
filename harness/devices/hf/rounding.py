"""Weights rounded to narrow formats, as a quantized checkpoint would hold them."""

from __future__ import annotations

from typing import Any

#: Inputs that share a scale in ``int4_group``.
_GROUP = 32


def rounded(torch: Any, weight: Any, kind: str, largest: Any = None) -> Any:
    """A float32 weight rounded to a narrow format and widened again; scales are the largest
    magnitude of a row, the tensor, or a group of inputs.

    Args:
        weight: the whole, or some of its rows.
        largest: the magnitude of the whole tensor, where ``weight`` is a part of it.
    """
    shape = weight.shape
    if kind == "int4_group":
        width = _GROUP if shape[-1] % _GROUP == 0 else shape[-1]
        grouped = weight.reshape(-1, width)
        return _nearest(torch, grouped, _of_rows(grouped), "int4").reshape(shape)
    if not kind.endswith("_tensor"):
        return _nearest(torch, weight, _of_rows(weight), kind)
    whole = weight.abs().amax() if largest is None else largest
    return _nearest(torch, weight, whole, kind.removesuffix("_tensor"))


def _of_rows(values: Any) -> Any:
    return values.abs().amax(-1, keepdim=True)


def _nearest(torch: Any, values: Any, largest: Any, kind: str) -> Any:
    steps = {"int8": 127.0, "int4": 7.0, "fp8": 448.0}[kind]
    scale = largest.clamp(min=1e-12) / steps
    if kind == "fp8":
        return (values / scale).to(torch.float8_e4m3fn).float() * scale
    return (values / scale).round() * scale
