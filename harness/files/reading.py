"""Reading files that somebody else put there: a link may lead to a device that has no end, and a
FIFO is waited for for ever."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from harness.files import gzipped

#: Bytes of a file that are read at once.
_AT_ONCE = 1 << 16
#: Bytes of a compressed file that hold its first few, with the tables before them.
_HEAD_OF_GZIP = 1 << 12


def read_regular(path: Path, most: int) -> bytes:
    """The bytes of a regular file of at most ``most``.

    Raises:
        OSError: if it cannot be read, is not a regular file, or is longer.
    """
    handle = os.open(path, os.O_RDONLY | _FLAGS)
    with os.fdopen(handle, "rb") as stream, _named(path):
        _check(path, os.fstat(handle), most)
        data = stream.read(most + 1)  # a file that grows meanwhile, or of /proc
        if len(data) > most:
            raise _larger(most)
    return data


def _check(path: Path, found: os.stat_result, most: int) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(21, "Is a directory", str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(22, "is not a regular file", str(path))
    if found.st_size > most:
        raise _larger(most)


def _larger(most: int) -> OSError:
    return OSError(27, f"is larger than {most >> 20} MiB")


def read_parts(path: Path, most: int, inflated_most: int) -> Iterator[bytes]:
    """The content of a regular file of at most ``most`` bytes, part by part; of a compressed
    one (``harness.files.gzipped``) what it inflates to, at most ``inflated_most`` bytes.

    Raises:
        OSError: if it cannot be read, is not a regular file, is longer, or is damaged.
    """
    handle = os.open(path, os.O_RDONLY | _FLAGS)
    with os.fdopen(handle, "rb") as stream, _named(path):
        _check(path, os.fstat(handle), most)
        parts = _parts(stream, most)
        first = next(parts, b"")
        whole = chain((first,), parts)
        yield from gzipped.inflated(whole, inflated_most) if gzipped.is_gzipped(first) else whole


def _parts(stream: BinaryIO, most: int) -> Iterator[bytes]:
    left = most
    while part := stream.read(_AT_ONCE):
        left -= len(part)
        if left < 0:  # a file that grows meanwhile, or of /proc
            raise _larger(most)
        yield part


def read_head(path: Path, most: int) -> bytes:
    """The first bytes of a regular file, or of what a compressed one inflates to.

    Raises:
        OSError: if it cannot be read, or is not a regular file.
    """
    with _regular(path) as stream:
        head = stream.read(most)
        if not gzipped.is_gzipped(head):
            return head
        return gzipped.head_of(head + stream.read(_HEAD_OF_GZIP), most)


def is_compressed(path: Path) -> bool:
    """Whether a regular file is compressed; see ``harness.files.gzipped``.

    Raises:
        OSError: if it cannot be read, or is not a regular file.
    """
    with _regular(path) as stream:
        return gzipped.is_gzipped(stream.read(len(gzipped.MAGIC)))


@contextmanager
def _regular(path: Path) -> Iterator[BinaryIO]:
    """A regular file, opened without waiting; its errors say which file it is.

    Raises:
        OSError: if it cannot be read, or is not a regular file.
    """
    handle = os.open(path, os.O_RDONLY | _FLAGS)
    with os.fdopen(handle, "rb") as stream, _named(path):
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise OSError(22, "is not a regular file", str(path))
        yield stream


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
