"""The header of a GGUF file, versions 2 and 3, read in plain Python.

Magic, counts, keys with values, a description of each tensor, the tensors' bytes. Such files
come from strangers, so every length is checked against the file before it is used, and an
array costs no more than its bytes.
"""

from __future__ import annotations

import math
import os
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from harness.errors import ModelError

#: The types of tensors by number: name, values in a block, bytes of a block (ggml's own table).
TYPES: dict[int, tuple[str, int, int]] = {
    **{0: ("F32", 1, 4), 1: ("F16", 1, 2), 30: ("BF16", 1, 2), 28: ("F64", 1, 8)},
    **{24: ("I8", 1, 1), 25: ("I16", 1, 2), 26: ("I32", 1, 4), 27: ("I64", 1, 8)},
    **{2: ("Q4_0", 32, 18), 3: ("Q4_1", 32, 20), 6: ("Q5_0", 32, 22), 7: ("Q5_1", 32, 24)},
    **{8: ("Q8_0", 32, 34), 9: ("Q8_1", 32, 36), 10: ("Q2_K", 256, 84), 11: ("Q3_K", 256, 110)},
    **{12: ("Q4_K", 256, 144), 13: ("Q5_K", 256, 176), 14: ("Q6_K", 256, 210)},
    **{15: ("Q8_K", 256, 292), 16: ("IQ2_XXS", 256, 66), 17: ("IQ2_XS", 256, 74)},
    **{18: ("IQ3_XXS", 256, 98), 19: ("IQ1_S", 256, 50), 20: ("IQ4_NL", 32, 18)},
    **{21: ("IQ3_S", 256, 110), 22: ("IQ2_S", 256, 82), 23: ("IQ4_XS", 256, 136)},
    **{29: ("IQ1_M", 256, 56), 34: ("TQ1_0", 256, 54), 35: ("TQ2_0", 256, 66)},
    39: ("MXFP4", 32, 17),
}
#: struct's letters of the values' types; 8 is a string, 9 an array.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
#: Arrays up to this length are kept; of longer ones only the length is.
_KEPT = 64
_MOST_KEYS, _MOST_TENSORS, _MOST_NAME = 65_536, 1_000_000, 65_535
_MOST_DIMENSIONS = 8
_MOST_HEADER = 512 << 20


@dataclass(frozen=True)
class Array:
    """An array of which the length alone is kept."""

    length: int


@dataclass(frozen=True)
class Tensor:
    """One tensor. ``shape`` as ggml has it: the innermost, so a matrix' inputs, first."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int

    @property
    def parameters(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class Header:
    """What a GGUF file says of itself; ``begin`` and ``end`` of tensors are in its data.

    Attributes:
        values: by key; long arrays as ``Array``.
        data: how many bytes of tensors the file holds.
    """

    path: Path
    values: dict[str, Any] = field(default_factory=dict)
    tensors: tuple[Tensor, ...] = ()
    data: int = 0

    def whole(self, key: str) -> int | None:
        """A value that is a whole number; None where there is none."""
        value = self.values.get(key)
        return value if type(value) is int else None


class _Damaged(Exception):
    """Something does not fit."""


class _Reader:
    """Numbers and strings from the front of a file."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream = stream
        self._left = min(size, _MOST_HEADER)
        self.at = 0

    def bytes(self, count: int) -> bytes:
        self._take(count)
        found = self._stream.read(count)
        if len(found) < count:
            raise _Damaged("the file ends within its header")
        return found

    def skip(self, count: int) -> None:
        self._take(count)
        self._stream.seek(count, os.SEEK_CUR)

    def _take(self, count: int) -> None:
        if count > self._left:
            raise _Damaged("its header is longer than the file, or than half a gigabyte")
        self._left -= count
        self.at += count

    def number(self, letter: str) -> Any:
        return struct.unpack("<" + letter, self.bytes(struct.calcsize("<" + letter)))[0]

    def text(self, most: int = 1 << 24) -> str:
        length = self.number("Q")
        if length > most:
            raise _Damaged(f"a string of {length:,} bytes")
        return self.bytes(length).decode("utf-8", "replace")

    def skip_text(self) -> None:
        self.skip(self.number("Q"))

    def value(self, kind: int) -> Any:
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind == _STRING:
            return self.text()
        if kind == _ARRAY:
            return self._array()
        raise _Damaged(f"a value of the unknown type {kind}")

    def _array(self) -> Any:
        kind, count = self.number("I"), self.number("Q")
        if kind == _ARRAY or (kind not in _SCALARS and kind != _STRING):
            raise _Damaged(f"an array of the type {kind}")
        if count <= _KEPT:
            return [self.value(kind) for _ in range(count)]
        if kind == _STRING:
            for _ in range(count):  # each takes eight bytes at least, so the file bounds it
                self.skip_text()
        else:
            self.skip(count * struct.calcsize("<" + _SCALARS[kind]))
        return Array(count)


def read_gguf(path: Path) -> Header:
    """Read a header.

    Raises:
        ModelError: if the file is not GGUF, is of another version, or is damaged.
    """
    try:
        with path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            return _read(path, _Reader(stream, size), size)
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from error
    except _Damaged as error:
        raise ModelError(
            f"{path}: a damaged GGUF file: {error}; download the file again"
        ) from error


def _read(path: Path, reader: _Reader, size: int) -> Header:
    if reader.bytes(4) != b"GGUF":
        raise _Damaged("it does not begin with GGUF")
    version = reader.number("I")
    if version not in (2, 3):
        swapped = version > 0xFFFF
        raise ModelError(
            f"{path}: GGUF {'of big-endian numbers' if swapped else f'version {version}'}, and "
            "versions 2 and 3 of little-endian numbers are read; convert it with llama.cpp"
        )
    tensors, keys = reader.number("Q"), reader.number("Q")
    if keys > _MOST_KEYS or tensors > _MOST_TENSORS:
        raise _Damaged(f"it would have {keys:,} keys and {tensors:,} tensors")
    values: dict[str, Any] = {}
    for _ in range(keys):
        key = reader.text(_MOST_NAME)
        if key in values:
            raise _Damaged(f"the key {key[:80]!r} is there twice")
        values[key] = reader.value(reader.number("I"))
    found = tuple(_tensor(reader) for _ in range(tensors))
    if len({tensor.name for tensor in found}) < len(found):
        raise _Damaged("a tensor is there twice")
    align = values.get("general.alignment", 32)
    if type(align) is not int or not 0 < align <= 1 << 20:
        raise _Damaged(f"general.alignment is {align!r}")
    begin = -(-reader.at // align) * align
    return Header(path, values, found, max(size - begin, 0))


def _tensor(reader: _Reader) -> Tensor:
    name, count = reader.text(_MOST_NAME), reader.number("I")
    if count > _MOST_DIMENSIONS:
        raise _Damaged(f"{name[:80]!r} would have {count:,} dimensions")
    shape = tuple(reader.number("Q") for _ in range(count))
    kind, begin = reader.number("I"), reader.number("Q")
    dtype, block, size = TYPES.get(kind, (f"type {kind}", 0, 0))
    parameters = math.prod(shape)
    if parameters >= 1 << 62 or begin >= 1 << 62:
        raise _Damaged(f"{name[:80]!r} would have {parameters} values")
    row = shape[0] if shape else 1
    if block and row % block:
        raise _Damaged(f"{name[:80]!r} has rows of {row}, not whole blocks of {dtype}")
    return Tensor(name, dtype, shape, begin, begin + (parameters // block * size if block else 0))
