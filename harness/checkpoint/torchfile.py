"""Names, shapes and offsets of the tensors in a ``pytorch_model.bin``, without torch.

Such a file is a zip archive: a pickle that describes the tensors, and one
uncompressed member of raw bytes for each storage. A pickle is a program. It is
read here by a stack machine of its own, which knows the two dozen
instructions that torch writes for a table of tensors and the six names that
they refer to; every name is a mark, nothing is imported or called.
"""

from __future__ import annotations

import math
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
from harness.model.weights import BITS

#: A pickle of 100,000 tensors takes 10 MB.
_MAX_PICKLE = 64 << 20

#: Torch's classes of storages, in the words of safetensors.
_STORAGES = {
    **{"BoolStorage": "BOOL", "CharStorage": "I8", "ByteStorage": "U8", "ShortStorage": "I16"},
    **{"IntStorage": "I32", "LongStorage": "I64", "HalfStorage": "F16"},
    **{"BFloat16Storage": "BF16", "FloatStorage": "F32", "DoubleStorage": "F64"},
    **{"ComplexFloatStorage": "C64"},
}

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
    """What the pickle holds is no table of tensors."""


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
            table = _run(content)
            members = {info.filename: info for info in archive.infolist()}
            with open(path, "rb") as stream:
                return [
                    _located(name, view, members.get(f"{prefix}data/{view.storage.key}"), stream)
                    for name, view in _tensors(table)
                ]
    except zipfile.BadZipFile as error:
        raise ModelError(
            f"{path}: no torch file of release 1.6 or later, or one cut short: "
            f"{first_line(error)}; download it again, or load it and save it as safetensors"
        ) from error
    except (_Refused, ValueError, IndexError, KeyError, TypeError, struct.error) as error:
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
    prefix = found[0].filename.removesuffix("data.pkl")
    order = prefix + "byteorder"
    if order in archive.namelist() and archive.read(order).strip() != b"little":
        raise _Refused("its numbers are big-endian; save it again on a little-endian machine")
    return prefix, archive.read(found[0])


def _tensors(table: Any) -> list[tuple[str, _View]]:
    if not isinstance(table, dict):
        raise _Refused("holds no table of tensors")
    named = [(k, v) for k, v in table.items() if isinstance(v, _View)]
    if not named or not all(isinstance(name, str) for name, _ in named):
        nested = next((k for k, v in table.items() if isinstance(v, dict) and v), None)
        hint = f"; one may be inside {str(nested)[:40]!r}, save it alone" if nested else ""
        raise _Refused(f"holds no table of named tensors{hint}")
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


def _run(content: bytes) -> Any:
    """The value that a pickle describes, with tensors as _View."""
    machine = _Machine()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of strange escapes in a damaged string
        for opcode, argument, _ in pickletools.genops(content):
            step = _STEPS.get(opcode.name)
            if step is None:
                raise _Refused(
                    f"its pickle uses the instruction {opcode.name}, which no tensor needs"
                )
            step(machine, argument)
    return machine.stack.pop()


