"""torchair as far as vLLM-Ascend patches and calls it: graphs run eagerly."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from torchair import core, fx_summary, npu_fx_compiler


class CompilerConfig:
    """Options, which nobody reads."""

    def __init__(self) -> None:
        self.mode = "max-autotune"
        self.debug = SimpleNamespace(run_eagerly=False, aclgraph=SimpleNamespace())
        self.experimental_config = SimpleNamespace(aclgraph=SimpleNamespace())


def get_npu_backend(*, compiler_config: Any = None, **_: Any) -> Callable[..., Any]:
    """A backend of ``torch.compile`` that runs each graph as it is."""
    # Late: it loads much of torch.compile.
    from torch._dynamo.backends.common import aot_autograd

    return aot_autograd(fw_compiler=lambda graph, inputs: graph)


def register_replacement(**_: Any) -> None:
    """Nothing: patterns are for torchair's own fusion, which is not emulated."""
