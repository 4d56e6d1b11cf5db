"""int8 activations, and products of int8 that are scaled back.

A value is ``round(x / scale + offset)``, half to even, cut to -128 to 127.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from torch_npu._define import operator
from torch_npu._missing import not_emulated
from torch_npu.operators.norms import normed_sum


def to_int8(wide: Tensor) -> Tensor:
    """Scaled float32 numbers as int8."""
    return wide.round().clamp(-128, 127).to(torch.int8)


def by_row(wide: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of a float32 tensor in int8, and the scale of each: the largest becomes 127."""
    scale = wide.abs().amax(-1).clamp_min(1e-12) / 127
    return to_int8(wide / scale.unsqueeze(-1)), scale


def float_scale(scale: Tensor) -> Tensor:
    """A scale in float32; int64 holds the bits of a float32 in its lower half."""
    if scale.dtype == torch.int64:
        return scale.to(torch.int32).view(torch.float32)
    return scale.float()


def int_product(x: Tensor, weight: Tensor) -> Tensor:
    """The product of two int8 matrices, exact, in float64."""
    return x.double() @ weight.double()


def _fake_rows(x: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
    scale = x.new_empty(x.shape[:-1], dtype=torch.float32)
    return torch.empty_like(x, dtype=torch.int8), scale


@operator(
    "npu",
    "npu_dynamic_quant(Tensor input, *, Tensor? smooth_scales=None, Tensor? group_index=None, "
    "ScalarType? dst_type=None) -> (Tensor, Tensor)",
    _fake_rows,
)
def npu_dynamic_quant(
    input: Tensor,
    *,
    smooth_scales: Tensor | None = None,
    group_index: Tensor | None = None,
    dst_type: torch.dtype | None = None,
) -> tuple[Tensor, Tensor]:
    """Rows in int8, and the scale of each in float32.

    input: (..., size); ``smooth_scales``, (size), multiplies the columns first.
    """
    if group_index is not None or dst_type not in (None, torch.int8, torch.qint8):
        asked = {"group_index": group_index, "dst_type": dst_type}
        given = {name: value for name, value in asked.items() if value is not None}
        raise not_emulated("torch_npu.npu_dynamic_quant", **given)
    wide = input.float()
    return by_row(wide if smooth_scales is None else wide * smooth_scales.float())


@operator(
    "npu",
    "npu_quantize(Tensor input, Tensor scales, Tensor? zero_points, ScalarType dtype, "
    "int axis=1, bool div_mode=True) -> Tensor",
    lambda x, *_, **__: torch.empty_like(x, dtype=torch.int8),
)
def npu_quantize(
    input: Tensor,
    scales: Tensor,
    zero_points: Tensor | None,
    dtype: torch.dtype,
    axis: int = 1,
    div_mode: bool = True,
) -> Tensor:
    """int8 of the input divided by (else times) ``scales``, plus ``zero_points``.

    Scales and zero points are one, or one for each column.
    """
    last = axis in (-1, input.dim() - 1)
    if dtype not in (torch.int8, torch.qint8) or not (last or scales.numel() == 1):
        raise not_emulated("torch_npu.npu_quantize", dtype=dtype, axis=axis, scales=scales)
    wide = input.float()
    scaled = wide / scales.float() if div_mode else wide * scales.float()
    return to_int8(scaled if zero_points is None else scaled + zero_points.float())


@operator(
    "npu",
    "npu_add_rms_norm_quant(Tensor x1, Tensor x2, Tensor gamma, Tensor scales1, "
    "Tensor? zero_points1, Tensor? beta=None, Tensor? scales2=None, Tensor? zero_points2=None, "
    "*, int axis=-1, float epsilon=1e-06, bool div_mode=True) -> (Tensor, Tensor, Tensor)",
    lambda x1, *_, **__: (*[torch.empty_like(x1, dtype=torch.int8)] * 2, torch.empty_like(x1)),
)
def npu_add_rms_norm_quant(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    scales1: Tensor,
    zero_points1: Tensor | None,
    beta: Tensor | None = None,
    *,
    epsilon: float = 1e-6,
    div_mode: bool = True,
    **second: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """The norm of the sum in int8, an empty tensor (the second scale is not emulated), the sum."""
    given = {name: second[name] for name in second if isinstance(second[name], Tensor)}
    if given:
        raise not_emulated("torch_npu.npu_add_rms_norm_quant", **given)
    y, _, added = normed_sum(x1, x2, gamma, beta, epsilon)
    quantized = npu_quantize(y, scales1, zero_points1, torch.int8, -1, div_mode)
    return quantized, torch.empty(0, dtype=torch.int8), added


@operator(
    "npu",
    "npu_add_rms_norm_dynamic_quant(Tensor x1, Tensor x2, Tensor gamma, *, "
    "Tensor? smooth_scale1=None, Tensor? smooth_scale2=None, Tensor? beta=None, "
    "float epsilon=1e-6, bool[2] output_mask=[]) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
    lambda x1, *_, **__: (
        *[torch.empty_like(x1, dtype=torch.int8)] * 2,
        torch.empty_like(x1),
        *[x1.new_empty(x1.shape[:-1], dtype=torch.float32)] * 2,
    ),
)
def npu_add_rms_norm_dynamic_quant(
    x1: Tensor,
    x2: Tensor,
    gamma: Tensor,
    *,
    smooth_scale1: Tensor | None = None,
    smooth_scale2: Tensor | None = None,
    beta: Tensor | None = None,
    epsilon: float = 1e-6,
    output_mask: Sequence[bool] = (),
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The norm of the sum as rows in int8, nothing, the sum, the rows' scales, nothing."""
    if smooth_scale2 is not None:
        raise not_emulated("torch_npu.npu_add_rms_norm_dynamic_quant", smooth_scale2=smooth_scale2)
    y, _, added = normed_sum(x1, x2, gamma, beta, epsilon)
    rows, scale = by_row(y if smooth_scale1 is None else y * smooth_scale1.float())
    return rows, torch.empty(0, dtype=torch.int8), added, scale, torch.empty(0)


def _fake_product(x1: Tensor, x2: Tensor, *_: object, **named: Any) -> Tensor:
    dtype = named.get("output_dtype") or torch.int8
    return x1.new_empty((*x1.shape[:-1], x2.shape[-1]), dtype=dtype)


@operator(
    "npu",
    "npu_quant_matmul(Tensor x1, Tensor x2, Tensor scale, *, Tensor? offset=None, "
    "Tensor? pertoken_scale=None, Tensor? bias=None, ScalarType? output_dtype=None, "
    "int? x1_dtype=None, int? x2_dtype=None, int? pertoken_scale_dtype=None, "
    "int? scale_dtype=None, int[]? group_sizes=None, Tensor? y_scale=None) -> Tensor",
    _fake_product,
)
def npu_quant_matmul(
    x1: Tensor,
    x2: Tensor,
    scale: Tensor,
    *,
    pertoken_scale: Tensor | None = None,
    bias: Tensor | None = None,
    output_dtype: torch.dtype | None = None,
    **others: Any,
) -> Tensor:
    """The product of int8 matrices, scaled back to ``output_dtype``.

    x1: (tokens, in); x2: (in, out); scale: one, or (out); pertoken_scale: (tokens). An int32
    bias, (out), is added before the scales, any other after them.
    """
    given = {name: value for name, value in others.items() if value is not None}
    if given or x1.dtype != torch.int8 or x2.dtype != torch.int8 or output_dtype is None:
        raise not_emulated("torch_npu.npu_quant_matmul", x1=x1, x2=x2, dtype=output_dtype, **given)
    product = int_product(x1, x2)
    is_whole = bias is not None and bias.dtype == torch.int32
    if bias is not None and is_whole:
        product += bias
    wide = product.float() * float_scale(scale)
    if pertoken_scale is not None:
        wide *= pertoken_scale.float().unsqueeze(-1)
    if bias is not None and not is_whole:
        wide += bias.float()
    return wide.to(output_dtype)
