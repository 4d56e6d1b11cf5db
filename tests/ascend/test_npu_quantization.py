"""int8 operators of the emulated NPU against whole numbers and float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from npu_cases import array, close, numbers, on_npu

pytestmark = [pytest.mark.ascend, pytest.mark.filterwarnings("ignore")]


def cut(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.clip(np.rint(x), -128, 127)


def whole(*shape: int, seed: int = 0) -> Any:
    import torch

    return torch.from_numpy(np.random.default_rng(seed).integers(-128, 128, shape)).to(torch.int8)


def off_by_one_at_most(made: Any, wanted: np.ndarray[Any, Any], most: float = 0.02) -> None:
    """Equal but for numbers that lie half way, which float32 may round to the other side."""
    off = np.abs(array(made) - wanted)
    assert made.device.type == "npu"
    assert off.max() <= 1
    assert off.mean() <= most


def norm(x: np.ndarray[Any, Any], weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * weight


@pytest.mark.parametrize("smooth", [False, True])
def test_rows_are_scaled_so_that_their_largest_is_127(npu: Any, smooth: bool) -> None:
    x, factors = numbers(6, 40), numbers(40, seed=1)
    named = {"smooth_scales": factors.to("npu")} if smooth else {}
    rows, scale = npu.npu_dynamic_quant(*on_npu(x), **named)
    wide = array(x) * (array(factors) if smooth else 1)
    wanted = np.abs(wide).max(-1) / 127
    np.testing.assert_allclose(array(scale), wanted, rtol=1e-6)
    off_by_one_at_most(rows, cut(wide / wanted[:, None]))
    assert np.abs(array(rows)).max(-1).tolist() == [127] * 6


@pytest.mark.parametrize("divide", [False, True])
@pytest.mark.parametrize("columns", [1, 40])
def test_static_scales_and_zero_points(npu: Any, divide: bool, columns: int) -> None:
    import torch

    x, scale = numbers(6, 40), numbers(columns, seed=1).abs() + 0.5
    points = numbers(columns, seed=2, scale=9).round()
    given = scale if divide else scale * 4
    y = npu.npu_quantize(*on_npu(x, given, points), torch.qint8, -1, divide)
    scaled = array(x) / array(given) if divide else array(x) * array(given)
    off_by_one_at_most(y, cut(scaled + array(points)))
    assert y.dtype == torch.int8


def test_norm_of_a_sum_in_int8(npu: Any) -> None:
    x1, x2, gamma, beta = (numbers(*s, seed=i) for i, s in enumerate([(5, 32)] * 2 + [(32,)] * 2))
    scale, point = numbers(1, seed=7).abs() / 50, numbers(1, seed=8, scale=9).round()
    y, _, added = npu.npu_add_rms_norm_quant(*on_npu(x1, x2, gamma, scale, point, beta))
    wanted = norm(array(x1) + array(x2), array(gamma)) + array(beta)
    off_by_one_at_most(y, cut(wanted / array(scale) + array(point)))
    close(added, array(x1) + array(x2))


def test_norm_of_a_sum_as_scaled_rows(npu: Any) -> None:
    x1, x2, gamma = numbers(5, 32), numbers(5, 32, seed=1), numbers(32, seed=2)
    made = npu.npu_add_rms_norm_dynamic_quant(*on_npu(x1, x2, gamma), output_mask=[True, True])
    rows, _, added, scale, _ = made
    wanted = norm(array(x1) + array(x2), array(gamma))
    np.testing.assert_allclose(array(scale), np.abs(wanted).max(-1) / 127, rtol=1e-5)
    off_by_one_at_most(rows, cut(wanted / (np.abs(wanted).max(-1, keepdims=True) / 127)))
    close(added, array(x1) + array(x2))


@pytest.mark.parametrize("by_token", [False, True])
@pytest.mark.parametrize("bias", [None, "int32", "bfloat16"])
def test_product_of_int8_matrices(npu: Any, by_token: bool, bias: str | None) -> None:
    import torch

    x, weight, scale = whole(5, 24), whole(24, 8, seed=1), numbers(8, seed=2).abs() / 1000
    tokens = numbers(5, seed=3).abs().float()
    added = {
        None: None,
        "int32": torch.arange(8, dtype=torch.int32) * 5000,
        "bfloat16": numbers(8, seed=4, scale=20),
    }[bias]
    named = {"pertoken_scale": tokens.to("npu")} if by_token else {}
    if added is not None:
        named["bias"] = added.to("npu")
    y = npu.npu_quant_matmul(*on_npu(x, weight, scale), output_dtype=torch.bfloat16, **named)
    product = array(x) @ array(weight) + (array(added) if bias == "int32" else 0)
    wanted = product * array(scale) * (array(tokens)[:, None] if by_token else 1)
    close(y, wanted + (array(added) if bias == "bfloat16" else 0))


def test_a_scale_in_int64_holds_the_bits_of_a_float32(npu: Any) -> None:
    import torch

    x, weight = whole(5, 24), whole(24, 8, seed=1)
    scale = np.linspace(0.001, 0.01, 8, dtype=np.float32)
    bits = torch.from_numpy(scale.view(np.int32).astype(np.int64))
    y = npu.npu_quant_matmul(*on_npu(x, weight, bits), output_dtype=torch.bfloat16)
    close(y, array(x) @ array(weight) * scale)


def test_what_quantization_lacks_is_said(npu: Any) -> None:
    import torch

    x, scale = on_npu(whole(2, 4), numbers(4))
    with pytest.raises(NotImplementedError, match=r"npu_quant_matmul .*offset=torch.bfloat16"):
        npu.npu_quant_matmul(x, x.t(), scale, offset=scale, output_dtype=torch.bfloat16)
    with pytest.raises(NotImplementedError, match=r"npu_dynamic_quant .*dst_type=torch.quint4x2"):
        npu.npu_dynamic_quant(*on_npu(numbers(2, 4)), dst_type=torch.quint4x2)
    with pytest.raises(NotImplementedError, match=r"npu_quantize .*axis=0"):
        npu.npu_quantize(*on_npu(numbers(2, 4), numbers(2)), None, torch.qint8, 0)
