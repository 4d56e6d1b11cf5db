"""Inputs for the operators, and comparison with a formula in float64.

The inputs are bfloat16 numbers on the host. A test computes in float64 what the operator
should say, and the operator may be off by the rounding of its output.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def numbers(*shape: int, seed: int = 0, scale: float = 1.0) -> Any:
    """Normal numbers, as bfloat16, on the host."""
    import torch

    drawn = np.random.default_rng(seed).standard_normal(shape) * scale
    return torch.from_numpy(drawn).to(torch.bfloat16)


def array(tensor: Any) -> np.ndarray[Any, Any]:
    """A tensor's numbers in float64."""
    return np.asarray(tensor.cpu().double().numpy())


def on_npu(*tensors: Any) -> list[Any]:
    """Copies on the device."""
    return [tensor.to("npu") for tensor in tensors]


def close(tensor: Any, wanted: np.ndarray[Any, Any], *, roundings: float = 1.0) -> None:
    """Assert that a bfloat16 tensor of the device is the wanted one, rounded."""
    assert tensor.device.type == "npu"
    assert tuple(tensor.shape) == wanted.shape
    # bfloat16 keeps 8 bits: half a unit in the last place is 2 ** -9 of the number.
    np.testing.assert_allclose(
        array(tensor), wanted, rtol=roundings * 2.0**-8, atol=roundings * 1e-3
    )
