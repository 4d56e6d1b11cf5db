"""Attention: FusedInferAttentionScore (layouts TND and BSH) and NNAL's paged attention.

A cache of keys or values is (blocks, block size, key/value heads times size), in the last two
dimensions or in one; a block table is (sequences, blocks) and tells which blocks a sequence has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

import torch
from torch import Tensor

from torch_npu._define import operator
from torch_npu._missing import not_emulated

_NAME = "torch_npu.npu_fused_infer_attention_score"
#: The default of a window: none.
_EVERYTHING = 2147483647
#: Arguments that change no number here.
_IGNORED = {"block_size"}

_SCHEMA = (
    "Tensor query, Tensor key, Tensor value, *, Tensor? pse_shift=None, "
    "Tensor? atten_mask=None, SymInt[]? actual_seq_lengths=None, "
    "SymInt[]? actual_seq_lengths_kv=None, Tensor? dequant_scale1=None, "
    "Tensor? quant_scale1=None, Tensor? dequant_scale2=None, Tensor? quant_scale2=None, "
    "Tensor? quant_offset2=None, Tensor? antiquant_scale=None, Tensor? antiquant_offset=None, "
    "Tensor? key_antiquant_scale=None, Tensor? key_antiquant_offset=None, "
    "Tensor? value_antiquant_scale=None, Tensor? value_antiquant_offset=None, "
    "Tensor? block_table=None, Tensor? query_padding_size=None, Tensor? kv_padding_size=None, "
    "Tensor? key_shared_prefix=None, Tensor? value_shared_prefix=None, "
    "SymInt[]? actual_shared_prefix_len=None, Tensor? query_rope=None, Tensor? key_rope=None, "
    "Tensor? key_rope_antiquant_scale=None, int num_heads=1, float scale=1.0, "
    "int pre_tokens=2147483647, int next_tokens=2147483647, str input_layout='BSH', "
    "int num_key_value_heads=0, int sparse_mode=0, int inner_precise=0, int block_size=0, "
    "int antiquant_mode=0, int key_antiquant_mode=0, int value_antiquant_mode=0, "
    "bool softmax_lse_flag=False"
)


@dataclass(frozen=True)
class _Asked:
    """The arguments of a call that are emulated, by the names of the schema."""

    atten_mask: Tensor | None = None
    actual_seq_lengths: Sequence[int] | None = None
    actual_seq_lengths_kv: Sequence[int] | None = None
    block_table: Tensor | None = None
    num_heads: int = 1
    scale: float = 1.0
    input_layout: str = "BSH"
    num_key_value_heads: int = 0
    sparse_mode: int = 0
    pre_tokens: int = _EVERYTHING

    @classmethod
    def of(cls, named: dict[str, Any]) -> _Asked:
        """What was asked; NotEmulated for an argument that is not emulated and not at rest."""
        known = {field.name for field in fields(cls)}
        others = {k: v for k, v in named.items() if k not in known | _IGNORED and not _at_rest(v)}
        if others:
            raise not_emulated(_NAME, **others)
        asked = cls(**{name: value for name, value in named.items() if name in known})
        asked._check()
        return asked

    def _check(self) -> None:
        if self.input_layout not in {"TND", "BSH"}:
            raise not_emulated(_NAME, input_layout=self.input_layout)
        is_tnd = self.input_layout == "TND"
        if self.sparse_mode not in ({0, 3} if is_tnd else {0}):
            layout = self.input_layout
            raise not_emulated(_NAME, input_layout=layout, sparse_mode=self.sparse_mode)
        if self.sparse_mode == 0 and self.atten_mask is not None:
            raise not_emulated(_NAME, sparse_mode=0, atten_mask=self.atten_mask)
        if is_tnd and self.pre_tokens != _EVERYTHING:
            raise not_emulated(_NAME, input_layout="TND", pre_tokens=self.pre_tokens)
        for name in ("actual_seq_lengths_kv", "actual_seq_lengths")[: 2 if is_tnd else 1]:
            if getattr(self, name) is None:
                raise not_emulated(_NAME, **{name: None})
        mask = self.atten_mask
        if self.sparse_mode == 3 and (mask is None or tuple(mask.shape) != (2048, 2048)):
            raise RuntimeError("sparse_mode 3 wants a mask of 2048 x 2048")

    @property
    def kv_heads(self) -> int:
        return self.num_key_value_heads or self.num_heads


def _at_rest(value: Any) -> bool:
    """Whether a value says "not used"; an empty tensor does."""
    if isinstance(value, Tensor):
        return value.numel() == 0
    return value in (None, 0, False, _EVERYTHING)


def _attend(query: Tensor, key: Tensor, value: Tensor, scale: float, causal: bool) -> Tensor:
    """query: (tokens, heads, size); key, value: (cached tokens, kv heads, size)."""
    repeats = query.shape[1] // key.shape[1]
    k = key.float().repeat_interleave(repeats, 1).transpose(0, 1)
    v = value.float().repeat_interleave(repeats, 1).transpose(0, 1)
    scores = query.float().transpose(0, 1) @ k.transpose(1, 2) * scale
    if causal:
        before = key.shape[0] - query.shape[0]
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu_(before + 1)
        scores.masked_fill_(hidden, float("-inf"))
    weights = torch.exp(scores - scores.amax(-1, keepdim=True))
    total = weights.sum(-1, keepdim=True)
    rounded = weights.to(query.dtype).float()  # the second product takes the tensors' dtype
    return (rounded @ v / total).transpose(0, 1).to(query.dtype)


def _from_blocks(cache: Tensor, table: Tensor, length: int, kv_heads: int) -> Tensor:
    """The first ``length`` keys or values of a sequence: (length, kv heads, size)."""
    size = cache.shape[1]
    blocks = table[: -(-length // size)].long()
    return cache[blocks].reshape(len(blocks) * size, kv_heads, -1)[:length]


def _sequences(key: Tensor, value: Tensor, asked: _Asked) -> Iterator[tuple[Tensor, Tensor]]:
    """Keys and values of each sequence; without a block table lengths are cumulative."""
    start = 0
    for i, given in enumerate(asked.actual_seq_lengths_kv or ()):
        end = int(given)
        if asked.block_table is None:
            yield key[start:end], value[start:end]
            start = end
        else:
            yield (
                _from_blocks(key, asked.block_table[i], end, asked.kv_heads),
                _from_blocks(value, asked.block_table[i], end, asked.kv_heads),
            )


def _tnd(query: Tensor, key: Tensor, value: Tensor, asked: _Asked) -> Tensor:
    """query: (tokens, heads, size), the tokens of all sequences in a row."""
    ends = [int(n) for n in asked.actual_seq_lengths or ()]
    if ends[-1] != query.shape[0]:
        told = f"the last of actual_seq_lengths, {ends[-1]}, is not the queries' {query.shape[0]}"
        raise RuntimeError(f"TND: {told}")
    out = torch.empty_like(query)
    start = 0
    for end, (k, v) in zip(ends, _sequences(key, value, asked), strict=False):
        if end > start:
            causal = asked.sparse_mode == 3
            out[start:end] = _attend(query[start:end], k, v, asked.scale, causal)
        start = end
    return out


def _bsh(query: Tensor, key: Tensor, value: Tensor, asked: _Asked) -> Tensor:
    """query: (sequences, 1, heads times size), a step of decoding."""
    if asked.block_table is None or query.shape[1] != 1:
        raise not_emulated(_NAME, input_layout="BSH", query=query, block_table=asked.block_table)
    out = torch.empty_like(query)
    for i, (k, v) in zip(range(len(query)), _sequences(key, value, asked), strict=False):
        window = min(len(k), asked.pre_tokens)
        one = query[i].view(1, asked.num_heads, -1)
        out[i] = _attend(one, k[-window:], v[-window:], asked.scale, causal=False).view(1, -1)
    return out


def _fake(query: Tensor, *_: object, **__: object) -> tuple[Tensor, Tensor]:
    return torch.empty_like(query), query.new_empty(1, dtype=torch.float32)


def _fake_workspace(query: Tensor, *_: object, **__: object) -> Tensor:
    return query.new_empty(1, dtype=torch.uint8)


@operator("npu", f"npu_fused_infer_attention_score({_SCHEMA}) -> (Tensor, Tensor)", _fake)
def npu_fused_infer_attention_score(
    query: Tensor, key: Tensor, value: Tensor, **named: Any
) -> tuple[Tensor, Tensor]:
    """Attention of the queries' shape, and an unused tensor for the log-sum-exp.

    TND: the queries' lengths are cumulative, and with ``sparse_mode`` 3 the last query of a
    sequence sees all of its keys, each before it one less. BSH: one query for each sequence,
    which sees the last ``pre_tokens`` keys.
    """
    asked = _Asked.of(named)
    attend = _tnd if asked.input_layout == "TND" else _bsh
    return attend(query, key, value, asked), torch.empty(1, dtype=torch.float32)


@operator(
    "npu",
    f"npu_fused_infer_attention_score.out({_SCHEMA}, Tensor? workspace=None, "
    "Tensor(a!)[] out) -> ()",
)
def _fused_infer_out(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    out: Sequence[Tensor],
    workspace: Tensor | None = None,
    **named: Any,
) -> None:
    """The same, into the first tensor of ``out``."""
    made, _ = npu_fused_infer_attention_score(query, key, value, **named)
    out[0].view(made.shape).copy_(made)


@operator(
    "npu",
    f"_npu_fused_infer_attention_score_get_max_workspace({_SCHEMA}) -> Tensor",
    _fake_workspace,
)
def _fused_infer_workspace(query: Tensor, key: Tensor, value: Tensor, **named: Any) -> Tensor:
    """One byte: nothing here needs a workspace."""
    return torch.empty(1, dtype=torch.uint8)


_PAGED = (
    "Tensor query, Tensor key_cache, Tensor value_cache, int num_kv_heads, int num_heads, "
    "float scale_value, Tensor block_table, Tensor context_lens, Tensor(a!) out"
)


@operator("atb", f"_npu_paged_attention({_PAGED}, *, Tensor? workspace=None) -> ()")
def _npu_paged_attention(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    num_kv_heads: int,
    num_heads: int,
    scale_value: float,
    block_table: Tensor,
    context_lens: Tensor,
    out: Tensor,
    workspace: Tensor | None = None,
) -> None:
    """A step of decoding: one query for each sequence, over ``context_lens`` keys, into ``out``."""
    for i, length in enumerate(context_lens.tolist()[: len(query)]):
        k, v = (
            _from_blocks(cache, block_table[i], length, num_kv_heads)
            for cache in (key_cache, value_cache)
        )
        one = query[i : i + 1].view(1, num_heads, -1)
        out[i : i + 1] = _attend(one, k, v, scale_value, False).view_as(out[i : i + 1])


@operator("atb", f"_npu_paged_attention_get_workspace({_PAGED}) -> Tensor", _fake_workspace)
def _paged_workspace(query: Tensor, *_: object) -> Tensor:
    """One byte: nothing here needs a workspace."""
    return torch.empty(1, dtype=torch.uint8)


@operator(
    "npu",
    "npu_fusion_attention(Tensor query, Tensor key, Tensor value, int head_num, "
    "str input_layout, Tensor? pse=None, Tensor? padding_mask=None, Tensor? atten_mask=None, "
    "float scale=1., float keep_prob=1., int pre_tockens=2147483647, "
    "int next_tockens=2147483647, int inner_precise=0, int[]? prefix=None, "
    "int[]? actual_seq_qlen=None, int[]? actual_seq_kvlen=None, int sparse_mode=0, "
    "bool gen_mask_parallel=True, bool sync=False) "
    "-> (Tensor, Tensor, Tensor, Tensor, int, int, int)",
)
def npu_fusion_attention(*args: Any, **named: Any) -> NoReturn:
    """Refused. The name must be there: Transformers and vLLM-Ascend read it at their import."""
    raise not_emulated("torch_npu.npu_fusion_attention")
