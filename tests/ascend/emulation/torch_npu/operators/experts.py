"""Mixture of experts: choosing, sorting tokens by expert, products by expert, putting back.

"Rows" are tokens times chosen experts, sorted by expert.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from torch_npu._define import operator
from torch_npu._missing import not_emulated
from torch_npu.operators.activation import swiglu
from torch_npu.operators.quantization import by_row, float_scale, int_product

_CUMULATIVE, _COUNTS = 0, 1


def _fake_gating(x: Tensor, k: int, *_: object, **__: object) -> tuple[Tensor, Tensor, Tensor]:
    shape = (*x.shape[:-1], k)
    ids = x.new_empty(shape, dtype=torch.int32)
    return x.new_empty(shape), ids, torch.empty_like(x, dtype=torch.float32)


def _within_groups(scores: Tensor, kept: int, groups: int, by_two: bool) -> Tensor:
    """Scores with minus infinity outside the ``kept`` best groups of neighbouring experts."""
    grouped = scores.view(len(scores), groups, -1)
    best = grouped.topk(2, -1).values.sum(-1) if by_two else grouped.amax(-1)
    chosen = torch.zeros_like(best, dtype=torch.bool).scatter_(1, best.topk(kept, -1).indices, True)
    return grouped.masked_fill(~chosen.unsqueeze(-1), float("-inf")).view_as(scores)


@operator(
    "_C_ascend",
    "moe_gating_top_k(Tensor x, int k, int k_group, int group_count, int group_select_mode, "
    "int renorm, int norm_type, bool out_flag, float routed_scaling_factor, float eps, "
    "Tensor? bias_opt=None) -> (Tensor y, Tensor expert_idx, Tensor out)",
    _fake_gating,
)
def moe_gating_top_k(
    x: Tensor,
    k: int,
    k_group: int,
    group_count: int,
    group_select_mode: int,
    renorm: int,
    norm_type: int,
    out_flag: bool,
    routed_scaling_factor: float,
    eps: float,
    bias_opt: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Weights (tokens, k) in x's dtype, experts (tokens, k) in int32, all scores in float32.

    x: (tokens, experts), the router's logits. ``norm_type`` 0 is softmax, 1 sigmoid. The bias,
    (experts), helps to choose and is in no weight. The chosen weights are made to add up to 1
    where ``renorm`` says so, and always after a sigmoid; then they are scaled.
    """
    wide = x.float()
    scores = wide.softmax(-1) if norm_type == 0 else wide.sigmoid()
    ranked = scores if bias_opt is None else scores + bias_opt.float()
    if group_count > 1:
        ranked = _within_groups(ranked, k_group, group_count, group_select_mode == 1)
    experts = ranked.topk(k, -1).indices
    weights = scores.gather(1, experts)
    if renorm or norm_type == 1:
        weights = weights / (weights.sum(-1, keepdim=True) + eps)
    every = scores if out_flag else scores.new_empty(0)
    return (weights * routed_scaling_factor).to(x.dtype), experts.to(torch.int32), every


