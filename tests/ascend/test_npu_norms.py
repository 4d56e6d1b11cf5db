"""Norms and activations of the emulated NPU against formulas in float64."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from npu_cases import array, close, numbers, on_npu

pytestmark = [pytest.mark.ascend, pytest.mark.filterwarnings("ignore")]
EPSILON = 1e-2  # so large that a wrong one is seen


def rms(x: np.ndarray[Any, Any], weight: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * weight


def test_rms_norm(npu: Any) -> None:
    x, gamma = numbers(5, 32, scale=0.2), numbers(32, seed=1)
    y, rstd = npu.npu_rms_norm(*on_npu(x, gamma), EPSILON)
    close(y, rms(array(x), array(gamma)))
    wanted = 1 / np.sqrt((array(x) ** 2).mean(-1, keepdims=True) + EPSILON)
    np.testing.assert_allclose(array(rstd), wanted, rtol=1e-5)


def test_norm_of_a_sum(npu: Any) -> None:
    x1, x2, gamma = numbers(5, 32), numbers(5, 32, seed=1), numbers(32, seed=2)
    y, rstd, added = npu.npu_add_rms_norm(*on_npu(x1, x2, gamma), EPSILON)
    close(y, rms(array(x1) + array(x2), array(gamma)))
    close(added, array(x1) + array(x2))
    assert rstd.shape == (5, 1)


def test_norm_of_a_sum_with_a_bias(npu: Any) -> None:
    import torch

    x1, x2, gamma, beta = (numbers(*s, seed=i) for i, s in enumerate([(5, 32)] * 2 + [(32,)] * 2))
    y, _, added = torch.ops._C_ascend.npu_add_rms_norm_bias(*on_npu(x1, x2, gamma, beta), EPSILON)
    close(y, rms(array(x1) + array(x2), array(gamma)) + array(beta))
    close(added, array(x1) + array(x2))


def test_gemma_stores_its_weight_less_one(npu: Any) -> None:
    import torch

    x, gamma = numbers(5, 32), numbers(32, seed=1)
    y, _ = torch.ops._C_ascend.npu_gemma_rms_norm(*on_npu(x, gamma), EPSILON)
    close(y, rms(array(x), 1 + array(gamma)))


@pytest.mark.parametrize("dim", [-1, 0])
def test_swiglu(npu: Any, dim: int) -> None:
    x = numbers(6, 32, scale=2)
    [y] = [npu.npu_swiglu(*on_npu(x), dim)]
    gate, up = np.split(array(x), 2, dim)
    close(y, gate / (1 + np.exp(-gate)) * up)


def test_fast_gelu(npu: Any) -> None:
    x = numbers(6, 32, scale=2)
    close(npu.npu_fast_gelu(*on_npu(x)), array(x) / (1 + np.exp(-1.702 * array(x))))


def test_transposed_input_is_read_as_it_looks(npu: Any) -> None:
    x, gamma = numbers(32, 5), numbers(32, seed=1)
    y, _ = npu.npu_rms_norm(x.to("npu").t(), *on_npu(gamma), EPSILON)
    close(y, rms(array(x).T, array(gamma)))