class _Machine:
    """The stack, the marks in it and the memo of a pickle."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def nothing(self, _argument: Any) -> None:
        """PROTO, FRAME, STOP."""

    def mark(self, _argument: Any) -> None:
        self.marks.append(len(self.stack))

    def since_mark(self) -> list[Any]:
        start = self.marks.pop()
        values = self.stack[start:]
        del self.stack[start:]
        return values

    def take(self, count: int) -> tuple[Any, ...]:
        if len(self.stack) < count:
            raise IndexError("empty stack")
        values = tuple(self.stack[len(self.stack) - count :])
        del self.stack[len(self.stack) - count :]
        return values

    def memoize(self, index: int | None) -> None:
        self.memo[len(self.memo) if index is None else index] = self.stack[-1]

    def recall(self, index: int) -> None:
        self.push(self.memo[index])

    def set_items(self, pairs: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, dict):
            raise _Refused("its pickle sets items of something that is no table")
        for key, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(key, str | int):
                raise _Refused("its pickle holds a table whose keys are no names")
            if key in target:
                raise _Refused(f"the tensor {str(key)[:80]!r} is there twice")
            target[key] = value

    def append(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, list):
            raise _Refused("its pickle appends to something that is no list")
        target.extend(values)

    def name(self, text: str) -> None:
        if text not in _CALLS and text.removeprefix("torch.") not in _STORAGES:
            raise _Refused(f"its pickle asks for {text[:80]!r}, which no table of tensors needs")
        self.push(_Name(text))

    def stack_name(self, _argument: Any) -> None:
        module, name = self.take(2)
        if not isinstance(module, str) or not isinstance(name, str):
            raise _Refused("its pickle asks for a name that is none")
        self.name(f"{module}.{name}")

    def storage(self, _argument: Any) -> None:
        """BINPERSID: ("storage", class, key, place, elements)."""
        kind, cls, key, _place, elements = self.take(1)[0]
        dtype = _STORAGES.get(cls.text.removeprefix("torch.")) if isinstance(cls, _Name) else None
        if kind != "storage" or dtype is None or not isinstance(key, str):
            raise _Refused("its pickle refers to something that is no storage of numbers")
        self.push(_Storage(dtype, key, elements))

    def call(self, _argument: Any) -> None:
        function, arguments = self.take(2)
        if not isinstance(function, _Name) or function.text not in _CALLS:
            raise _Refused("its pickle calls something that makes no tensor")
        self.push(_CALLS[function.text](*arguments))

    def state(self, _argument: Any) -> None:
        """BUILD: the ``_metadata`` of a state dict, of no use here."""
        if not isinstance(self.stack[-2], dict):
            raise _Refused("its pickle sets the state of something that is no table")
        self.take(1)


def _tensor(
    storage: Any, offset: Any, shape: Any, stride: Any, _grad: Any, _hooks: Any, _meta: Any = None
) -> _View:
    if not isinstance(storage, _Storage):
        raise _Refused("its pickle builds a tensor out of no storage")
    return _View(storage, offset, tuple(shape), tuple(stride))


def _parameter(view: Any, _grad: Any, _hooks: Any) -> Any:
    return view


def _table(*pairs: Any) -> dict[Any, Any]:
    if pairs not in ((), ([],)):
        raise _Refused("its pickle makes a table out of other things than tensors")
    return {}


_CALLS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _table,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": tuple,
}

_Step = Callable[[_Machine, Any], None]
_STEPS: dict[str, _Step] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), _Machine.nothing),
    "MARK": _Machine.mark,
    **dict.fromkeys(
        ("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "BINFLOAT", "INT", "LONG"),
        _Machine.push,
    ),
    **dict.fromkeys(
        ("BININT", "BININT1", "BININT2", "LONG1"),
        _Machine.push,
    ),
    "NONE": lambda m, _: m.push(None),
    "NEWTRUE": lambda m, _: m.push(True),
    "NEWFALSE": lambda m, _: m.push(False),
    "EMPTY_TUPLE": lambda m, _: m.push(()),
    "EMPTY_LIST": lambda m, _: m.push([]),
    "EMPTY_DICT": lambda m, _: m.push({}),
    "TUPLE1": lambda m, _: m.push(m.take(1)),
    "TUPLE2": lambda m, _: m.push(m.take(2)),
    "TUPLE3": lambda m, _: m.push(m.take(3)),
    "TUPLE": lambda m, _: m.push(tuple(m.since_mark())),
    **dict.fromkeys(("BINPUT", "LONG_BINPUT", "PUT", "MEMOIZE"), _Machine.memoize),
    **dict.fromkeys(("BINGET", "LONG_BINGET", "GET"), _Machine.recall),
    "SETITEM": lambda m, _: m.set_items(list(m.take(2))),
    "SETITEMS": lambda m, _: m.set_items(m.since_mark()),
    "APPEND": lambda m, _: m.append(list(m.take(1))),
    "APPENDS": lambda m, _: m.append(m.since_mark()),
    "GLOBAL": lambda m, text: m.name(text.replace(" ", ".", 1)),
    "STACK_GLOBAL": _Machine.stack_name,
    "BINPERSID": _Machine.storage,
    "REDUCE": _Machine.call,
    "BUILD": _Machine.state,
}