def _fake_routing(
    x: Tensor, expert_idx: Tensor, **named: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rows = expert_idx.numel()
    begin, end = named["active_expert_range"] or (0, named["expert_num"])
    dtype = torch.int8 if named["quant_mode"] == 1 else x.dtype
    return (
        x.new_empty((rows, x.shape[-1]), dtype=dtype),
        expert_idx.new_empty(rows, dtype=torch.int32),
        expert_idx.new_empty(end - begin, dtype=torch.int64),
        x.new_empty(rows, dtype=torch.float32),
    )


def _check_routing(rows: int, asked: dict[str, Any]) -> None:
    wanted = {
        "offset": [None],
        "active_num": [rows, -1, 0],
        "expert_capacity": [-1, 0],
        "drop_pad_mode": [0],
        "expert_tokens_num_type": [_COUNTS],
        "expert_tokens_num_flag": [True],
        "quant_mode": [-1, 1],
        "row_idx_type": [0],
    }
    given = {name: asked[name] for name, values in wanted.items() if asked[name] not in values}
    if given:
        raise not_emulated("torch.ops._C_ascend.npu_moe_init_routing_custom", **given)


@operator(
    "_C_ascend",
    "npu_moe_init_routing_custom(Tensor x, Tensor expert_idx, *, Tensor? scale=None, "
    "Tensor? offset=None, int active_num=-1, int expert_capacity=-1, int expert_num=-1, "
    "int drop_pad_mode=0, int expert_tokens_num_type=0, bool expert_tokens_num_flag=False, "
    "int quant_mode=0, int[2] active_expert_range=[], int row_idx_type=0) "
    "-> (Tensor, Tensor, Tensor, Tensor)",
    _fake_routing,
)
def npu_moe_init_routing_custom(
    x: Tensor,
    expert_idx: Tensor,
    *,
    scale: Tensor | None = None,
    expert_num: int = -1,
    quant_mode: int = 0,
    active_expert_range: Sequence[int] = (),
    **others: Any,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Tokens sorted by expert, where each went, how many each expert has, and rows' scales.

    x: (tokens, size); expert_idx: (tokens, k). Rows of experts outside the range
    [begin, end) come last and hold nothing. ``quant_mode`` 1 gives int8 rows with a scale for
    each; -1 copies, with the tokens' own scales where given. Where the choice (token, i)
    went is at token times k plus i; -1 for experts outside the range.
    """
    rows = expert_idx.numel()
    defaults = {
        "offset": None, "active_num": -1, "expert_capacity": -1, "drop_pad_mode": 0,
        "expert_tokens_num_type": 0, "expert_tokens_num_flag": False, "row_idx_type": 0,
    }  # fmt: skip
    _check_routing(rows, {**defaults, **others, "quant_mode": quant_mode})
    begin, end = active_expert_range or (0, expert_num)
    experts = expert_idx.flatten().long()
    ours = (experts >= begin) & (experts < end)
    order = torch.where(ours, experts, expert_num).argsort(stable=True)
    went = torch.empty(rows, dtype=torch.int32)
    went[order] = torch.arange(rows, dtype=torch.int32)
    counts = torch.bincount(experts[ours] - begin, minlength=end - begin)
    source = order // expert_idx.shape[-1]
    expanded, scales = x[source], torch.zeros(rows)
    if quant_mode == 1:
        expanded, scales = by_row(expanded.float() * (1 if scale is None else scale.float()))
    elif scale is not None:
        scales = scale.float()[source]
    expanded[int(ours.sum()) :] = 0
    return expanded, went.masked_fill(~ours, -1), counts, scales


@operator(
    "npu",
    "npu_moe_token_unpermute(Tensor permuted_tokens, Tensor sorted_indices, "
    "Tensor? probs=None, bool padded_mode=False, int[]? restore_shape=None) -> Tensor",
    lambda rows, places, probs=None, *_, **__: rows.new_empty(
        (len(places) // (1 if probs is None else probs.shape[-1]), rows.shape[-1])
    ),
)
def npu_moe_token_unpermute(
    permuted_tokens: Tensor,
    sorted_indices: Tensor,
    probs: Tensor | None = None,
    padded_mode: bool = False,
    restore_shape: Sequence[int] | None = None,
) -> Tensor:
    """Each token's rows, times their weights, added: (tokens, size).

    permuted_tokens: (rows, size); sorted_indices: (tokens times k), where each choice's row
    is; probs: (tokens, k), without which k is 1.
    """
    if padded_mode:
        raise not_emulated("torch_npu.npu_moe_token_unpermute", padded_mode=True)
    k = 1 if probs is None else probs.shape[-1]
    wide = permuted_tokens.float()[sorted_indices.long()].view(-1, k, permuted_tokens.shape[-1])
    if probs is not None:
        wide = wide * probs.float().unsqueeze(-1)
    return wide.sum(1).to(permuted_tokens.dtype)


def _groups(group_list: Tensor, kind: int) -> Iterator[tuple[int, slice]]:
    """Each expert and its rows, for those that have some."""
    ends = group_list.tolist() if kind == _CUMULATIVE else group_list.cumsum(0).tolist()
    for expert, (start, end) in enumerate(zip([0, *ends], ends, strict=False)):
        if end > start:
            yield expert, slice(int(start), int(end))


def _of_expert(tensors: Sequence[Tensor], expert: int) -> Tensor:
    """An expert's part of one tensor for all, or its own of as many tensors."""
    return tensors[0][expert] if len(tensors) == 1 else tensors[expert]


def _fake_grouped(x: Sequence[Tensor], weight: Sequence[Tensor], **named: Any) -> list[Tensor]:
    dtype = named.get("output_dtype") or x[0].dtype
    return [x[0].new_empty((len(x[0]), weight[0].shape[-1]), dtype=dtype)]


def _check_grouped(x: Sequence[Tensor], asked: dict[str, Any]) -> None:
    wanted = {"split_item": (2, 3), "group_type": (0,), "act_type": (None, 0)}
    asked = {"split_item": 0, "group_type": None, **asked}
    given = {name: asked[name] for name in asked if asked[name] not in wanted.get(name, (None,))}
    if given or len(x) != 1:
        raise not_emulated("torch_npu.npu_grouped_matmul", x=x, **given)


@operator(
    "npu",
    "npu_grouped_matmul(Tensor[] x, Tensor[] weight, *, Tensor[]? bias=None, "
    "Tensor[]? scale=None, Tensor[]? offset=None, Tensor[]? antiquant_scale=None, "
    "Tensor[]? antiquant_offset=None, Tensor[]? per_token_scale=None, Tensor? group_list=None, "
    "Tensor[]? activation_input=None, Tensor[]? activation_quant_scale=None, "
    "Tensor[]? activation_quant_offset=None, int? split_item=0, int? group_type=None, "
    "int? group_list_type=0, int? act_type=0, int[]? tuning_config=None, "
    "ScalarType? output_dtype=None) -> Tensor[]",
    _fake_grouped,
)
def npu_grouped_matmul(
    x: Sequence[Tensor],
    weight: Sequence[Tensor],
    *,
    bias: Sequence[Tensor] | None = None,
    scale: Sequence[Tensor] | None = None,
    per_token_scale: Sequence[Tensor] | None = None,
    group_list: Tensor | None = None,
    group_list_type: int = _CUMULATIVE,
    output_dtype: torch.dtype | None = None,
    **others: Any,
) -> list[Tensor]:
    """The product of each expert's rows with its weight: one tensor, (rows, out).

    x: one tensor (rows, in); weight: one (experts, in, out), or one (in, out) for each expert.
    int8 rows are scaled back by ``scale`` (out of each expert) and ``per_token_scale`` (rows).
    The groups are counts, or where each ends; rows after the last are 0.
    """
    _check_grouped(x, others)
    if group_list is None:
        raise not_emulated("torch_npu.npu_grouped_matmul", group_list=None)
    [rows], output = x, output_dtype or x[0].dtype
    made = torch.zeros((len(rows), weight[0].shape[-1]), dtype=output)
    for expert, part in _groups(group_list, group_list_type):
        matrix = _of_expert(weight, expert)
        is_whole = matrix.dtype == torch.int8
        wide = int_product(rows[part], matrix) if is_whole else rows[part].float() @ matrix.float()
        if bias is not None:
            wide = wide + _of_expert(bias, expert)
        if scale is not None:
            wide = wide.float() * float_scale(_of_expert(scale, expert))
        if per_token_scale is not None:
            wide = wide * per_token_scale[0][part].float().unsqueeze(-1)
        made[part] = wide.to(output)
    return [made]


@operator(
    "npu",
    "npu_grouped_matmul_swiglu_quant(Tensor x, Tensor weight, Tensor group_list, "
    "Tensor weight_scale, Tensor x_scale, *, Tensor? bias=None, Tensor? offset=None) "
    "-> (Tensor, Tensor, Tensor)",
    lambda x, weight, *_, **__: (
        x.new_empty((len(x), weight.shape[-1] // 2), dtype=torch.int8),
        x.new_empty(len(x), dtype=torch.float32),
        x.new_empty(0, dtype=torch.float32),
    ),
)
def npu_grouped_matmul_swiglu_quant(
    x: Tensor,
    weight: Tensor,
    group_list: Tensor,
    weight_scale: Tensor,
    x_scale: Tensor,
    *,
    bias: Tensor | None = None,
    offset: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """SwiGLU of each expert's product as int8 rows, (rows, out / 2); their scales; nothing.

    x: (rows, in) in int8; weight: (experts, in, out) in int8; weight_scale: (experts, out);
    x_scale: (rows); group_list: where each expert's rows end. Rows after the last are 0.
    """
    if bias is not None or offset is not None:
        asked = {"bias": bias, "offset": offset}
        raise not_emulated("torch_npu.npu_grouped_matmul_swiglu_quant", **asked)
    made = torch.zeros((len(x), weight.shape[-1] // 2))
    for expert, part in _groups(group_list, _CUMULATIVE):
        scales = weight_scale[expert].float() * x_scale[part].float().unsqueeze(-1)
        made[part] = swiglu(int_product(x[part], weight[expert]).float() * scales)
    rows, scale = by_row(made)
    return rows, scale, torch.empty(0)
