"""Weights rounded to narrow formats, as a quantized checkpoint would hold them."""

from __future__ import annotations

from typing import Any

#: Inputs that share a scale in ``int4_group``.
_GROUP = 32


def rounded(torch: Any, weight: Any, kind: str) -> Any:
    """A float32 weight rounded to a narrow format and widened again; scales are the largest
    magnitude of a row, the tensor, or a group of inputs."""
    shape = weight.shape
    if kind == "int4_group":
        width = _GROUP if shape[-1] % _GROUP == 0 else shape[-1]
        grouped = weight.reshape(-1, width)
        largest = grouped.abs().amax(-1, keepdim=True)
        return _nearest(torch, grouped, largest, "int4").reshape(shape)
    tensor = kind.endswith("_tensor")
    largest = weight.abs().amax() if tensor else weight.abs().amax(-1, keepdim=True)
    return _nearest(torch, weight, largest, kind.removesuffix("_tensor"))


def _nearest(torch: Any, values: Any, largest: Any, kind: str) -> Any:
    steps = {"int8": 127.0, "int4": 7.0, "fp8": 448.0}[kind]
    scale = largest.clamp(min=1e-12) / steps
    if kind == "fp8":
        return (values / scale).to(torch.float8_e4m3fn).float() * scale
    return (values / scale).round() * scale
