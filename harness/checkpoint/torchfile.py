"""Names, shapes and offsets of the tensors in a ``pytorch_model.bin``, without torch.

Such a file is a zip archive: a pickle that describes the tensors, and one
uncompressed member of raw bytes for each storage. A pickle is a program. It is
read here by the standard library's unpickler with the two dozen instructions
that torch writes for a table of tensors, and no others; the names in it are
marks, and nothing is imported. docs/decisions.md says why that is not
``pickle.Unpickler``.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
import struct
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ModelError
from harness.model.hub import first_line
from harness.model.weights import BITS, MOST_DIMENSIONS

#: Bytes; a pickle of 100,000 tensors takes 10 MB. A byte of it takes up to 100 of memory.
_MAX_PICKLE = 16 << 20
_MOST_ARGUMENTS = 8

#: Torch's classes of storages, in the words of safetensors.
_STORAGES = {
    **{"BoolStorage": "BOOL", "CharStorage": "I8", "ByteStorage": "U8", "ShortStorage": "I16"},
    **{"IntStorage": "I32", "LongStorage": "I64", "HalfStorage": "F16"},
    **{"BFloat16Storage": "BF16", "FloatStorage": "F32", "DoubleStorage": "F64"},
    **{"ComplexFloatStorage": "C64"},
}

#: The instructions that make numbers, strings, lists and tuples, or move them.
_PLAIN = b"".join(
    (
        *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.NONE),
        *(pickle.NEWTRUE, pickle.NEWFALSE, pickle.BINFLOAT, pickle.INT, pickle.LONG),
        *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.UNICODE),
        *(pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
        *(pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3),
        *(pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.SETITEM, pickle.SETITEMS),
        *(pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE),
        *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET),
        *(pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.BINPERSID),
    )
)

Entry = tuple[str, str, tuple[int, ...], int, int]


@dataclass(frozen=True)
class _Name:
    """A name in the pickle, as ``torch._utils._rebuild_tensor_v2``; never looked up."""

    text: str


@dataclass(frozen=True)
class _Storage:
    dtype: str
    key: str
    elements: int


@dataclass(frozen=True)
class _View:
    """A tensor: a part of a storage."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class _Refused(ValueError):
    """What the pickle holds is not a table of tensors."""


#: What the standard library raises for a damaged archive or pickle, too.
_DAMAGE = (
    *(_Refused, ValueError, LookupError, TypeError, AttributeError, EOFError, OverflowError),
    *(struct.error, pickle.UnpicklingError),
)


def torch_entries(path: Path) -> list[Entry]:
    """Name, dtype, shape, offset and length of each tensor, offsets in the file.

    Raises:
        ModelError: for a file of another kind, a damaged one, or a pickle
            that holds anything but tensors.
        OSError: if it cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            prefix, content = _pickle_of(archive)
            table = _read(content)
            members = {info.filename: info for info in archive.infolist()}
            with open(path, "rb") as stream:
                return [
                    _located(name, view, members.get(f"{prefix}data/{view.storage.key}"), stream)
                    for name, view in _tensors(table)
                ]
    except zipfile.BadZipFile as error:
        raise ModelError(
            f"{path}: not a torch file of release 1.6 or later, or one cut short: "
            f"{first_line(error)}; download it again, or load it and save it as safetensors"
        ) from error
    except _DAMAGE as error:
        problem = first_line(error) if isinstance(error, _Refused) else "its pickle is damaged"
        raise ModelError(f"{path}: {problem}; nothing of it was executed") from error
    except (RuntimeError, NotImplementedError) as error:  # encrypted, or an unknown compression
        raise ModelError(f"{path}: not readable as a torch file: {first_line(error)}") from error


def _pickle_of(archive: zipfile.ZipFile) -> tuple[str, bytes]:
    """The folder in the archive, with its slash, and the pickle in it."""
    found = [i for i in archive.infolist() if i.filename.split("/")[-1] == "data.pkl"]
    if len(found) != 1:
        raise _Refused("holds no single data.pkl, so it was not written by torch.save")
    if found[0].file_size > _MAX_PICKLE:
        raise _Refused(f"its pickle takes {found[0].file_size} bytes, more than any table needs")
    if found[0].compress_type != zipfile.ZIP_STORED:
        raise _Refused("its pickle is compressed, as torch never writes it; save it again")
    prefix = found[0].filename.removesuffix("data.pkl")
    order = prefix + "byteorder"
    if order in archive.namelist() and archive.read(order).strip() != b"little":
        raise _Refused("its numbers are big-endian; save it again on a little-endian machine")
    return prefix, archive.read(found[0])


def _tensors(table: Any) -> list[tuple[str, _View]]:
    if not isinstance(table, dict):
        raise _Refused("its pickle is not a table of tensors")
    named = [(k, v) for k, v in table.items() if isinstance(v, _View)]
    if not named or not all(isinstance(name, str) for name, _ in named):
        nested = next((k for k, v in table.items() if isinstance(v, dict) and v), None)
        hint = f"; one may be inside {str(nested)[:40]!r}, save it alone" if nested else ""
        raise _Refused(f"its pickle is not a table of named tensors{hint}")
    return named


def _located(name: str, view: _View, member: zipfile.ZipInfo | None, stream: Any) -> Entry:
    size = BITS[view.storage.dtype] // 8
    numbers = (*view.shape, *view.stride, view.offset, view.storage.elements)
    if any(type(n) is not int or n < 0 for n in numbers) or len(view.shape) != len(view.stride):
        raise _Refused(f"tensor {name!r} has an impossible shape, stride or offset")
    elements = math.prod(view.shape)
    if elements and not _contiguous(view):
        raise _Refused(f"tensor {name!r} is a view out of order; save it contiguous")
    if member is None or member.compress_type != zipfile.ZIP_STORED:
        raise _Refused(f"the bytes of tensor {name!r} are missing or compressed")
    if (view.offset + elements) * size > member.file_size:
        raise _Refused(f"tensor {name!r} is longer than its storage")
    stream.seek(member.header_offset)
    local = stream.read(30)
    signature, names, extra = local[:4], *struct.unpack("<HH", local[26:30])
    if signature != b"PK\3\4":
        raise _Refused(f"the bytes of tensor {name!r} are not where the archive says")
    begin = member.header_offset + 30 + names + extra
    stream.seek(0, 2)
    if begin + member.file_size > stream.tell():
        raise _Refused(f"the bytes of tensor {name!r} are cut short")
    return name, view.storage.dtype, view.shape, begin + view.offset * size, elements * size


def _contiguous(view: _View) -> bool:
    expected = 1
    for length, step in zip(reversed(view.shape), reversed(view.stride), strict=True):
        if length != 1 and step != expected:
            return False
        expected *= length
    return True


def _read(content: bytes) -> Any:
    """The value that a pickle describes, with tensors as _View."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strange escapes in a damaged string
        return _Reader(io.BytesIO(content)).load()


