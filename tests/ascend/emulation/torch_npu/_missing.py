"""What is not emulated is one error, which says what was asked."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import torch

_WHERE = "tests/ascend/README.md says what is"


class NotEmulated(NotImplementedError):
    """An operator was called in a way that the emulation lacks."""


class MissingOperator(AttributeError):
    """A name of an operator that the emulation lacks; ``hasattr`` takes it for absent."""


def not_emulated(what: str, **arguments: Any) -> NotEmulated:
    """The error for ``what``, with the arguments that are the reason.

    Tensors are told by dtype and shape.
    """
    told = ", ".join(f"{name}={_tell(value)}" for name, value in sorted(arguments.items()))
    return NotEmulated(f"{what} is not emulated{f' with {told}' if told else ''} ({_WHERE})")


def _tell(value: Any) -> str:
    if isinstance(value, torch.Tensor):
        return f"{value.dtype} of {tuple(value.shape)}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_tell, value))}]"
    return repr(value)


def missing_operator(owner: str, name: str) -> MissingOperator:
    """The error for an operator that ``owner``, ``torch_npu`` for example, lacks."""
    schema = _wheel_schema(name) if owner.endswith("_C_ascend") else None
    told = f"; its schema: {schema}" if schema else ""
    return MissingOperator(f"{owner}.{name} is not emulated ({_WHERE}){told}")


def looks_like_operator(name: str) -> bool:
    """Whether vLLM-Ascend would expect an operator under this name of ``torch_npu``."""
    return name.startswith(("npu_", "_npu_")) or name in {"argsort", "empty_with_format"}


def _wheel_schema(name: str) -> str | None:
    """The schema in the library of vLLM-Ascend's wheel, which holds them as text."""
    package = importlib.util.find_spec("vllm_ascend")
    for folder in (package.submodule_search_locations or []) if package else []:
        for library in Path(folder).glob("vllm_ascend_C*.so"):
            pattern = rb"\0(" + re.escape(name.encode()) + rb"\([^\0]*\) *-> *[^\0]+)\0"
            found = re.search(pattern, library.read_bytes())
            if found:
                return " ".join(found[1].decode().split())
    return None


class _Namespace(torch._ops._OpNamespace):
    """``torch.ops.NAME``, whose error for a missing operator is ours."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name.startswith("__"):
                raise
            raise missing_operator(f"torch.ops.{self.name}", name) from None


# Operators are named after the module of their namespace's class, and PyTorch's graphs
# print code with those names.
_Namespace.__module__ = torch._ops._OpNamespace.__module__


def watch(*namespaces: str) -> None:
    """Let ``torch.ops.NAMESPACE`` tell a missing operator; before any of it is used."""
    for name in namespaces:
        setattr(torch.ops, name, _Namespace(name))
