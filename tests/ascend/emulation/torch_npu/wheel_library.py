"""``vllm_ascend.vllm_ascend_C``: the wheel's own library, which only CANN can load.

An import hook puts a module with its names in its place; its operators are in
``torch_npu.operators``.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import NoReturn

import torch

from torch_npu._define import WHEEL, register_wheel_operators
from torch_npu._missing import not_emulated
from torch_npu._settings import SETTINGS

_MODULE = "vllm_ascend.vllm_ascend_C"
#: vllm_ascend.meta_registration gives these a shape function, for which they must be known.
#: LoRA alone calls them; they have no kernel.
_NAMED_ONLY = (
    "bgmv_expand(Tensor x, Tensor weight, Tensor indices, Tensor(a!) y, int slice_offset, "
    "int slice_size) -> Tensor",
    "sgmv_expand(Tensor x, Tensor weight, Tensor indices, Tensor seq_len, Tensor(a!) y, "
    "int slice_offset, int slice_size) -> Tensor",
)


def install() -> None:
    """Let the import of the library find what is here.

    With ``NPU_EMU_CUSTOM_OPS=0`` the import fails, as on a host where the library does not
    load.
    """
    if SETTINGS.custom_ops:
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self) if name == _MODULE else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return ModuleType(_MODULE)

    def exec_module(self, module: ModuleType) -> None:
        for name in ("init_module", "python_create_and_map", "python_unmap_and_release"):
            setattr(module, name, _refuse)
        register_wheel_operators()
        if not _kept:
            library = torch.library.Library(WHEEL, "FRAGMENT")
            for schema in _NAMED_ONLY:
                library.define(schema)
            _kept.append(library)


def _refuse(*_: object) -> NoReturn:
    raise not_emulated("sleep mode")


_kept: list[torch.library.Library] = []
