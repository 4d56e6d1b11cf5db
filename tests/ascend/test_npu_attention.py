"""Attention and the cache of the emulated NPU against a loop over queries in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from npu_cases import array, close, numbers, on_npu

pytestmark = [pytest.mark.ascend, pytest.mark.filterwarnings("ignore")]
HEADS, KV_HEADS, SIZE, BLOCK, SCALE = 6, 2, 8, 4, 0.3
LENGTHS = (5, 1, 9)


def attended(query: Any, keys: Any, values: Any, group: int) -> np.ndarray[Any, Any]:
    """One query (heads, size) over keys and values (cached, kv heads, size)."""
    out = np.empty_like(query)
    for head in range(len(query)):
        scores = keys[:, head // group] @ query[head] * SCALE
        weights = np.exp(scores - scores.max())
        out[head] = weights @ values[:, head // group] / weights.sum()
    return out


def mask() -> Any:
    import torch

    return torch.ones(2048, 2048, dtype=torch.bool).triu(1).to("npu")


def paged(tokens: list[Any]) -> tuple[Any, Any]:
    """A cache with the sequences' tokens in blocks that lie in no order, and its table."""
    import torch

    cache = torch.full((12, BLOCK, KV_HEADS, SIZE), float("nan"), dtype=torch.bfloat16)
    table = torch.zeros(len(tokens), 4, dtype=torch.int32)
    free = [7, 2, 11, 0, 9, 4, 1, 8]
    for i, sequence in enumerate(tokens):
        for start in range(0, len(sequence), BLOCK):
            block = free.pop()
            table[i, start // BLOCK] = block
            part = sequence[start : start + BLOCK]
            cache[block, : len(part)] = part
    return cache, table


@pytest.mark.parametrize("kv_heads", [HEADS, KV_HEADS, 1])
def test_prefill_without_a_block_table(npu: Any, kv_heads: int) -> None:
    total = sum(LENGTHS)
    query = numbers(total, HEADS, SIZE)
    key, value = numbers(total, kv_heads, SIZE, seed=1), numbers(total, kv_heads, SIZE, seed=2)
    ends = np.cumsum(LENGTHS).tolist()
    out, _ = npu.npu_fused_infer_attention_score(
        *on_npu(query, key, value), atten_mask=mask(), actual_seq_lengths=ends,
        actual_seq_lengths_kv=ends, num_heads=HEADS, num_key_value_heads=kv_heads, scale=SCALE,
        input_layout="TND", sparse_mode=3, block_size=128,
    )  # fmt: skip
    wanted = np.empty((total, HEADS, SIZE))
    for start, end in zip([0, *ends], ends, strict=False):
        for t in range(start, end):
            keys, values = (array(x)[start : t + 1] for x in (key, value))
            wanted[t] = attended(array(query)[t], keys, values, HEADS // kv_heads)
    close(out, wanted, roundings=2)


def with_cache(npu: Any, new: tuple[int, ...], into: bool) -> None:
    """The last ``new`` tokens of each sequence ask, over a paged cache."""
    import torch

    keys, values = (
        [numbers(n, KV_HEADS, SIZE, seed=s + i) for i, n in enumerate(LENGTHS)] for s in (10, 20)
    )
    query = numbers(sum(new), HEADS, SIZE)
    (key_cache, table), (value_cache, _) = paged(keys), paged(values)
    flat = [cache.view(12, BLOCK, -1) for cache in (key_cache, value_cache)]
    asked: dict[str, Any] = {
        "atten_mask": mask(), "actual_seq_lengths": np.cumsum(new).tolist(),
        "actual_seq_lengths_kv": list(LENGTHS), "block_table": table.to("npu"),
        "num_heads": HEADS, "num_key_value_heads": KV_HEADS, "scale": SCALE,
        "input_layout": "TND", "sparse_mode": 3, "block_size": BLOCK,
    }  # fmt: skip
    if into:
        out, lse = torch.empty_like(query, device="npu"), torch.empty(1, device="npu")
        npu.npu_fused_infer_attention_score.out(*on_npu(query, *flat), out=[out, lse], **asked)
    else:
        out, _ = npu.npu_fused_infer_attention_score(*on_npu(query, *flat), **asked)
    wanted, asking = [], iter(array(query))
    for i, (length, count) in enumerate(zip(LENGTHS, new, strict=True)):
        for t in range(length - count, length):
            seen = (array(x[i])[: t + 1] for x in (keys, values))
            wanted.append(attended(next(asking), *seen, HEADS // KV_HEADS))
    close(out, np.array(wanted), roundings=2)


@pytest.mark.parametrize("into", [False, True])
def test_later_chunks_and_decoding_over_a_paged_cache(npu: Any, into: bool) -> None:
    with_cache(npu, (2, 1, 4), into)
    with_cache(npu, (1, 1, 1), into)


@pytest.mark.parametrize("window", [None, 3])
def test_decoding_in_the_layout_bsh(npu: Any, window: int | None) -> None:
    keys, values = (
        [numbers(n, KV_HEADS, SIZE, seed=s + i) for i, n in enumerate(LENGTHS)] for s in (10, 20)
    )
    query = numbers(len(LENGTHS), 1, HEADS * SIZE)
    (key_cache, table), (value_cache, _) = paged(keys), paged(values)
    more = {} if window is None else {"pre_tokens": window}
    out, _ = npu.npu_fused_infer_attention_score(
        *on_npu(query, key_cache, value_cache), actual_seq_lengths=[1] * 3,
        actual_seq_lengths_kv=list(LENGTHS), block_table=table.to("npu"), num_heads=HEADS,
        num_key_value_heads=KV_HEADS, scale=SCALE, input_layout="BSH", **more,
    )  # fmt: skip
    wanted = [
        attended(q, array(k)[-(window or 99) :], array(v)[-(window or 99) :], HEADS // KV_HEADS)
        for q, k, v in zip(array(query).reshape(-1, HEADS, SIZE), keys, values, strict=True)
    ]
    close(out, np.array(wanted).reshape(3, 1, -1), roundings=2)


def test_paged_attention(npu: Any) -> None:
    import torch

    keys, values = (
        [numbers(n, KV_HEADS, SIZE, seed=s + i) for i, n in enumerate(LENGTHS)] for s in (10, 20)
    )
    query = numbers(len(LENGTHS), HEADS, SIZE)
    (key_cache, table), (value_cache, _) = paged(keys), paged(values)
    q, k, v, blocks = on_npu(query, key_cache, value_cache, table)
    out = torch.empty_like(q)
    lengths = torch.tensor(LENGTHS, dtype=torch.int32)
    npu._npu_paged_attention(
        query=q, key_cache=k, value_cache=v, num_kv_heads=KV_HEADS, num_heads=HEADS,
        scale_value=SCALE, block_table=blocks, context_lens=lengths, out=out,
    )  # fmt: skip
    wanted = [
        attended(array(query)[i], array(keys[i]), array(values[i]), HEADS // KV_HEADS)
        for i in range(3)
    ]
    close(out, np.array(wanted), roundings=2)


def test_a_cache_write_goes_to_its_slots_and_leaves_padding_out(npu: Any) -> None:
    import torch

    key, value = numbers(4, KV_HEADS, SIZE), numbers(4, KV_HEADS, SIZE, seed=1)
    caches = [torch.zeros(3, BLOCK, KV_HEADS, SIZE, dtype=torch.bfloat16) for _ in range(2)]
    slots = torch.tensor([9, -1, 0, 6], dtype=torch.int32)
    held = on_npu(*caches)
    npu._npu_reshape_and_cache(*on_npu(key, value), *held, slots.to("npu"))
    for made, new in zip(held, (key, value), strict=True):
        wanted = np.zeros((3 * BLOCK, KV_HEADS, SIZE))
        for token, slot in ((0, 9), (2, 0), (3, 6)):
            wanted[slot] = array(new)[token]
        np.testing.assert_array_equal(array(made).reshape(wanted.shape), wanted)


def call(npu: Any, **named: Any) -> None:
    query, key = on_npu(numbers(2, HEADS, SIZE), numbers(2, HEADS, SIZE))
    asked = {
        "actual_seq_lengths": [2], "actual_seq_lengths_kv": [2], "num_heads": HEADS,
        "input_layout": "TND", **named,
    }  # fmt: skip
    npu.npu_fused_infer_attention_score(query, key, key, **asked)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"softmax_lse_flag": True}, "softmax_lse_flag=True"),
        ({"input_layout": "BNSD"}, "input_layout='BNSD'"),
        ({"sparse_mode": 4}, "input_layout='TND', sparse_mode=4"),
        ({"pre_tokens": 7}, "input_layout='TND', pre_tokens=7"),
        ({"actual_seq_lengths_kv": None}, "actual_seq_lengths_kv=None"),
    ],
)
def test_what_attention_lacks_is_said(npu: Any, asked: dict[str, Any], told: str) -> None:
    with pytest.raises(NotImplementedError) as caught:
        call(npu, **asked)
    name = "torch_npu.npu_fused_infer_attention_score"
    assert str(caught.value).startswith(f"{name} is not emulated with {told} (tests/ascend/README")


def test_tensors_that_are_not_taken_are_told_by_dtype_and_shape(npu: Any) -> None:
    rope = on_npu(numbers(2, 4))[0]
    with pytest.raises(NotImplementedError, match=r"query_rope=torch.bfloat16 of \(2, 4\)"):
        call(npu, query_rope=rope)
    cache = rope.to(dtype=__import__("torch").int8).view(1, 2, 1, 4)
    with pytest.raises(NotImplementedError, match=r"cache=torch.int8 of \(1, 2, 1, 4\)"):
        npu._npu_reshape_and_cache(rope, rope, cache, cache, rope[:, 0].long())


def test_a_mask_of_another_size_and_wrong_lengths_are_refused(npu: Any) -> None:
    small = on_npu(numbers(2, 2))[0]
    with pytest.raises(RuntimeError, match="2048 x 2048"):
        call(npu, sparse_mode=3, atten_mask=small)
    with pytest.raises(RuntimeError, match="actual_seq_lengths, 1, is not the queries' 2"):
        call(npu, actual_seq_lengths=[1])
