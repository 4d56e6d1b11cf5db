"""Reading files that somebody else put there: a link may lead to a device that has no end, and a
FIFO is waited for for ever."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a regular file of at most ``most``.

    Raises:
        OSError: if it cannot be read, is not a regular file, or is longer.
    """
    handle = os.open(path, os.O_RDONLY | _FLAGS)
    with os.fdopen(handle, "rb") as stream, _named(path):
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise IsADirectoryError(21, "Is a directory", str(path))
        if not stat.S_ISREG(found.st_mode):
            raise OSError(22, "is not a regular file", str(path))
        if found.st_size > most:
            raise OSError(27, f"is larger than {most >> 20} MiB", str(path))
        data = stream.read(most + 1)  # a file that grows meanwhile, or of /proc
    if len(data) > most:
        raise OSError(27, f"is larger than {most >> 20} MiB", str(path))
    return data


def read_head(path: Path, most: int) -> bytes:
    """The first bytes of a regular file.

    Raises:
        OSError: if it cannot be read, or is not a regular file.
    """
    handle = os.open(path, os.O_RDONLY | _FLAGS)
    with os.fdopen(handle, "rb") as stream, _named(path):
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(22, "is not a regular file", str(path))
        return stream.read(most)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Let an error of reading say which file it is of, as an error of opening does."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


#: A FIFO without a writer opens at once.
_FLAGS = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOCTTY", 0)


def check_regular(path: Path) -> None:
    """Check that a name leads to a regular file, before it is opened by a library.

    Raises:
        OSError: if it does not, or there is none.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(22, "is not a regular file", str(path))
