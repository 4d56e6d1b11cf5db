"""Mixture of experts of the emulated NPU against a loop over tokens and experts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from npu_cases import array, close, numbers, on_npu
from test_npu_quantization import cut, off_by_one_at_most, whole

pytestmark = [pytest.mark.ascend, pytest.mark.filterwarnings("ignore")]
TOKENS, SIZE, EXPERTS, K = 7, 16, 8, 2


def gate(x: Any, **named: Any) -> tuple[Any, Any]:
    import torch

    asked = {
        "k": K, "k_group": 1, "group_count": 1, "group_select_mode": 1, "renorm": 0,
        "norm_type": 0, "out_flag": False, "routed_scaling_factor": 1.0, "eps": 1e-20, **named,
    }  # fmt: skip
    weights, experts, _ = torch.ops._C_ascend.moe_gating_top_k(x.to("npu"), **asked)
    return weights, experts


def softmax(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    powers = np.exp(x - x.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@pytest.mark.parametrize("renorm", [0, 1])
def test_gating_by_softmax(npu: Any, renorm: int) -> None:
    x = numbers(TOKENS, EXPERTS)
    weights, experts = gate(x, renorm=renorm, routed_scaling_factor=2.5)
    scores = softmax(array(x))
    chosen = np.argsort(-scores, -1)[:, :K]
    np.testing.assert_array_equal(array(experts), chosen)
    wanted = np.take_along_axis(scores, chosen, -1)
    close(weights, 2.5 * (wanted / wanted.sum(-1, keepdims=True) if renorm else wanted))


def test_gating_by_sigmoid_with_groups_and_a_bias_that_only_chooses(npu: Any) -> None:
    x, bias = numbers(TOKENS, EXPERTS), numbers(EXPERTS, seed=1, scale=0.5)
    weights, experts = gate(
        x, norm_type=1, renorm=1, k_group=2, group_count=4, bias_opt=bias.to("npu")
    )
    scores = 1 / (1 + np.exp(-array(x)))
    for token in range(TOKENS):
        ranked = scores[token] + array(bias)
        groups = ranked.reshape(4, 2).sum(-1)  # of two, both count
        inside = np.isin(np.arange(EXPERTS) // 2, np.argsort(-groups)[:2])
        chosen = np.argsort(-np.where(inside, ranked, -np.inf))[:K]
        assert array(experts)[token].tolist() == chosen.tolist()
        wanted = scores[token][chosen]
        np.testing.assert_allclose(array(weights)[token], wanted / wanted.sum(), rtol=2**-8)


def route(x: Any, experts: Any, **named: Any) -> Any:
    import torch

    asked = {
        "active_num": experts.numel(), "expert_num": EXPERTS, "expert_tokens_num_type": 1,
        "expert_tokens_num_flag": True, "active_expert_range": [0, EXPERTS], "quant_mode": -1,
        **named,
    }  # fmt: skip
    return torch.ops._C_ascend.npu_moe_init_routing_custom(*on_npu(x, experts), **asked)


def choices() -> Any:
    import torch

    drawn = np.random.default_rng(5).permuted(np.tile(np.arange(EXPERTS), (TOKENS, 1)), axis=1)
    return torch.from_numpy(drawn[:, :K].astype(np.int32))


def test_rows_are_sorted_by_expert_and_found_again(npu: Any) -> None:
    x, experts = numbers(TOKENS, SIZE), choices()
    rows, went, counts, _ = route(x, experts)
    flat = array(experts).astype(int).reshape(-1)
    np.testing.assert_array_equal(array(counts), np.bincount(flat, minlength=EXPERTS))
    places = array(went).astype(int)
    assert sorted(places.tolist()) == list(range(TOKENS * K))
    for choice, place in enumerate(places):
        np.testing.assert_array_equal(array(rows)[place], array(x)[choice // K])
    assert (np.diff(flat[np.argsort(places)]) >= 0).all()


def test_experts_of_other_workers_get_no_rows(npu: Any) -> None:
    x, experts = numbers(TOKENS, SIZE), choices()
    rows, went, counts, _ = route(x, experts, active_expert_range=[2, 5])
    flat = array(experts).astype(int).reshape(-1)
    ours = (flat >= 2) & (flat < 5)
    assert array(counts).tolist() == [int((flat == e).sum()) for e in (2, 3, 4)]
    assert ((array(went) == -1) == ~ours).all()
    for choice in np.flatnonzero(ours):
        place = int(array(went)[choice])
        np.testing.assert_array_equal(array(rows)[place], array(x)[choice // K])


def test_rows_in_int8(npu: Any) -> None:
    x, experts = numbers(TOKENS, SIZE), choices()
    rows, went, _, scale = route(x, experts, quant_mode=1)
    for choice, place in enumerate(array(went).astype(int)):
        token = array(x)[choice // K]
        assert array(scale)[place] == pytest.approx(np.abs(token).max() / 127, rel=1e-6)
        assert np.abs(array(rows)[place] - cut(token / np.abs(token).max() * 127)).max() <= 1


@pytest.mark.parametrize("weighted", [True, False])
def test_rows_are_put_back_with_their_weights(npu: Any, weighted: bool) -> None:
    import torch

    places = np.random.default_rng(1).permutation(TOKENS * K).astype(np.int32)
    rows, probs = numbers(TOKENS * K, SIZE), numbers(TOKENS, K, seed=1)
    named = {"probs": probs.to("npu")} if weighted else {}
    made = npu.npu_moe_token_unpermute(*on_npu(rows, torch.from_numpy(places)), **named)
    wanted = array(rows)[places]
    if weighted:
        wanted = np.einsum("tkh,tk->th", wanted.reshape(TOKENS, K, SIZE), array(probs))
    close(made, wanted)


COUNTS = [3, 0, 5, 1, 0, 0, 4, 1]


def by_group(rows: Any, weight: Any) -> np.ndarray[Any, Any]:
    """Each row times its expert's matrix."""
    owners = np.repeat(np.arange(EXPERTS), COUNTS)
    return np.array([row @ weight[e] for row, e in zip(rows, owners, strict=True)])


