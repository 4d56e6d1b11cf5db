"""Which machine this is, as far as timings depend on it, and its peak memory."""

from __future__ import annotations

import hashlib
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.devices.environment import peak_rss_bytes, processor_name
from harness.devices.facts import EnvironmentValue


def machine_fingerprint(environment: Mapping[str, EnvironmentValue]) -> str:
    """A short digest of the host: timings with another one are not comparable.

    Processor, number of processors that this process may use, memory,
    accelerator and the host's name (as a digest, never in clear).
    """
    parts = [
        processor_name(),
        str(usable_processors()),
        str(_memory_bytes() >> 28),  # quarters of a GiB: firmware takes a little more or less
        str(environment.get("accelerator")),
        platform.machine(),
        platform.node(),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def usable_processors() -> int:
    """How many processors this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0


def forget_peak() -> None:
    """Reset the host's peak memory, where Linux allows it."""
    try:
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    except OSError:
        return


def peak_host_bytes() -> int | None:
    """The most memory of this process since ``forget_peak``, bytes."""
    try:
        status = Path("/proc/self/status").read_text("ascii", "replace")
    except OSError:
        whole = peak_rss_bytes()
        return None if whole is None else int(whole)
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


def peak_device_bytes(torch: Any) -> int | None:
    """The most memory of the accelerator that torch allocated, bytes."""
    for name in ("npu", "cuda"):
        backend = getattr(torch, name, None)
        if backend is not None and backend.is_available():
            return int(backend.max_memory_allocated())
    return None
