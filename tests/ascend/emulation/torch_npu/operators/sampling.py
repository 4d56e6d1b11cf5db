"""Top-k and top-p of logits."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_npu._define import operator


def _fake(logits: Tensor, p: Tensor | None = None, k: Tensor | None = None) -> Tensor:
    return torch.empty_like(logits)


@operator("npu", "npu_top_k_top_p(Tensor logits, Tensor? p=None, Tensor? k=None) -> Tensor", _fake)
@operator(
    "_C_ascend",
    "npu_apply_top_k_top_p(Tensor logits, Tensor? p=None, Tensor? k=None) -> Tensor",
    _fake,
)
def top_k_top_p(logits: Tensor, p: Tensor | None = None, k: Tensor | None = None) -> Tensor:
    """The logits, with minus infinity for tokens outside the k largest or the nucleus.

    logits: (requests, vocabulary); k, p: (requests). The nucleus is the fewest most probable
    of the k tokens whose probabilities add up to p; the most probable is always in it.
    """
    values, order = logits.sort(dim=-1)
    drop = torch.zeros_like(values, dtype=torch.bool)
    if k is not None:
        least = values.gather(1, (values.shape[1] - k.long()).unsqueeze(1))
        drop |= values < least
    if p is not None:
        kept = values.masked_fill(drop, float("-inf"))
        below = kept.softmax(-1, dtype=torch.float32).cumsum(-1)
        drop |= below <= 1 - p.unsqueeze(1)
        drop[:, -1] = False
    return torch.empty_like(logits).scatter_(1, order, values.masked_fill(drop, float("-inf")))
