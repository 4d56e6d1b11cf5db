"""The backend ``hccl``: gloo, over the host's view of the tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

from torch_npu._device import lib

_COLLECTIVES = (
    "allreduce",
    "allgather",
    "_allgather_base",
    "allgather_into_tensor_coalesced",
    "broadcast",
    "reduce",
    "gather",
    "scatter",
    "reduce_scatter",
    "_reduce_scatter_base",
    "alltoall",
    "alltoall_base",
    "send",
    "recv",
    "barrier",
)


def register() -> None:
    """Make ``hccl`` the backend of ``npu``."""
    if not dist.is_available():
        return
    dist.Backend.register_backend("hccl", _make, extended_api=True, devices=["npu"])
    dist.is_hccl_available = lambda: True


def _make(options: Any, _: Any) -> dist.ProcessGroup:
    rank, size = options.group_rank, options.group_size
    gloo = dist.ProcessGroupGloo(options.store, rank, size, options.timeout)
    return _HcclOverGloo(gloo, rank, size)


def _host(tree: Any) -> Any:
    if isinstance(tree, torch.Tensor):
        return lib.host_alias(tree) if tree.device.type == "npu" else tree
    if isinstance(tree, (list, tuple)):
        return [_host(each) for each in tree]
    return tree


class _HcclOverGloo(dist.ProcessGroup):
    """A group whose collectives are gloo's on the same bytes."""

    def __init__(self, gloo: dist.ProcessGroup, rank: int, size: int) -> None:
        super().__init__(rank, size)
        self._gloo = gloo
        self._name = ""

    def getBackendName(self) -> str:  # noqa: N802 - PyTorch's name
        return "hccl"

    def _set_group_name(self, name: str) -> None:
        self._name = name

    def _get_backend(self, device: torch.device) -> _HcclOverGloo:
        return self  # one for all devices

    def get_hccl_comm_name(self, rank: int) -> str:
        """The name by which a card's kernels find the group; kernels here find none."""
        return "emulated"

    @property
    def group_name(self) -> str:
        """The name that PyTorch gave the group."""
        return self._name


def _forwarded(name: str) -> Callable[..., Any]:
    def collective(self: _HcclOverGloo, *args: Any, **kwargs: Any) -> Any:
        named = {key: _host(value) for key, value in kwargs.items()}
        return getattr(self._gloo, name)(*map(_host, args), **named)

    return collective


for _each in _COLLECTIVES:
    setattr(_HcclOverGloo, _each, _forwarded(_each))
