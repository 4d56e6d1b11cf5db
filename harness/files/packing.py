"""Arrays as short JSON strings: a type code, a space, base64 little-endian.

An array is written in the narrowest type that holds every value exactly
(float64 as it is), so the logits of a bfloat16 model take two bytes and the
ids of a small vocabulary two, and reading gives the same bits back.

====  =========================================
code  item
====  =========================================
u1 u2 u3 u4  unsigned integer of that many bytes
i4           signed integer
b2           the upper half of a float32 (bfloat16)
f2 f4 f8     IEEE floating point
====  =========================================

A ``z`` behind the code (``f4z``) says that the bytes stand in planes, all
first bytes before all second ones, and are deflated (RFC 1951): the exponents
of one row's logits are alike. It is taken where that is
shorter, from 64 bytes on.
"""

from __future__ import annotations

import base64
import binascii
import math
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FLOATS: dict[str, np.dtype[Any]] = {
    "f2": np.dtype("<f2"),
    "f4": np.dtype("<f4"),
    "f8": np.dtype("<f8"),
}
_WORTH_DEFLATING = 64  # bytes
_WIDTHS = {"u1": 1, "u2": 2, "u3": 3, "u4": 4}


def pack(array: NDArray[np.generic]) -> str:
    """An integer or floating array as a string; its shape is not kept.

    Raises:
        ValueError: if a value is not finite or an integer beyond 32 bits, or
            the array holds neither integers nor floats of at most 64 bits.
    """
    flat = np.ravel(array)
    if np.issubdtype(flat.dtype, np.integer):
        code, data = _pack_integers(flat)
    elif not np.issubdtype(flat.dtype, np.floating) or flat.dtype.itemsize > 8:
        raise ValueError(f"an array of {flat.dtype} cannot be written")
    else:
        if not np.isfinite(flat).all():
            raise ValueError("an array with NaN or infinities cannot be written")
        code, data = _pack_floats(flat)
    squeezed = _deflated(code, data) if len(data) >= _WORTH_DEFLATING else data
    if len(squeezed) < len(data):
        code, data = f"{code}z", squeezed
    return f"{code} {base64.b64encode(data).decode('ascii')}"


def unpack(text: str, dtype: str, shape: tuple[int, ...]) -> NDArray[np.generic]:
    """The array that :func:`pack` wrote, in ``dtype`` and ``shape``.

    Raises:
        ValueError: if the string is malformed, does not fill the shape, or
            holds values that ``dtype`` cannot hold.
    """
    code, _, encoded = text.partition(" ")
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError) as error:
        raise ValueError("is not base64") from error
    size = math.prod(shape)
    if code.endswith("z"):
        code = code[:-1]
        data = _inflated(data, _width(code), size)
    flat = _decode(code, data)
    if flat.size != size:
        raise ValueError(f"holds {flat.size} values, {size} expected")
    wanted = np.dtype(dtype)
    if np.issubdtype(wanted, np.integer):
        limits = np.iinfo(wanted)
        if not np.issubdtype(flat.dtype, np.integer):
            raise ValueError("holds fractions where integers are expected")
        if flat.size and (flat.min() < limits.min or flat.max() > limits.max):
            raise ValueError(f"holds values beyond {wanted}")
    elif np.issubdtype(flat.dtype, np.integer) or not np.isfinite(flat).all():
        raise ValueError("holds no finite floating-point values")
    elif flat.dtype.itemsize > wanted.itemsize:
        raise ValueError(f"holds values wider than {wanted}")
    return flat.astype(wanted).reshape(shape)


def _pack_integers(flat: NDArray[Any]) -> tuple[str, bytes]:
    low, high = (int(flat.min()), int(flat.max())) if flat.size else (0, 0)
    if low < 0:
        if low < -(2**31) or high >= 2**31:
            raise ValueError("an integer does not fit 32 bits")
        return "i4", flat.astype("<i4").tobytes()
    for code, width in _WIDTHS.items():
        if high < 256**width:
            wide = flat.astype("<u4").view(np.uint8).reshape(-1, 4)
            return code, wide[:, :width].tobytes()
    raise ValueError("an integer does not fit 32 bits")


def _pack_floats(flat: NDArray[np.generic]) -> tuple[str, bytes]:
    if flat.dtype.itemsize == 8:
        return "f8", flat.astype("<f8").tobytes()
    single = flat.astype("<f4")
    bits = single.view("<u4")
    if not (bits & 0xFFFF).any():
        return "b2", (bits >> 16).astype("<u2").tobytes()
    with np.errstate(over="ignore"):
        half = single.astype("<f2")
    if (half.astype("<f4").view("<u4") == bits).all():
        return "f2", half.tobytes()
    return "f4", single.tobytes()


def _deflated(code: str, data: bytes) -> bytes:
    planes = np.frombuffer(data, np.uint8).reshape(-1, _width(code)).T.tobytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(planes) + packer.flush()


def _inflated(data: bytes, width: int, size: int) -> bytes:
    """Never more than was expected: a few bytes can claim gigabytes."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        planes = unpacker.decompress(data, size * width + 1)
    except zlib.error as error:
        raise ValueError("is not deflated") from error
    if len(planes) != size * width or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"does not hold the {size} values expected")
    return bytes(np.frombuffer(planes, np.uint8).reshape(width, size).T.tobytes())


def _width(code: str) -> int:
    others = {"i4": 4, "b2": 2, "f2": 2, "f4": 4, "f8": 8}
    width = _WIDTHS.get(code) or others.get(code)
    if width is None:
        raise ValueError(f"has the unknown type code {code[:8]!r}")
    return width


def _decode(code: str, data: bytes) -> NDArray[np.generic]:
    width = _width(code)
    if len(data) % width:
        raise ValueError("ends in the middle of a value")
    if code in _WIDTHS:
        wide = np.zeros((len(data) // width, 4), np.uint8)
        wide[:, :width] = np.frombuffer(data, np.uint8).reshape(-1, width)
        return wide.view("<u4").ravel().astype(np.int64)
    if code == "i4":
        return np.frombuffer(data, "<i4").astype(np.int64)
    if code == "b2":
        return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")
    return np.frombuffer(data, _FLOATS[code])
