"""The few things of torch_npu's extension module that vLLM-Ascend names."""

from torch import Tensor

from torch_npu._device import lib
from torch_npu.npu.graphs import TaskGroup as _NPUTaskGroupHandle


def _weak_ref_tensor(tensor: Tensor) -> Tensor:
    """The same bytes, which it does not keep alive."""
    return lib.weak_ref(tensor)
