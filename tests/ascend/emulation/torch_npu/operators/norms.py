"""RMS norms: alone, of a sum, with a bias, and Gemma's.

Shapes: the inputs are (..., size), the weight ``gamma`` and the bias ``beta`` are (size).
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_npu._define import operator


def normed(wide: Tensor, gamma: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """The norm of a float32 tensor, in float32, and its reciprocal root mean square."""
    rstd = torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + epsilon)
    return wide * rstd * gamma.float(), rstd


def normed_sum(
    x1: Tensor, x2: Tensor, gamma: Tensor, beta: Tensor | None, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The norm of a sum in float32, its rstd, and the sum in the inputs' dtype."""
    added = x1.float() + x2.float()
    y, rstd = normed(added, gamma, epsilon)
    if beta is not None:
        y = y + beta.float()
    return y, rstd, added.to(x1.dtype)


def _fake_rstd(x: Tensor) -> Tensor:
    return x.new_empty((*x.shape[:-1], 1), dtype=torch.float32)


def _fake_norm(x: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), _fake_rstd(x)


def _fake_sum(x1: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(x1), _fake_rstd(x1), torch.empty_like(x1)


@operator(
    "npu",
    "npu_rms_norm(Tensor input, Tensor gamma, float epsilon=1e-06) -> (Tensor, Tensor)",
    _fake_norm,
)
def npu_rms_norm(input: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    """The normed input, and rstd (float32, last dimension 1)."""
    y, rstd = normed(input.float(), gamma, epsilon)
    return y.to(input.dtype), rstd


@operator(
    "npu",
    "npu_add_rms_norm(Tensor x1, Tensor x2, Tensor gamma, float epsilon=1e-06) "
    "-> (Tensor, Tensor, Tensor)",
    _fake_sum,
)
def npu_add_rms_norm(
    x1: Tensor, x2: Tensor, gamma: Tensor, epsilon: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor]:
    """The norm of the sum, rstd, and the sum."""
    return npu_add_rms_norm_bias(x1, x2, gamma, None, epsilon)


@operator(
    "_C_ascend",
    "npu_add_rms_norm_bias(Tensor x1, Tensor x2, Tensor gamma, Tensor? beta=None, "
    "float epsilon=1e-6) -> (Tensor y, Tensor rstd, Tensor x)",
    _fake_sum,
)
def npu_add_rms_norm_bias(
    x1: Tensor, x2: Tensor, gamma: Tensor, beta: Tensor | None = None, epsilon: float = 1e-6
) -> tuple[Tensor, Tensor, Tensor]:
    """The norm of the sum plus the bias, rstd, and the sum."""
    y, rstd, added = normed_sum(x1, x2, gamma, beta, epsilon)
    return y.to(x1.dtype), rstd, added


@operator(
    "_C_ascend",
    "npu_gemma_rms_norm(Tensor x, Tensor gamma, float epsilon=1e-6) -> (Tensor y, Tensor rstd)",
    _fake_norm,
)
def npu_gemma_rms_norm(x: Tensor, gamma: Tensor, epsilon: float = 1e-6) -> tuple[Tensor, Tensor]:
    """The normed input, and rstd; the weight is stored less one."""
    y, rstd = normed(x.float(), 1.0 + gamma.float(), epsilon)
    return y.to(x.dtype), rstd
