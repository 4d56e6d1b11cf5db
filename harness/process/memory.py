"""How this process gives memory back, and how much it may still take."""

from __future__ import annotations

import ctypes
from pathlib import Path

#: glibc's name of the option in ``mallopt``, and from how many bytes on a block is apart.
_M_MMAP_THRESHOLD, _APART = -3, 4 << 20


def keep_large_blocks_apart() -> bool:
    """Give blocks of 4 MiB and more back to the system as soon as they are free.

    glibc stops doing so once it has seen larger ones go. Work in blocks of many sizes then
    keeps twice the memory that it needs (measured: 4.2 GB in place of 2.9, in the same time).

    Returns:
        Whether this system's allocator has that option.
    """
    try:
        return bool(ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _APART))
    except (OSError, AttributeError, TypeError):
        return False  # not glibc


def available_bytes(system: Path = Path("/")) -> int | None:
    """Memory that this process may still take, of the host and of its container; None where
    the system does not say.

    Args:
        system: the root of the file system that holds ``proc`` and ``sys``.
    """
    known = [
        found
        for found in (_of_host(system / "proc/meminfo"), _of_group(system / "sys/fs/cgroup"))
        if found is not None
    ]
    return min(known, default=None)


def _of_host(meminfo: Path) -> int | None:
    try:
        lines = meminfo.read_text("ascii").splitlines()
        [found] = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
        return int(found) * 1024
    except (OSError, ValueError, IndexError):
        return None


def _of_group(folder: Path) -> int | None:
    """What is left below the limit of this container; the system may drop its cached files."""
    try:
        limit = int((folder / "memory.max").read_text("ascii"))  # or "max": no limit
        taken = int((folder / "memory.current").read_text("ascii"))
        counts = dict(
            line.split() for line in (folder / "memory.stat").read_text("ascii").splitlines()
        )
        return max(0, limit - taken + int(counts.get("inactive_file", 0)))
    except (OSError, ValueError):
        return None
