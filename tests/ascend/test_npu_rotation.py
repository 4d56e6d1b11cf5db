"""Rotary embedding of the emulated NPU against complex numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from npu_cases import array, close, numbers, on_npu

pytestmark = [pytest.mark.ascend, pytest.mark.filterwarnings("ignore")]
HEADS, SIZE, TOKENS = 3, 16, 7


def turned(x: Any, angles: np.ndarray[Any, Any], halves: bool) -> np.ndarray[Any, Any]:
    """x: (tokens, heads, rotary), turned by angles (tokens, rotary / 2) as complex numbers."""
    half = x.shape[-1] // 2
    real, imaginary = (x[..., :half], x[..., half:]) if halves else (x[..., ::2], x[..., 1::2])
    z = (real + 1j * imaginary) * np.exp(1j * angles)[:, None]
    if halves:
        return np.concatenate((z.real, z.imag), -1)
    return np.stack((z.real, z.imag), -1).reshape(x.shape)


def cos_sin(rotary: int) -> tuple[Any, np.ndarray[Any, Any]]:
    """A cache of cosines and sines of 50 positions, and their angles as it holds them."""
    import torch

    angles = np.arange(50)[:, None] / 10.0 ** (np.arange(rotary // 2) / 4)
    cache = torch.from_numpy(np.concatenate((np.cos(angles), np.sin(angles)), -1)).float()
    return cache, angles


@pytest.mark.parametrize("halves", [True, False])
@pytest.mark.parametrize("rotary", [SIZE, SIZE // 2])
def test_rotation_in_place(npu: Any, halves: bool, rotary: int) -> None:
    import torch

    positions = torch.tensor([3, 4, 5, 0, 1, 2, 49])
    query, key = numbers(TOKENS, HEADS * SIZE), numbers(TOKENS, SIZE, seed=1)
    cache, angles = cos_sin(rotary)
    q, k, where, table = on_npu(query, key, positions, cache)
    npu._npu_rotary_embedding(where, q, k, SIZE, table, halves)
    for made, given in ((q, query), (k, key)):
        wanted = array(given).reshape(TOKENS, -1, SIZE)
        wanted[..., :rotary] = turned(wanted[..., :rotary], angles[positions.numpy()], halves)
        close(made, wanted.reshape(TOKENS, -1))


@pytest.mark.parametrize("mode", ["half", "interleave"])
def test_rotary_mul(npu: Any, mode: str) -> None:
    import torch

    x = numbers(TOKENS, HEADS, SIZE)
    angles = np.linspace(0, 6, TOKENS * SIZE // 2).reshape(TOKENS, -1)
    spread = np.tile(angles, 2) if mode == "half" else angles.repeat(2, -1)
    r1, r2 = (torch.from_numpy(f(spread)).float().unsqueeze(1) for f in (np.cos, np.sin))
    y = npu.npu_rotary_mul(*on_npu(x, r1, r2), mode)
    close(y, turned(array(x), angles, mode == "half"))


def test_another_mode_is_refused(npu: Any) -> None:
    x = on_npu(numbers(1, 1, 4))[0]
    with pytest.raises(
        NotImplementedError, match="npu_rotary_mul is not emulated with rotary_mode"
    ):
        npu.npu_rotary_mul(x, x, x, "quarter")
