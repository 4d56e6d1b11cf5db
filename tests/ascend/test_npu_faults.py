"""Each fault on purpose changes its own operators and no other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from npu_cases import array, numbers, on_npu
from test_npu_attention import BLOCK, HEADS, KV_HEADS, LENGTHS, SIZE, mask, paged
from test_npu_experts import COUNTS, EXPERTS
from test_npu_quantization import whole

pytestmark = [pytest.mark.ascend, pytest.mark.filterwarnings("ignore")]
NAMES = (
    "attention_scale",
    "head_exchanged",
    "kv_slot",
    "norm_epsilon",
    "norm_weight",
    "rope_interleaved",
    "swiglu_exchanged",
)
Made = dict[str, np.ndarray[Any, Any]]


def norms(npu: Any) -> Made:
    import torch

    x, gamma = numbers(4, 32), numbers(32, seed=1)
    one, two, weight = on_npu(x, numbers(4, 32, seed=2), gamma)
    scale = on_npu(numbers(1, seed=3).abs() / 50)[0]
    wheel = torch.ops._C_ascend
    return {
        "npu_rms_norm": array(npu.npu_rms_norm(one, weight, 1e-2)[0]),
        "npu_add_rms_norm": array(npu.npu_add_rms_norm(one, two, weight, epsilon=1e-2)[0]),
        "npu_add_rms_norm_bias": array(
            wheel.npu_add_rms_norm_bias(one, two, weight, None, 1e-2)[0]
        ),
        "npu_gemma_rms_norm": array(wheel.npu_gemma_rms_norm(one, weight, 1e-2)[0]),
        "npu_add_rms_norm_quant": array(
            npu.npu_add_rms_norm_quant(one, two, weight, scale, None, epsilon=1e-2)[0]
        ),
        "npu_add_rms_norm_dynamic_quant": array(
            npu.npu_add_rms_norm_dynamic_quant(one, two, weight, epsilon=1e-2)[3]
        ),
    }


def rotations(npu: Any) -> Made:
    import torch

    query, key = on_npu(numbers(3, 32), numbers(3, 16, seed=1))
    table, positions = numbers(9, 16, seed=2).to("npu"), torch.tensor([1, 5, 8]).to("npu")
    npu._npu_rotary_embedding(positions, query, key, 16, table, True)
    x, angles = on_npu(numbers(3, 2, 16, seed=3), numbers(3, 1, 8, seed=4).repeat(1, 1, 2))
    made = npu.npu_rotary_mul(x, angles, angles)
    return {"_npu_rotary_embedding": array(query), "npu_rotary_mul": array(made)}


def attentions(npu: Any) -> Made:
    import torch

    query = numbers(3, HEADS, SIZE)
    (key, table), (value, _) = (
        paged([numbers(n, KV_HEADS, SIZE, seed=s + i) for i, n in enumerate(LENGTHS)])
        for s in (10, 20)
    )
    q, k, v, blocks = on_npu(query, key, value, table)
    asked: dict[str, Any] = {
        "actual_seq_lengths_kv": list(LENGTHS), "block_table": blocks, "num_heads": HEADS,
        "num_key_value_heads": KV_HEADS, "scale": 0.3, "block_size": BLOCK,
    }  # fmt: skip
    causal = {
        "input_layout": "TND", "sparse_mode": 3, "atten_mask": mask(),
        "actual_seq_lengths": [1, 2, 3],
    }  # fmt: skip
    fused = npu.npu_fused_infer_attention_score
    tnd, _ = fused(q, k, v, **asked, **causal)
    into = torch.empty_like(q)
    fused.out(q, k, v, **asked, **causal, out=[into, torch.empty(1, device="npu")])
    bsh, _ = fused(q.view(3, 1, -1), k, v, **asked)
    out = torch.empty_like(q)
    lengths = torch.tensor(LENGTHS)
    npu._npu_paged_attention(q, k, v, KV_HEADS, HEADS, 0.3, blocks, lengths, out)
    same = [array(each).reshape(query.shape) for each in (tnd, into, bsh, out)]
    return {
        "npu_fused_infer_attention_score": np.stack(same[:3]),
        "_npu_paged_attention": same[3],
    }


def others(npu: Any) -> Made:
    import torch

    cache = torch.zeros(3, BLOCK, 1, SIZE, dtype=torch.bfloat16, device="npu")
    key, slots = on_npu(numbers(3, 1, SIZE), torch.tensor([11, -1, 4], dtype=torch.int32))
    npu._npu_reshape_and_cache(key, key, cache, torch.zeros_like(cache), slots)
    rows, weight = whole(sum(COUNTS), SIZE), whole(EXPERTS, SIZE, 8, seed=1)
    scale, tokens = numbers(EXPERTS, 8, seed=2).abs() / 500, numbers(len(rows), seed=3).abs()
    ends = torch.tensor(np.cumsum(COUNTS))
    made = npu.npu_grouped_matmul_swiglu_quant(*on_npu(rows, weight, ends, scale, tokens.float()))
    x = on_npu(numbers(4, 32))[0]
    return {
        "_npu_reshape_and_cache": array(cache),
        "npu_swiglu": array(npu.npu_swiglu(x)),
        "npu_grouped_matmul_swiglu_quant": array(made[0]),
        "npu_fast_gelu": array(npu.npu_fast_gelu(x)),
        "npu_dynamic_quant": array(npu.npu_dynamic_quant(x)[0]),
        "aten::mm": array(x @ x.t()),
    }


MAKERS: tuple[Callable[[Any], Made], ...] = (norms, rotations, attentions, others)


@pytest.fixture(scope="module")
def right(npu: Any) -> Made:
    return {name: made for maker in MAKERS for name, made in maker(npu).items()}


@pytest.mark.parametrize("fault", NAMES)
def test_a_fault_changes_its_operators_and_nothing_else(
    npu: Any, right: Made, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch_npu.faults import FAULTS

    assert FAULTS[fault].operators <= set(right)
    monkeypatch.setenv("NPU_EMU_FAULT", fault)
    wrong = {name: made for maker in MAKERS for name, made in maker(npu).items()}
    changed = {name for name in right if not np.array_equal(right[name], wrong[name])}
    assert changed == FAULTS[fault].operators


def test_every_fault_is_tried(npu: Any) -> None:
    from torch_npu.faults import FAULTS

    assert set(NAMES) == set(FAULTS)


def test_faults_do_what_they_say(npu: Any, right: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NPU_EMU_FAULT", "head_exchanged")
    for name, made in attentions(npu).items():
        order = [1, 0, *range(2, HEADS)]
        np.testing.assert_array_equal(made, right[name][..., order, :])
    monkeypatch.setenv("NPU_EMU_FAULT", "kv_slot")
    cache = others(npu)["_npu_reshape_and_cache"].reshape(3 * BLOCK, -1)
    expected = right["_npu_reshape_and_cache"].reshape(3 * BLOCK, -1)
    np.testing.assert_array_equal(cache, np.roll(expected, 1, 0))  # 11 is the last slot: to 0
    monkeypatch.setenv("NPU_EMU_FAULT", "swiglu_exchanged")
    gate, up = np.split(array(numbers(4, 32)), 2, -1)
    wanted = up / (1 + np.exp(-up)) * gate
    np.testing.assert_allclose(others(npu)["npu_swiglu"], wanted, rtol=2**-8, atol=1e-3)


def test_a_norms_epsilon_and_weight_are_changed_by_what_is_said(
    npu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, gamma = numbers(4, 32), numbers(32, seed=1)
    given = on_npu(x, gamma)
    for fault, epsilon, power in (("norm_epsilon", 1.0, 1), ("norm_weight", 1e-2, 2)):
        monkeypatch.setenv("NPU_EMU_FAULT", fault)
        y, _ = npu.npu_rms_norm(*given, 1e-2)
        rms = np.sqrt((array(x) ** 2).mean(-1, keepdims=True) + epsilon)
        np.testing.assert_allclose(array(y), array(x) / rms * array(gamma) ** power, rtol=2**-6)


def test_attentions_scale_is_a_tenth_larger(npu: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    q, k = on_npu(numbers(2, HEADS, SIZE), numbers(2, HEADS, SIZE, seed=1))
    asked = {
        "actual_seq_lengths": [2], "actual_seq_lengths_kv": [2], "num_heads": HEADS,
        "input_layout": "TND",
    }  # fmt: skip
    larger, _ = npu.npu_fused_infer_attention_score(q, k, k, scale=0.3 * 1.1, **asked)
    monkeypatch.setenv("NPU_EMU_FAULT", "attention_scale")
    spoiled, _ = npu.npu_fused_infer_attention_score(q, k, k, scale=0.3, **asked)
    np.testing.assert_array_equal(array(spoiled), array(larger))


def test_rotation_by_neighbours_takes_each_angle_once(
    npu: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    half = np.linspace(0.1, 3, 8)
    x = numbers(1, 1, 16)
    both = on_npu(*(numbers(1, 1, 16) * 0 + _tile(f(half)) for f in (np.cos, np.sin)))
    monkeypatch.setenv("NPU_EMU_FAULT", "rope_interleaved")
    made = array(npu.npu_rotary_mul(*on_npu(x), *both)).reshape(8, 2)
    z = (array(x).reshape(8, 2) @ [1, 1j]) * np.exp(1j * half)
    np.testing.assert_allclose(made @ [1, 1j], z, atol=0.02)


def _tile(half: np.ndarray[Any, Any]) -> Any:
    import torch

    return torch.from_numpy(np.tile(half, 2))


def test_an_unknown_fault_is_told_with_those_that_there_are(python: Any) -> None:
    done = python("import torch", NPU_EMU_FAULT="rope")
    told = f"ValueError: NPU_EMU_FAULT=rope: the faults are {', '.join(NAMES)}"
    assert done.returncode == 1
    assert told in done.stderr
