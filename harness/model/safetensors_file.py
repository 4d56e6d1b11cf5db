"""The header of a safetensors file, read in plain Python.

Eight bytes of length, a JSON header, the tensors' bytes. Such files come from
strangers, so every number in a header is checked against the file before it is
used.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, BinaryIO

from harness.errors import ModelError
from harness.files.jsonfile import refuse_repeats
from harness.model.hub import first_line

#: Bits per element of the dtypes of the safetensors format.
BITS = {
    **dict.fromkeys(("BOOL", "I8", "U8", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    **dict.fromkeys(("F4", "F4_E2M1"), 4),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
}

#: Torch itself allows no more.
MOST_DIMENSIONS = 64
_MAX_HEADER = 100_000_000  # the limit of the format's own library

Entry = tuple[str, str, tuple[int, ...], int, int]


def safetensors_header(path: Path, stream: BinaryIO) -> tuple[list[Entry], int]:
    """Name, dtype, shape and offsets of each tensor in order, and where the bytes start.

    Raises:
        ModelError: if the header is damaged, too long, or does not describe
            exactly the bytes that follow it.
    """
    size = os.fstat(stream.fileno()).st_size
    length = int.from_bytes(stream.read(8), "little")
    if size < 8 or length > min(_MAX_HEADER, size - 8):
        raise ModelError(
            f"{path}: not a safetensors file, or one cut short: its header would be {length} bytes "
            f"of {size}, and at most {_MAX_HEADER} are read; download the file again"
        )
    try:
        header = json.loads(stream.read(length), object_pairs_hook=refuse_repeats)
        header.pop("__metadata__", None)
        entries = [_entry(name, fields) for name, fields in header.items()]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(f"{path}: damaged safetensors header: {first_line(error)}") from error
    entries.sort(key=lambda entry: entry[3:])
    expected = 0
    for name, _, _, begin, end in entries:
        if begin != expected:
            raise ModelError(f"{path}: tensor {name!r} overlaps another, or follows a hole")
        expected = end
    if expected != size - 8 - length:
        raise ModelError(
            f"{path}: {size - 8 - length} bytes of tensors, but the header describes {expected}; "
            "download the file again"
        )
    return entries, 8 + length


def _entry(name: str, fields: Any) -> Entry:
    dtype, shape = fields["dtype"], fields["shape"]
    begin, end = fields["data_offsets"]
    if len(shape) > MOST_DIMENSIONS:
        raise ValueError(f"tensor {name!r} has more than {MOST_DIMENSIONS} dimensions")
    numbers = [*shape, begin, end]
    if any(type(n) is not int or n < 0 for n in numbers) or dtype not in BITS:
        raise ValueError(f"tensor {name!r} has an impossible shape, dtype or offset")
    if (end - begin) * 8 != math.prod(shape) * BITS[dtype]:
        raise ValueError(f"tensor {name!r} is not as long as its shape says")
    return name, dtype, tuple(shape), begin, end
