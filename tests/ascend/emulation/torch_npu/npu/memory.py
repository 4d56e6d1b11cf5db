"""``torch.npu.memory``: what the emulated device has, and how much of it is taken, in bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch_npu._device import lib


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Bytes free and in all. Cached memory is not free, as on a card."""
    return lib.capacity() - lib.reserved(), lib.capacity()


def empty_cache() -> None:
    """Give back what is kept of freed memory."""
    lib.empty_cache()


def memory_allocated(device: Any = None) -> int:
    """Bytes that tensors hold."""
    return lib.used()


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes that tensors held since the last reset."""
    return lib.peak()


def memory_reserved(device: Any = None) -> int:
    """Bytes that tensors hold, and that are kept of freed ones."""
    return lib.reserved()


def max_memory_reserved(device: Any = None) -> int:
    """The most bytes reserved since the last reset."""
    return max(lib.reserved(), lib.peak())


def reset_peak_memory_stats(device: Any = None) -> None:
    """Forget the peak."""
    lib.reset_peak()


reset_max_memory_allocated = reset_peak_memory_stats


def memory_stats(device: Any = None) -> dict[str, int]:
    """The figures above under PyTorch's names."""
    return {
        "allocated_bytes.all.current": lib.used(),
        "allocated_bytes.all.peak": lib.peak(),
        "reserved_bytes.all.current": lib.reserved(),
        "reserved_bytes.all.peak": max_memory_reserved(),
        "num_alloc_retries": 0,
        "num_ooms": 0,
    }


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """``memory_stats`` as text."""
    return str(memory_stats())


def memory_snapshot() -> list[dict[str, Any]]:
    """Nothing: blocks are not followed."""
    return []


class MemPool:
    """A name that sleep mode imports."""

    def __init__(self, *_: Any) -> None:
        pass


class NPUPluggableAllocator:
    """A name that sleep mode imports."""

    def __init__(self, *_: Any) -> None:
        self._allocator = None


@contextmanager
def use_mem_pool(*_: Any) -> Iterator[None]:
    """The device's memory, whatever the pool."""
    yield
