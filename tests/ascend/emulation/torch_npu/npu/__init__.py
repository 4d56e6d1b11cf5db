"""``torch.npu``: devices, memory, streams that do nothing, graphs that are noted."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import torch

from torch_npu._device import lib
from torch_npu._settings import SETTINGS
from torch_npu.npu import memory
from torch_npu.npu.graphs import (
    NPUGraph,
    graph,
    graph_pool_handle,
    graph_task_group_begin,
    graph_task_group_end,
    graph_task_update_begin,
    graph_task_update_end,
    is_current_stream_capturing,
    make_graphed_callables,
)
from torch_npu.npu.memory import (
    MemPool,
    NPUPluggableAllocator,
    empty_cache,
    max_memory_allocated,
    max_memory_reserved,
    mem_get_info,
    memory_allocated,
    memory_reserved,
    memory_snapshot,
    memory_stats,
    memory_summary,
    reset_max_memory_allocated,
    reset_peak_memory_stats,
    use_mem_pool,
)
from torch_npu.npu.streams import (
    Event,
    ExternalEvent,
    Stream,
    StreamContext,
    current_stream,
    default_stream,
    set_stream,
    stream,
)

Device = int | str | torch.device | None

config = SimpleNamespace(allow_internal_format=True)
matmul = SimpleNamespace(allow_hf32=False)
conv = SimpleNamespace(allow_hf32=True)
default_generators: tuple[torch.Generator, ...] = ()
_initialized = True
_NAMES = {
    202: "Ascend310P3",
    220: "Ascend910B1",
    221: "Ascend910B2",
    223: "Ascend910B3",
    224: "Ascend910B4",
    250: "Ascend910_9391",
}


def is_available() -> bool:
    """Whether a device is visible."""
    return lib.device_count() > 0


def device_count() -> int:
    """How many devices are visible."""
    return lib.device_count()


def is_initialized() -> bool:
    """Always."""
    return True


def init() -> None:
    """Nothing is left to do."""


_lazy_init = init


def _is_in_bad_fork() -> bool:
    return False


def _index(device: Device = None) -> int:
    if device is None:
        return lib.current_device()
    if isinstance(device, int):
        return device
    index = torch.device(device).index
    return lib.current_device() if index is None else index


def set_device(device: Device) -> None:
    """Make a device the current one; RuntimeError, in CANN's words, where it is not there."""
    index = _index(device)
    if not 0 <= index < device_count():
        raise RuntimeError(
            "SetDevice:torch_npu/csrc/core/npu/NPUFunctions.cpp NPU function error: "
            f"aclrtSetDevice({index}), error code is 107001\n[Error]: Invalid device ID."
        )
    lib.set_device(index)


def current_device() -> int:
    """The number of the current device."""
    return lib.current_device()


class device:  # noqa: N801 - the card's name
    """Makes a device the current one for a while."""

    def __init__(self, which: Device) -> None:
        self.idx = _index(which)

    def __enter__(self) -> None:
        self._before = current_device()
        lib.set_device(self.idx)

    def __exit__(self, *_: object) -> None:
        lib.set_device(self._before)


def _exchange_device(index: int) -> int:
    before = current_device()
    if index >= 0:
        lib.set_device(index)
    return before


_maybe_exchange_device = _exchange_device


def synchronize(device: Device = None) -> None:
    """All is done before a call returns."""


def get_soc_version() -> int:
    """The kind of card: ``NPU_EMU_SOC``."""
    return SETTINGS.soc


def get_device_name(device: Device = None) -> str:
    """The card's name."""
    return _NAMES.get(get_soc_version(), "Ascend910B3")


def get_device_properties(device: Device = None) -> SimpleNamespace:
    """Name, bytes of memory, and cores of an Ascend910B3."""
    return SimpleNamespace(
        name=get_device_name(),
        total_memory=lib.capacity(),
        cube_core_num=20,
        vector_core_num=40,
        L2_cache_size=192 << 20,
        uuid="00000000-0000-0000-0000-000000000000",
        multi_processor_count=20,
    )


def get_device_capability(device: Device = None) -> None:
    """None: that is CUDA's figure."""


def is_bf16_supported() -> bool:
    """Always."""
    return True


def get_amp_supported_dtype() -> list[torch.dtype]:
    """float16 and bfloat16."""
    return [torch.float16, torch.bfloat16]


def set_compile_mode(jit_compile: bool = False) -> None:
    """Nothing is compiled."""


def set_option(_: object) -> None:
    """Nothing has options."""


def manual_seed(seed: int) -> None:
    """Nothing: kernels without a generator of their own draw from the CPU's."""


manual_seed_all = manual_seed


def get_rng_state(device: Device = "npu") -> torch.Tensor:
    """The CPU's."""
    return torch.get_rng_state()


def set_rng_state(state: torch.Tensor, device: Device = "npu") -> None:
    """The CPU's."""
    torch.set_rng_state(state)


def _subscribe_report(_: object) -> None:
    pass


_unsubscribe_report = _subscribe_report


def _launch_host_func(_: object, function: Callable[..., None], arguments: Any) -> None:
    function(*arguments)


def utilization(device: Device = None) -> int:
    """Percent of the time that the device is busy: none."""
    return 0