class _Table(dict[Any, Any]):
    """A table whose keys are names, none of them twice.

    A tuple as a key would be hashed through all that it holds, which a short
    pickle makes as deep, or as large, as it likes.
    """

    def __setitem__(self, key: Any, value: Any) -> None:
        if not isinstance(key, str | int):
            raise _Refused("its pickle holds a table with a key that is not a name")
        if key in self:
            raise _Refused(f"the tensor {str(key)[:80]!r} appears twice")
        super().__setitem__(key, value)


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, _meta: Any = None
) -> _View:
    if not isinstance(storage, _Storage):
        raise _Refused("its pickle builds a tensor without a storage")
    return _View(storage, offset, _size(shape), _size(stride))


def _size(dimensions: Any) -> tuple[int, ...]:
    """A shape or a stride, never a copy of it: a pickle can ask for any number of them."""
    if not isinstance(dimensions, tuple) or len(dimensions) > MOST_DIMENSIONS:
        raise _Refused(f"its pickle has a shape that is not up to {MOST_DIMENSIONS} numbers")
    return dimensions


def _parameter(view: Any, _grad: Any, _hooks: Any) -> Any:
    return view


def _table(*pairs: Any) -> _Table:
    if pairs not in ((), ([],)):
        raise _Refused("its pickle makes a table of other things than tensors")
    return _Table()


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _table,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
}


class _Steps(dict[int, Callable[[Any], None]]):
    """The instructions that are followed, by their codes."""

    def __missing__(self, code: int) -> Callable[[Any], None]:
        names = (op.name for op in pickletools.opcodes if op.code == chr(code))
        name = next(names, f"0x{code:02x}")
        raise _Refused(f"its pickle uses the instruction {name}, which no tensor needs")


class _Reader(pickle._Unpickler):
    """The standard library's unpickler, written in Python, without all that acts.

    Only instructions that make numbers, strings, lists, tuples and tables are
    left of it; those that import, call or change objects are replaced.
    """

    stack: list[Any]
    append: Callable[[Any], None]
    dispatch = _Steps({code: pickle._Unpickler.dispatch[code] for code in _PLAIN})

    def find_class(self, module: str, name: str) -> _Name:
        text = f"{module}.{name}"
        if text not in _CALLS and text.removeprefix("torch.") not in _STORAGES:
            raise _Refused(f"its pickle asks for {text[:80]!r}, which no table of tensors needs")
        return _Name(text)

    def persistent_load(self, pid: Any) -> _Storage:
        """Of ("storage", class, key, place, elements)."""
        kind, cls, key, _place, elements = pid
        dtype = _STORAGES.get(cls.text.removeprefix("torch.")) if isinstance(cls, _Name) else None
        if kind != "storage" or dtype is None or not isinstance(key, str):
            raise _Refused("its pickle refers to something that is not a storage of numbers")
        return _Storage(dtype, key, elements)

    def _empty_table(self) -> None:
        self.append(_Table())

    def _call(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _Name) or function.text not in _CALLS:
            raise _Refused("its pickle calls something that does not make a tensor")
        if not isinstance(arguments, tuple) or len(arguments) > _MOST_ARGUMENTS:
            raise _Refused("its pickle calls something with arguments that no tensor needs")
        self.append(_CALLS[function.text](*arguments))

    def _state(self) -> None:
        """The ``_metadata`` of a state dict, of no use here."""
        self.stack.pop()
        if not isinstance(self.stack[-1], _Table):
            raise _Refused("its pickle sets the state of something that is not a table")

    dispatch[pickle.EMPTY_DICT[0]] = _empty_table
    dispatch[pickle.REDUCE[0]] = _call
    dispatch[pickle.BUILD[0]] = _state
