"""The data of stored tensors, a few rows at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.checkpoint.headers import Stored
from harness.checkpoint.ternary import NUMPY
from harness.errors import ModelError
from harness.model.hub import first_line

#: Bytes that are read at a time.
BLOCK = 2 << 20


def read_bytes(tensor: Stored, begin: int, length: int) -> memoryview:
    """A range of a tensor's bytes, ``begin`` counted from its first.

    Raises:
        ModelError: if the file became shorter, or cannot be read.
    """
    data = np.empty(length, dtype=np.uint8).data
    try:
        with open(tensor.path, "rb", buffering=0) as stream:
            stream.seek(tensor.offset + begin)
            view = data
            while view:
                count = stream.readinto(view)
                if not count:
                    raise ModelError(f"{tensor.path}: became shorter while it was read")
                view = view[count:]
    except OSError as error:
        raise ModelError(f"{tensor.path}: not readable: {first_line(error)}") from error
    return data


def rows_per_block(tensor: Stored) -> int:
    """Rows of a tensor that fit into a block, at least one."""
    return max(1, BLOCK // max(1, row_bytes(tensor)))


def row_bytes(tensor: Stored) -> int:
    """Bytes of a row: what is indexed by all but the first dimension."""
    return tensor.nbytes // max(1, tensor.shape[0]) if tensor.shape else tensor.nbytes


def read_rows(tensor: Stored, start: int, stop: int) -> NDArray[Any]:
    """Rows of a matrix in its storage dtype, bfloat16 as uint16 bits.

    Returns:
        Shape (rows, columns); a vector counts as one column per row.

    Raises:
        ModelError: for a dtype other than a float of 16 or 32 bits.
    """
    if tensor.dtype not in NUMPY:
        raise ModelError(
            f"{tensor.path}: tensor {tensor.name!r} is {tensor.dtype}; "
            f"weights are read as {', '.join(NUMPY)}"
        )
    length = row_bytes(tensor)
    data = read_bytes(tensor, start * length, (stop - start) * length)
    columns = math.prod(tensor.shape[1:])
    return np.frombuffer(data, dtype=NUMPY[tensor.dtype]).reshape(stop - start, columns)


def blocks(tensor: Stored) -> Iterator[NDArray[Any]]:
    """All rows of a tensor, a block at a time; see :func:`read_rows`."""
    rows = tensor.shape[0] if tensor.shape else 1
    step = rows_per_block(tensor)
    for start in range(0, rows, step):
        yield read_rows(tensor, start, min(rows, start + step))


def same_bytes(first: Stored, second: Stored) -> bool:
    """Whether two tensors hold the same bytes; stops at the first difference."""
    if first.nbytes != second.nbytes:
        return False
    return all(
        read_bytes(first, begin, min(BLOCK, first.nbytes - begin))
        == read_bytes(second, begin, min(BLOCK, first.nbytes - begin))
        for begin in range(0, first.nbytes, BLOCK)
    )


def nonfinite(tensor: Stored) -> int:
    """How many numbers of a tensor are infinite or NaN."""
    return sum(broken for broken, _ in counted(tensor))


def counted(tensor: Stored) -> Iterator[tuple[int, int]]:
    """Of each block, how many numbers are infinite or NaN, and how many are not zero."""
    for block in blocks(tensor):
        if tensor.dtype == "BF16":
            broken = np.count_nonzero((block & np.uint16(0x7F80)) == np.uint16(0x7F80))
            yield int(broken), int(np.count_nonzero(block & np.uint16(0x7FFF)))
        else:
            yield (
                block.size - int(np.count_nonzero(np.isfinite(block))),
                int(np.count_nonzero(block)),
            )
