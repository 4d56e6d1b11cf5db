"""Matrix products beside PyTorch's own."""

from __future__ import annotations

from torch import Tensor

from torch_npu._define import operator


@operator("atb", "_npu_matmul_add_fp32(Tensor x, Tensor weight, Tensor(a!) C) -> ()")
def _npu_matmul_add_fp32(x: Tensor, weight: Tensor, C: Tensor) -> None:  # noqa: N803 - the card's
    """Adds x transposed times weight to the float32 matrix ``C``."""
    C.add_(x.float().t() @ weight.float())
