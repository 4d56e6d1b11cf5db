"""Compressed files: gzip (RFC 1952), read by what a file begins with, written by its name.

The bytes depend on the content alone: no name and no time stand in the header.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

#: How a gzip file begins; no JSON does.
MAGIC = b"\x1f\x8b"
#: The end of the name of a compressed file.
SUFFIX = ".gz"
#: A file may inflate to so many times its size, and a small one to ``_FREELY`` bytes: JSON of
#: this project inflates to 1.3 to 10 times its size, and a bomb to a thousand.
MOST_TIMES = 100
_FREELY = 16 << 20
#: Parts that were compressed one by one, as tools for several processors do.
_MOST_MEMBERS = 100_000
#: Bytes that are inflated at once.
_AT_ONCE = 1 << 20
_HEADER = MAGIC + b"\x08" + bytes(6) + b"\xff"
_LEVEL = 6


class NotGzip(OSError):
    """Compressed data that is damaged, ends too early, or inflates to too much."""


def is_gzipped(head: bytes) -> bool:
    """Whether a file that begins so is compressed."""
    return head.startswith(MAGIC)


def name_of(path: Path) -> Path:
    """The path without the ending of a compressed file: ``a.json`` for ``a.json.gz``."""
    return path.with_suffix("") if path.suffix.lower() == SUFFIX else path


def for_path(path: Path, parts: Iterable[bytes]) -> Iterable[bytes]:
    """What a file of that name holds: compressed where the name ends in ``.gz``."""
    return deflated(parts) if path.suffix.lower() == SUFFIX else parts


def deflated(parts: Iterable[bytes]) -> Iterator[bytes]:
    """A gzip file of these bytes, part by part."""
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -zlib.MAX_WBITS)
    checksum, size = 0, 0
    yield _HEADER
    for part in parts:
        checksum, size = zlib.crc32(part, checksum), size + len(part)
        if packed := packer.compress(part):
            yield packed
    yield packer.flush() + struct.pack("<II", checksum, size & 0xFFFFFFFF)


def inflated(parts: Iterable[bytes], most: int) -> Iterator[bytes]:
    """The content of a gzip file, of one member or several, part by part.

    No more is held at once than a part and the megabyte that is inflated from it.

    Args:
        parts: the file, in order.
        most: bytes that the content may have.

    Raises:
        NotGzip: if it is damaged, ends too early, or holds more than ``most`` or
            ``MOST_TIMES`` times its own size.
    """
    unpacker, members, read, made = zlib.decompressobj(31), 1, 0, 0
    for part in parts:
        read, rest = read + len(part), part
        while rest:
            if unpacker.eof:
                rest = rest.lstrip(b"\0")  # what a tape was filled up with
                if not rest:
                    break
                unpacker, members = zlib.decompressobj(31), members + 1
            content = _next(unpacker, rest)
            rest = unpacker.unconsumed_tail or unpacker.unused_data
            made += len(content)
            _refuse_more(made, read, most)
            if members > _MOST_MEMBERS:
                raise NotGzip(27, f"has more than {_MOST_MEMBERS:,} compressed parts")
            yield content
    if not unpacker.eof:
        raise NotGzip(5, "its compressed data ends too early, copy the file again")


def head_of(data: bytes, most: int) -> bytes:
    """The first bytes of what a gzip file inflates to, at most so many, as far as its own first
    bytes tell; nothing where they are damaged."""
    try:
        return zlib.decompressobj(31).decompress(data, most)
    except zlib.error:
        return b""


def _next(unpacker: zlib._Decompress, data: bytes) -> bytes:
    try:
        return unpacker.decompress(data, _AT_ONCE)
    except zlib.error as error:
        raise NotGzip(5, "its compressed data is damaged, copy the file again") from error


def _refuse_more(made: int, read: int, most: int) -> None:
    if made > most:
        raise NotGzip(27, f"inflates to more than {most >> 20} MiB")
    if made > max(_FREELY, MOST_TIMES * read):
        raise NotGzip(
            27, f"inflates to more than {MOST_TIMES} times its size, as no such file does"
        )