@pytest.mark.parametrize("cumulative", [True, False])
@pytest.mark.parametrize("apart", [True, False])
def test_grouped_product(npu: Any, cumulative: bool, apart: bool) -> None:
    import torch

    rows, weight = numbers(sum(COUNTS), SIZE), numbers(EXPERTS, SIZE, 6, seed=1)
    groups = torch.tensor(np.cumsum(COUNTS) if cumulative else COUNTS)
    matrices = list(weight.to("npu")) if apart else on_npu(weight)
    [made] = npu.npu_grouped_matmul(
        x=on_npu(rows), weight=matrices, split_item=2, group_type=0,
        group_list_type=0 if cumulative else 1, group_list=groups.to("npu"),
    )  # fmt: skip
    close(made, by_group(array(rows), array(weight)))


def test_grouped_product_of_int8(npu: Any) -> None:
    import torch

    rows, weight = whole(sum(COUNTS), SIZE), whole(EXPERTS, SIZE, 6, seed=1)
    scale, tokens = numbers(EXPERTS, 6, seed=2).abs() / 500, numbers(len(rows), seed=3).abs()
    [made] = npu.npu_grouped_matmul(
        x=on_npu(rows), weight=on_npu(weight), scale=on_npu(scale), split_item=2,
        per_token_scale=on_npu(tokens.float()), group_type=0, group_list_type=1,
        group_list=torch.tensor(COUNTS).to("npu"), output_dtype=torch.bfloat16,
    )  # fmt: skip
    owners = np.repeat(np.arange(EXPERTS), COUNTS)
    wanted = by_group(array(rows), array(weight)) * array(scale)[owners]
    close(made, wanted * array(tokens)[:, None])


def test_grouped_product_with_swiglu_in_int8(npu: Any) -> None:
    import torch

    rows, weight = whole(sum(COUNTS), SIZE), whole(EXPERTS, SIZE, 12, seed=1)
    scale, tokens = numbers(EXPERTS, 12, seed=2).abs() / 5000, numbers(len(rows), seed=3).abs()
    ends = torch.tensor(np.cumsum(COUNTS))
    made, row_scale, _ = npu.npu_grouped_matmul_swiglu_quant(
        *on_npu(rows, weight, ends, scale, tokens.float())
    )
    owners = np.repeat(np.arange(EXPERTS), COUNTS)
    product = by_group(array(rows), array(weight)) * array(scale)[owners]
    left, up = np.split(product * array(tokens)[:, None], 2, -1)
    wanted = left / (1 + np.exp(-left)) * up
    largest = np.abs(wanted).max(-1, keepdims=True) / 127
    np.testing.assert_allclose(array(row_scale), largest[:, 0], rtol=1e-5)
    off_by_one_at_most(made, cut(wanted / largest), most=0.05)


def test_what_experts_lack_is_said(npu: Any) -> None:
    x, experts = numbers(TOKENS, SIZE), choices()
    with pytest.raises(NotImplementedError, match=r"npu_moe_init_routing_custom .*drop_pad_mode=1"):
        route(x, experts, drop_pad_mode=1)
    with pytest.raises(NotImplementedError, match=r"npu_grouped_matmul .*group_type=2"):
        npu.npu_grouped_matmul(on_npu(x), on_npu(x), split_item=2, group_type=2)
    with pytest.raises(NotImplementedError, match=r"npu_grouped_matmul .*antiquant_offset"):
        npu.npu_grouped_matmul(
            on_npu(x), on_npu(x), split_item=2, group_type=0, antiquant_offset=on_npu(x)
        )
