"""Activations."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_npu._define import operator


def swiglu(wide: Tensor, dim: int = -1) -> Tensor:
    """silu(first half) times the second half of a float32 tensor."""
    gate, up = wide.chunk(2, dim)
    return torch.nn.functional.silu(gate) * up


def _fake_half(x: Tensor, dim: int = -1) -> Tensor:
    shape = list(x.shape)
    shape[dim] //= 2
    return x.new_empty(shape)


@operator("npu", "npu_swiglu(Tensor input, int dim=-1) -> Tensor", _fake_half)
def npu_swiglu(input: Tensor, dim: int = -1) -> Tensor:
    """Half as long as the input along ``dim``; the gate is the first half."""
    return swiglu(input.float(), dim).to(input.dtype)


@operator("npu", "npu_fast_gelu(Tensor self) -> Tensor", torch.empty_like)
def npu_fast_gelu(self: Tensor) -> Tensor:
    """GELU by a sigmoid of 1.702 times the input."""
    wide = self.float()
    return (wide * torch.sigmoid(1.702 * wide)).to(self.dtype)
