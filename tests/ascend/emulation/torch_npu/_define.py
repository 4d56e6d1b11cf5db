"""Registers an operator: its schema is the card's, its body plain PyTorch on the host."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_map

from torch_npu import faults
from torch_npu._device import lib

Body = Callable[..., Any]

#: vLLM-Ascend's own operators are of this namespace.
WHEEL = "_C_ascend"
#: What ``torch_npu`` exports: name to operator.
public: dict[str, Any] = {}

_libraries: dict[str, torch.library.Library] = {}
#: Operators of the wheel's library, until that is imported.
_waiting: list[Callable[[], None]] = []


def operator(namespace: str, schema: str, fake: Body | None = None) -> Callable[[Body], Body]:
    """Decorates the body, which is given host tensors over the device's memory.

    Tensors that it returns become the device's; those it changes in place are changed.

    Args:
        namespace: ``npu``, ``atb`` (NNAL's) or ``_C_ascend`` (vLLM-Ascend's), under
            ``torch.ops``. Those of the first two are exported by ``torch_npu``, too; those
            of the last are registered when vLLM-Ascend's library is imported.
        schema: the card's.
        fake: gives outputs of the right shape when a graph is traced; without it the
            operator returns nothing.
    """

    def register(body: Body) -> Body:
        if namespace == WHEEL:
            _waiting.append(lambda: _define(namespace, schema, body, fake))
        else:
            packet = _define(namespace, schema, body, fake)
            public[packet.__name__] = packet
        return body

    return register


def register_wheel_operators() -> None:
    """Register what waits for the import of vLLM-Ascend's library."""
    while _waiting:
        _waiting.pop()()


def _define(namespace: str, schema: str, body: Body, fake: Body | None) -> Any:
    if namespace not in _libraries:
        _libraries[namespace] = torch.library.Library(namespace, "FRAGMENT")
    library = _libraries[namespace]
    name = schema.partition("(")[0]
    library.define(schema)
    library.impl(name, _kernel(f"{namespace}::{schema}", body), "PrivateUse1")
    library.impl(name, fake or (lambda *_, **__: None), "Meta")
    return getattr(getattr(torch.ops, namespace), name.partition(".")[0])


def _kernel(schema: str, body: Body) -> Body:
    parsed = torch._C.parse_schema(schema)
    name = parsed.name.rpartition("::")[2]

    def kernel(*args: Any, **kwargs: Any) -> Any:
        host_args, host_kwargs = tree_map(_to_host, (args, kwargs))
        fault = faults.spoils(name)
        with torch._C._AutoDispatchBelowAutograd():
            if fault:
                given = _by_name(parsed, host_args, host_kwargs)
                return tree_map(_to_npu, faults.spoiled(fault, body, given))
            return tree_map(_to_npu, body(*host_args, **host_kwargs))

    return kernel


def _by_name(schema: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
    """Every argument of a schema, defaults among them."""
    given = {a.name: a.default_value for a in schema.arguments}
    return {**given, **dict(zip(given, args, strict=False)), **kwargs}


def _to_host(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor) and leaf.device.type == "npu":
        return lib.host_alias(leaf)
    return leaf


def _to_npu(leaf: Any) -> Any:
    if isinstance(leaf, torch.Tensor) and leaf.device.type == "cpu":
        return lib.npu_alias(leaf)
    return leaf
