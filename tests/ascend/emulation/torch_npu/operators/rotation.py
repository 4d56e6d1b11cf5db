"""Rotary position embedding.

Halves (``neox``): number i turns with number i + rotary / 2. Interleaved: with its neighbour.
"""

from __future__ import annotations

import torch
from torch import Tensor

from torch_npu._define import operator
from torch_npu._missing import not_emulated


def _turned(x: Tensor, cos: Tensor, sin: Tensor, neox: bool) -> Tensor:
    """x: (tokens, heads, rotary); cos, sin: (tokens, 1, rotary / 2) in float32."""
    wide = x.float()
    first, second = wide.chunk(2, -1) if neox else (wide[..., ::2], wide[..., 1::2])
    one, two = first * cos - second * sin, second * cos + first * sin
    both = torch.cat((one, two), -1) if neox else torch.stack((one, two), -1).flatten(-2)
    return both.to(x.dtype)


@operator(
    "atb",
    "_npu_rotary_embedding(Tensor positions, Tensor(a!) query, Tensor(b!) key, int head_size, "
    "Tensor cos_sin_cache, bool is_neox_style) -> ()",
)
def _npu_rotary_embedding(
    positions: Tensor,
    query: Tensor,
    key: Tensor,
    head_size: int,
    cos_sin_cache: Tensor,
    is_neox_style: bool,
) -> None:
    """Turns ``query`` and ``key``, (tokens, heads times size), in place.

    ``cos_sin_cache`` is (positions, rotary): the cosines, then the sines. What lies beyond
    ``rotary`` of a head stays.
    """
    cos, sin = cos_sin_cache[positions.long()].float().unsqueeze(1).chunk(2, -1)
    rotary = cos.shape[-1] * 2
    for x in (query, key):
        heads = x.view(len(x), -1, head_size)
        heads[..., :rotary] = _turned(heads[..., :rotary], cos, sin, is_neox_style)


@operator(
    "npu",
    "npu_rotary_mul(Tensor input, Tensor r1, Tensor r2, str rotary_mode='half') -> Tensor",
    lambda x, *_, **__: torch.empty_like(x),
)
def npu_rotary_mul(input: Tensor, r1: Tensor, r2: Tensor, rotary_mode: str = "half") -> Tensor:
    """``input`` times the cosines ``r1`` plus its quarter turn times the sines ``r2``."""
    wide = input.float()
    if rotary_mode == "half":
        first, second = wide.chunk(2, -1)
        quarter = torch.cat((-second, first), -1)
    elif rotary_mode == "interleave":
        quarter = torch.stack((-wide[..., 1::2], wide[..., ::2]), -1).flatten(-2)
    else:
        raise not_emulated("torch_npu.npu_rotary_mul", rotary_mode=rotary_mode)
    return (wide * r1.float() + quarter * r2.float()).to(input.dtype)
