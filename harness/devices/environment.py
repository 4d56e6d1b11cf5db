"""Where a device runs: versions, processor, process, and the variables that decide bits."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

from harness.devices.facts import EnvironmentValue
from harness.doctor.probes.cann import installed_cann
from harness.model.hub import DISTRIBUTION
from harness.process.checkout import commit_of

#: Variables that choose kernels, and so bits. Shown when set.
_VARIABLES = (
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "MKL_ENABLE_INSTRUCTIONS",
    "NVIDIA_TF32_OVERRIDE",
    "CUBLAS_WORKSPACE_CONFIG",
    "ASCEND_LAUNCH_BLOCKING",
    "HCCL_DETERMINISTIC",
    "LCCL_DETERMINISTIC",
    "ATB_MATMUL_SHUFFLE_K_ENABLE",
    "ATB_LLM_LCOC_ENABLE",
    "CLOSE_MATMUL_K_SHIFT",
)


def environment(
    torch: Any, backend: str, accelerator: str | None = None
) -> dict[str, EnvironmentValue]:
    """Versions, processor, accelerator and the variables that choose kernels.

    Args:
        backend: ``cpu``, ``cuda`` or ``npu``.
        accelerator: the card's name, where another process holds it; asking for it here
            would take memory of it.
    """
    found: dict[str, EnvironmentValue] = {
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.release()} {platform.machine()}",
        "processor": processor_name(),
        "harness": _version(DISTRIBUTION),
        "torch": str(torch.__version__),
        "transformers": _version("transformers"),
        "numpy": _version("numpy"),
    }
    if backend == "cuda":
        found["accelerator"] = accelerator or str(torch.cuda.get_device_name())
        found["cuda"] = torch.version.cuda or getattr(torch.version, "hip", None)
    if backend == "npu":
        found["accelerator"] = accelerator or str(torch.npu.get_device_name())
        found["torch_npu"] = _version("torch_npu") or _version("torch-npu")
        found["cann"] = installed_cann() or getattr(torch.version, "cann", None)
    found.update({name: os.environ[name] for name in _VARIABLES if name in os.environ})
    found.update(commits(DISTRIBUTION, "torch", "transformers"))
    return {name: value for name, value in found.items() if value is not None}


def commits(*distributions: str) -> dict[str, EnvironmentValue]:
    """The commits of those that run from a checkout, whose version alone says little."""
    found = {_name(each): commit_of(each) for each in distributions}
    return {f"{name}_commit": commit for name, commit in found.items() if commit is not None}


def _name(distribution: str) -> str:
    return "harness" if distribution == DISTRIBUTION else distribution.replace("-", "_")


def instruction_set(torch: Any, backend: str) -> str | None:
    """The CPU's vector instructions in use, or the accelerator's architecture."""
    if backend == "cpu":
        return str(torch.backends.cpu.get_cpu_capability())
    if backend == "cuda":
        major, minor = torch.cuda.get_device_capability()
        return f"sm_{major}{minor}"
    return None


def processor_name() -> str:
    """The processor's marketing name, if the system gives it."""
    try:
        with open("/proc/cpuinfo", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                key, _, value = line.partition(":")
                if key.strip().lower() in ("model name", "cpu model", "hardware"):
                    return value.strip()
    except OSError:
        pass  # not Linux
    return platform.processor() or platform.machine()


def peak_rss_bytes() -> float | None:
    """The most memory that this process has held, or None where it is not known."""
    try:
        import resource
    except ImportError:  # Windows
        return None
    peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else peak * 1024  # macOS counts bytes


def _version(distribution: str) -> str | None:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return None
