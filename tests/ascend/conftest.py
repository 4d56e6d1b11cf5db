"""What the tests of the emulated NPU share. They run in the environment of ``install.py``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from typing import Any

import pytest
from npu_commands import Run, run


@pytest.fixture(scope="session")
def npu() -> Any:
    """The module ``torch_npu``, with the operators of vLLM-Ascend's library registered."""
    if importlib.util.find_spec("vllm_ascend") is None:
        pytest.skip("vllm_ascend is not installed: tests/ascend/install.py makes its environment")
    import torch_npu
    import vllm_ascend.vllm_ascend_C  # noqa: F401 - it registers

    assert hasattr(torch_npu, "calls"), "this is the real torch_npu, which these tests are not for"
    return torch_npu


@pytest.fixture(autouse=True)
def no_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test chooses its own fault."""
    monkeypatch.delenv("NPU_EMU_FAULT", raising=False)


Python = Callable[..., Run]


@pytest.fixture
def python(npu: Any) -> Python:
    """Run a program with this Python, and with other variables of the emulation."""

    def run_code(code: str, **variables: str) -> Run:
        return run(sys.executable, "-c", code, **variables)

    return run_code
