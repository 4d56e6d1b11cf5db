"""The folder through which rows leave the engine's worker, and its owner.

Its owner holds a lock on a file in it until it ends, however it ends. So the next
start knows a folder that a killed run left behind, and an engine in a process of its
own notices that the harness has ended. A lock, not a process id: ids are
reused, and containers that share a folder number their processes apart.

Rows go where ``TMPDIR`` says and not to /dev/shm: a container's holds 64 MiB, which
two long requests fill. Rows that are read back at once seldom reach a disk.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

_PREFIX = "harness-rows-"
_LOCK = "owner"
_CAUSE = "cause"
#: Where Linux keeps the shared memory of processes.
_MEMORY = Path("/dev/shm")  # noqa: S108 - vLLM's files are only looked for there
#: Begins the names of empty files that name shared memory.
_SHARED = "shared-"
_SHARED_NAME = re.compile(r"\w+")
#: Tells the engine's processes which folder is theirs.
_VARIABLE = "HARNESS_ROWS"
#: A folder without a lock is left alone this long: its owner may be making it.
_YOUNG_S = 600.0
_POLL_S = 1.0

#: This process's own folders, by process id: a fork copies the table, not the locks.
_MINE: dict[str, int] = {}


class Spool:
    """A private folder for the rows of one device; ``close`` removes it.

    Making one removes the folders that killed runs left in the same place.
    """

    def __init__(self) -> None:
        sweep(Path(tempfile.gettempdir()))
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
        _MINE[str(self.folder)] = os.getpid()
        # A lock of POSIX, which no child inherits; gone with the descriptor.
        self._lock = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
        _take(self._lock)
        os.environ[_VARIABLE] = str(self.folder)

    def file(self, name: str) -> str:
        """The file for the rows of a request."""
        return str(self.folder / name)

    def cause(self) -> str | None:
        """Why the engine died, if one of its processes could still say so."""
        with suppress(OSError):
            return (self.folder / _CAUSE).read_text("utf-8", "replace").strip() or None
        return None

    def close(self) -> None:
        _free_shared(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        os.close(self._lock)
        _MINE.pop(str(self.folder), None)


def own_folder() -> str | None:
    """In a process of the engine: the folder that its requests' rows go to."""
    return os.environ.get(_VARIABLE)


def is_owner() -> bool:
    """Whether this process is the harness itself, where the engine may run as well."""
    folder = own_folder()
    return folder is not None and _MINE.get(folder) == os.getpid()


def leave_cause(line: str) -> None:
    """In a process of the engine: say why it ends, for ``Spool.cause``. The first counts."""
    folder = own_folder()
    with suppress(OSError):
        if folder is not None:
            with open(Path(folder) / _CAUSE, "x", encoding="utf-8") as file:
                file.write(line)


def leave_shared(name: str | None) -> None:
    """In a process of the engine: say how the names of its shared memory begin.

    vLLM's CPU engine leaves 4 MiB of each rank behind, and a container's /dev/shm holds 64.
    """
    folder = own_folder()
    if folder is not None and name and _SHARED_NAME.fullmatch(name):
        with suppress(OSError):
            (Path(folder) / f"{_SHARED}{name}").touch()


def _free_shared(folder: Path) -> None:
    """Remove the shared memory of an engine that has ended, and the file where its ranks met."""
    for left in folder.glob(f"{_SHARED}*"):
        name = left.name.removeprefix(_SHARED)
        for file in (folder.parent / name, *_MEMORY.glob(f"{name}-*cpushm_*")):
            with suppress(OSError):
                file.unlink()


def on_another_host() -> bool:
    """In a process of the engine: whether the harness, and its folder, are on another host."""
    folder = own_folder()
    return folder is not None and not (Path(folder) / _LOCK).exists()


def join_host() -> None:
    """In a process of the engine on another host: make a folder of the same name there."""
    folder = own_folder()
    if folder is not None:
        Path(folder).mkdir(mode=0o700, exist_ok=True)


def leave_host() -> None:
    """The other end of ``join_host``; does nothing on the harness's own host."""
    folder = own_folder()
    if folder is not None and on_another_host():
        _free_shared(Path(folder))
        shutil.rmtree(folder, ignore_errors=True)


def end_with_owner() -> None:
    """End this process of the engine soon after the harness that started it.

    Nothing happens in the harness itself, where the engine may run as well.
    """
    folder = own_folder()
    if folder is None or is_owner():
        return

    def watch() -> None:
        while not _ownerless(Path(folder)):
            time.sleep(_POLL_S)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="harness-owner-watch", daemon=True).start()


def sweep(parent: Path) -> None:
    """Remove the folders in ``parent`` that have no owner any more."""
    for folder in parent.glob(f"{_PREFIX}*"):
        if _MINE.get(str(folder)) == os.getpid():
            continue
        with suppress(OSError):  # somebody else's, or removed meanwhile
            young = time.time() - folder.stat().st_mtime < _YOUNG_S
            if ((folder / _LOCK).exists() or not young) and _ownerless(folder):
                _free_shared(folder)
                shutil.rmtree(folder)


def _ownerless(folder: Path) -> bool:
    """Whether no process holds the folder's lock.

    The owner must not call this: closing a second descriptor drops its lock.
    """
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDWR)
    except FileNotFoundError:
        return True
    except OSError:
        return False  # somebody else's
    try:
        return _take(descriptor)
    finally:
        os.close(descriptor)


def _take(descriptor: int) -> bool:
    """Lock a file, if no other process has; False where the system has no such locks."""
    try:
        import fcntl  # not on Windows, where vLLM does not run either
    except ImportError:
        return False
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
