"""Triton kernels without Triton: those that vLLM launches on any host, as plain PyTorch.

A card's host has triton-ascend. Here Triton has no driver, and vLLM takes its paths without
it (``HAS_TRITON`` is false). Some kernels it launches even then. Each of those is replaced when
its module is imported.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from torch_npu._device import lib
from torch_npu._missing import not_emulated


class Kernel:
    """``Kernel(body)[grid](*arguments)`` calls ``body(grid, *arguments)`` on host tensors."""

    def __init__(self, body: Callable[..., None]) -> None:
        self._body = body

    def __getitem__(self, grid: Any) -> Callable[..., None]:
        return partial(self._launch, grid)

    def _launch(self, grid: Any, *args: Any, **named: Any) -> None:
        self._body(grid, *map(_host, args), **named)


def _host(value: Any) -> Any:
    is_ours = isinstance(value, torch.Tensor) and value.device.type == "npu"
    return lib.host_alias(value) if is_ours else value


def _slot_mapping(
    grid: Sequence[int],
    tokens: int,
    most: int,
    starts: Tensor,
    positions: Tensor,
    table: Tensor,
    _stride: int,
    block_size: int,
    slots: Tensor,
    *,
    TOTAL_CP_WORLD_SIZE: int,  # noqa: N803 - the kernel's name
    PAD_ID: int,  # noqa: N803 - the kernel's name
    **_: Any,
) -> None:
    """Where in the cache each token goes: its request's block, and its place in it.

    Request r has the tokens starts[r] to starts[r + 1]; what follows the last is padding.
    """
    if TOTAL_CP_WORLD_SIZE != 1:
        raise not_emulated("context parallelism", TOTAL_CP_WORLD_SIZE=TOTAL_CP_WORLD_SIZE)
    ends = starts.tolist()
    for request in range(grid[0] - 1):
        part = slice(ends[request], ends[request + 1])
        where = positions[part].long()
        blocks = table[request].long()[where // block_size]
        slots[part] = (blocks * block_size + where % block_size).to(slots.dtype)
    slots[tokens:most] = PAD_ID


#: Module, name in it, and what stands for the kernel there.
KERNELS = (("vllm.v1.worker.block_table", "_compute_slot_mapping_kernel", Kernel(_slot_mapping)),)


class _AfterImport(importlib.abc.MetaPathFinder):
    """Finds a module as others do, and replaces its kernels once it has run."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name not in {module for module, _, _ in KERNELS}:
            return None
        sys.meta_path.remove(self)  # or it would find itself
        try:
            spec = importlib.util.find_spec(name)
        finally:
            sys.meta_path.insert(0, self)
        if spec is not None and spec.loader is not None:
            run = spec.loader.exec_module
            spec.loader.exec_module = partial(_run_and_replace, run)  # type: ignore[method-assign]
        return spec


def _run_and_replace(run: Callable[[ModuleType], None], module: ModuleType) -> None:
    run(module)
    for owner, kernel, stand_in in KERNELS:
        # Releases differ in the kernels that they have.
        if owner == module.__name__ and hasattr(module, kernel):
            setattr(module, kernel, stand_in)


def install() -> None:
    """Replace kernels from now on."""
    sys.meta_path.insert(0, _AfterImport())
