"""Writing keys and values to the paged cache."""

from __future__ import annotations

from torch import Tensor

from torch_npu._define import operator
from torch_npu._missing import not_emulated


@operator(
    "atb",
    "_npu_reshape_and_cache(Tensor key, Tensor value, Tensor(a!) key_cache, "
    "Tensor(b!) value_cache, Tensor slot_indices) -> ()",
)
def _npu_reshape_and_cache(
    key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slot_indices: Tensor
) -> None:
    """Writes ``key`` and ``value``, (tokens, heads, size), to the slots of the caches.

    A cache is (blocks, block size, heads, size); slots count over blocks and places. A
    negative slot is padding: its token is left out.
    """
    slots = slot_indices.long()
    real = slots >= 0
    for new, cache in ((key, key_cache), (value, value_cache)):
        if new.dtype != cache.dtype:
            raise not_emulated("torch_npu._npu_reshape_and_cache", cache=cache, key=new)
        shape = cache.shape[-2:]
        cache.view(-1, *shape)[slots[real]] = new[real].view(-1, *shape)
