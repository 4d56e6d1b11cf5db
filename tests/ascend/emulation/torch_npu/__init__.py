"""torch_npu without a card: the device ``npu`` on host memory.

Stands in for Huawei's package of the same name, so that vLLM-Ascend's own Python code
(platform, worker, model runner, input batch, sampler) runs where no Ascend card is. Tensors
are of the device type ``npu``. What a card computes is computed by PyTorch's CPU kernels;
the operators of torch_npu, NNAL and vLLM-Ascend's own library are plain PyTorch
(``torch_npu.operators``). README.md in ``tests/ascend`` tells what can be concluded.
"""

import enum
import os
from typing import Any

# Whoever imports this module first would have torch import it once more. The variable is put
# back at once: processes that are started from here load it by themselves.
_AUTOLOAD = os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD")
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"

import torch

if _AUTOLOAD is None:
    del os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"]
else:
    os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = _AUTOLOAD

from torch_npu import _device, _missing
from torch_npu._settings import SETTINGS
from torch_npu._version import __version__

torch.utils.rename_privateuse1_backend("npu")

from torch_npu import npu

torch._register_device_module("npu", npu)
torch.utils.generate_methods_for_privateuse1_backend(
    for_tensor=True,
    for_module=True,
    for_storage=True,
    unsupported_dtype=[torch.quint8, torch.quint4x2, torch.quint2x4, torch.qint32, torch.qint8],
)
torch.version.cann = SETTINGS.cann
_missing.watch("npu", "atb", "_C_ascend")

from torch_npu import (
    _C,
    _define,
    atb,
    distributed,
    dynamo,
    operators,
    profiler,
    triton,
    wheel_library,
)

globals().update(_define.public)
wheel_library.install()
triton.install()
distributed.register()
dynamo.register()


class Format(enum.IntEnum):
    """How a card orders a tensor's numbers."""

    ND = 2
    FRACTAL_NZ = 29


#: Dtypes that newer releases add, as the numbers of CANN's enumeration.
float4_e2m1fn_x2, float8_e8m0fnu, hifloat8 = 296, 293, 290


def calls() -> dict[str, int]:
    """How often each of PyTorch's own operators ran on the device, by its full name."""
    return _device.lib.calls()


def __getattr__(name: str) -> Any:
    if _missing.looks_like_operator(name):
        raise _missing.missing_operator(__name__, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _autoload() -> None:
    """Called by ``import torch``; importing this module has done everything."""
