"""How numbers lie in a card's memory, which means nothing here."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_npu._define import operator

_ND = 2


@operator(
    "npu",
    "npu_format_cast(Tensor input, int acl_format, int? customize_dtype=None) -> Tensor",
    lambda x, *_, **__: torch.empty_like(x),
)
def npu_format_cast(input: Tensor, acl_format: int, customize_dtype: int | None = None) -> Tensor:
    """A copy: FRACTAL_NZ orders the same numbers in another way."""
    return input.clone()


@operator("npu", "get_npu_format(Tensor input) -> int", lambda x: _ND)
def get_npu_format(input: Tensor) -> int:
    """ND, whatever it was cast to."""
    return _ND


@operator(
    "npu",
    "npu_prefetch(Tensor input, Tensor? dependency, int max_size, int offset=0) -> ()",
)
def npu_prefetch(input: Tensor, dependency: Tensor | None, max_size: int, offset: int = 0) -> None:
    """Nothing: it warms a card's cache."""


@operator("_C_ascend", "weak_ref_tensor(Tensor input) -> Tensor", torch.empty_like)
def weak_ref_tensor(input: Tensor) -> Tensor:
    """The same bytes."""
    return input
