"""One writer at a time: two processes that write one file would mix their lines."""

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
    if try_lock(descriptor) is False:
        raise _taken(what)


def try_lock(descriptor: int, *, wait: bool = False) -> bool | None:
    """Lock an open file or folder until it is closed, or the process ends.

    Args:
        descriptor: of the file or folder.
        wait: for a process that holds it; else the answer is False then.

    Returns:
        Whether it is ours; None where there are no locks (Windows, some
        network file systems).
    """
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True


@contextmanager
def held_folder(folder: Path) -> Iterator[bool | None]:
    """Try to lock a folder for the length of the block; yields what :func:`try_lock` says.

    Raises:
        OSError: if there is no such folder.
    """
    if fcntl is None:  # Windows opens no folders
        yield None
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield try_lock(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked_folder(folder: Path) -> Iterator[None]:
    """Hold a folder for this process alone.

    Raises:
        HarnessError: if another process holds it.
    """
    with held_folder(folder) as held:
        if held is False:
            raise _taken(folder)
        yield


def _taken(what: Path) -> HarnessError:
    return HarnessError(
        f"{what}: another harness is writing there; wait for it, or choose another place"
    )
