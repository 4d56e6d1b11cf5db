"""One writer for one place: two harnesses on one file would mix their lines."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError

try:
    import fcntl
except ImportError:  # Windows has no flock, and no accelerator host either
    fcntl = None  # type: ignore[assignment]


def lock(descriptor: int, what: Path) -> None:
    """Lock an open file or folder until it is closed, or the process ends.

    Raises:
        HarnessError: if another process holds it.
    """
    if fcntl is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise HarnessError(
            f"{what}: another harness is writing there; wait for it, or choose another place"
        ) from None
    except OSError:
        return  # a network file system without locks: as good as it gets


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone; see :func:`lock`."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        lock(descriptor, folder)
        yield
    finally:
        os.close(descriptor)
