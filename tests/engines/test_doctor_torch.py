"""The doctor on this machine, with what is really installed."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from needed import needed

from harness.doctor import Host, diagnose

pytestmark = pytest.mark.engine
needed("torch", "transformers")


def test_the_cpu_device_is_ready() -> None:
    import torch

    diagnosis = diagnose("hf-cpu")
    assert diagnosis.errors == ()
    assert diagnosis.facts["computation"]["64 × 64 bfloat16"] == "right"
    assert diagnosis.facts["software"]["torch"] == torch.__version__


@pytest.mark.skipif(any(Path("/dev").glob("davinci*")), reason="there is a card")
def test_the_npu_is_not_ready_without_one() -> None:
    diagnosis = diagnose("npu")
    assert "npu-missing" in [f.code for f in diagnosis.errors]
    assert diagnosis.status == 1


@pytest.fixture
def without_cann(tmp_path: Path) -> Host:
    """This machine with a torch_npu whose import fails as without CANN: the real
    torch loads it by its entry point, and fails with it."""
    package = tmp_path / "torch_npu"
    package.mkdir()
    (package / "__init__.py").write_text(
        'raise ImportError("libhccl.so: cannot open shared object file: No such file")\n'
    )
    metadata = tmp_path / "torch_npu-2.9.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: torch-npu\nVersion: 2.9.0\n")
    (metadata / "entry_points.txt").write_text(
        "[torch.backends]\ntorch_npu = torch_npu:_autoload\n"
    )
    path = os.pathsep.join(filter(None, (str(tmp_path), os.environ.get("PYTHONPATH"))))
    environment = {**os.environ, "PYTHONPATH": path}
    environment.pop("TORCH_DEVICE_BACKEND_AUTOLOAD", None)
    return Host(environment=environment)


def test_torch_npu_without_cann_breaks_torch_and_is_told(without_cann: Host) -> None:
    codes = [f.code for f in diagnose("hf-npu", without_cann).findings]
    assert "cann-environment" in codes
    assert "import-failed" not in codes
    (found,) = diagnose("hf-cpu", without_cann).findings
    assert found.code == "backend-extension"
    assert "libhccl.so" in found.seen


def test_without_autoloading_torch_works_and_transformers_still_imports_it(
    without_cann: Host,
) -> None:
    variable = {"TORCH_DEVICE_BACKEND_AUTOLOAD": "0"}
    host = replace(without_cann, environment={**without_cann.environment, **variable})
    diagnosis = diagnose("hf-cpu", host)
    assert diagnosis.facts["computation"]["64 × 64 bfloat16"] == "right"
    assert [f.code for f in diagnosis.findings] == ["backend-extension"]
