"""The part of a vocabulary that one of several workers holds."""

from __future__ import annotations

import torch
from torch import Tensor

from torch_npu._define import operator


@operator(
    "_C_ascend",
    "get_masked_input_and_mask(Tensor input, int org_vocab_start_index, "
    "int org_vocab_end_index, int num_org_vocab_padding, int added_vocab_start_index, "
    "int added_vocab_end_index) -> (Tensor masked_input, Tensor mask)",
    lambda x, *_: (torch.empty_like(x), torch.empty_like(x, dtype=torch.bool)),
)
def get_masked_input_and_mask(
    input: Tensor, start: int, end: int, padding: int, added_start: int, added_end: int
) -> tuple[Tensor, Tensor]:
    """Token ids as rows of this worker's embedding, 0 for those of others; and whose they are.

    Rows are those of ``start`` to ``end``, then ``padding`` unused ones, then the added
    tokens of ``added_start`` to ``added_end``. The mask is true for another worker's tokens.
    """
    ours = (input >= start) & (input < end)
    added = (input >= added_start) & (input < added_end)
    offset = start * ours + (added_start - (end - start) - padding) * added
    return (ours | added) * (input - offset), ~(ours | added)
