"""What the tests of the emulated NPU share. They run in the environment of ``install.py``."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


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


Python = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def python(npu: Any) -> Python:
    """Run a program with this Python, and with other variables of the emulation."""

    def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )

    return run
