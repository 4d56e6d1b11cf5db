"""Environment variables and the working directory."""

from __future__ import annotations

import os
from itertools import pairwise

from harness.doctor.examination import Examination
from harness.doctor.numbers import whole

#: What makes an Ascend card repeat itself.
DETERMINISM = {
    "HCCL_DETERMINISTIC": ("true", "strict"),
    "LCCL_DETERMINISTIC": ("1",),
    "ATB_MATMUL_SHUFFLE_K_ENABLE": ("0",),
    "ATB_LLM_LCOC_ENABLE": ("0",),
    "CLOSE_MATMUL_K_SHIFT": ("1",),
}
_SHOWN = (
    *("ASCEND_RT_VISIBLE_DEVICES", "ASCEND_VISIBLE_DEVICES"),
    *("NPU_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES"),
    *DETERMINISM,
    *("ASCEND_LAUNCH_BLOCKING", "VLLM_BATCH_INVARIANT", "VLLM_ASCEND_ENABLE_NZ"),
    *("TORCH_DEVICE_BACKEND_AUTOLOAD", "VLLM_PLUGINS", "VLLM_VERSION"),
    *("HCCL_CONNECT_TIMEOUT", "HCCL_IF_BASE_PORT", "OMP_NUM_THREADS"),
    *("VLLM_CPU_KVCACHE_SPACE", "VLLM_CPU_OMP_THREADS_BIND", "ATEN_CPU_CAPABILITY"),
)


def examine(exam: Examination) -> None:
    """Variables of the device asked about, and whether the directory is writable."""
    for name in _SHOWN:
        value = exam.host.variable(name)
        exam.fact("variables", name, None if value is None else value or "(empty)")
    paths = [p for p in (exam.host.variable("LD_LIBRARY_PATH") or "").split(os.pathsep) if p]
    ascend = sum("ascend" in p.lower() or "cann" in p.lower() for p in paths)
    exam.fact("variables", "LD_LIBRARY_PATH", f"{len(paths)} folders, {ascend} of Ascend")
    if exam.for_npu:
        _visible_devices(exam)
        if exam.has_card:
            _determinism(exam)
        _working_directory(exam)
        _plugins(exam)


def _of_the_runtime(exam: Examination) -> None:
    """Where the container runtime read the variable, no more cards are there than it names."""
    value = exam.host.variable("ASCEND_VISIBLE_DEVICES")
    named = None if value is None else _named(value)
    there = len(exam.nodes) or len(exam.chips)
    if named is not None and there > named:
        exam.find(
            "ascend-visible-devices",
            f"ASCEND_VISIBLE_DEVICES={value}, and {there} cards are visible",
        )


def _named(value: str) -> int | None:
    """How many cards a list such as ``0-3,5`` names; None where it is another word."""
    total = 0
    for part in value.split(","):
        first, dash, last = (word.strip() for word in part.partition("-"))
        ends = (first, last) if dash else (first, first)
        if not all(end.isascii() and end.isdecimal() and len(end) <= 4 for end in ends):
            return None
        total += max(0, int(ends[1]) - int(ends[0]) + 1)
    return total


def _visible_devices(exam: Examination) -> None:
    if exam.host.variable("NPU_VISIBLE_DEVICES") is not None:
        exam.find(
            "npu-visible-devices",
            f"NPU_VISIBLE_DEVICES={exam.host.variable('NPU_VISIBLE_DEVICES')}",
        )
    _of_the_runtime(exam)
    value = exam.host.variable("ASCEND_RT_VISIBLE_DEVICES")
    if value is None:
        return
    shown = f"ASCEND_RT_VISIBLE_DEVICES={value}"
    parts = [part.strip() for part in value.split(",")]
    ids = [number for part in parts if (number := whole(part)) is not None]
    if len(ids) < len(parts):
        exam.find("visible-devices", f"{shown or 'empty'} is not a list of numbers")
        return
    count = len(exam.nodes) or len(exam.chips)
    if any(b <= a for a, b in pairwise(ids)):
        exam.find("visible-devices", f"{shown} is not ascending")
    elif count and ids[0] >= count:
        exam.find("visible-devices", f"{shown}, but there are {count}: ids 0 to {count - 1}")
    elif count and ids[-1] >= count:
        kept = ",".join(str(i) for i in ids if i < count)
        exam.find(
            "visible-devices-shortened",
            f"{shown}, but there are {count}: ids 0 to {count - 1}",
            share=kept,
        )


def _determinism(exam: Examination) -> None:
    wrong = {
        name: good[0]
        for name, good in DETERMINISM.items()
        if (exam.host.variable(name) or "").lower() not in good
    }
    if wrong:
        seen = ", ".join(
            f"{name}={exam.host.variable(name)}" if exam.host.variable(name) else f"{name} not set"
            for name in wrong
        )
        exports = " ".join(f"{name}={value}" for name, value in wrong.items())
        exam.find("determinism", seen, exports=exports)
    if exam.host.variable("ASCEND_LAUNCH_BLOCKING") == "1":
        exam.find("launch-blocking", "ASCEND_LAUNCH_BLOCKING=1")


def _working_directory(exam: Examination) -> None:
    if not exam.host.may_use(exam.host.cwd):
        exam.find("kernel-meta", "the working directory is not writable")


def _plugins(exam: Examination) -> None:
    plugins = exam.host.variable("VLLM_PLUGINS")
    if exam.needs.platform == "npu" and plugins is not None:
        names = [name.strip() for name in plugins.split(",")]
        if "ascend" not in names:
            exam.find("vllm-plugins", f"VLLM_PLUGINS={plugins or '(empty)'}")
