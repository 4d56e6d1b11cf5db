"""Arrays that stand on the disk, in a file without a name that ends with the process."""

from __future__ import annotations

import math
import tempfile
import weakref
from collections.abc import Callable, Mapping
from functools import partial
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError

#: Gives an array by its name.
Fetch = Callable[[str], NDArray[Any]]
#: Bytes of an entry before the array, its type, and the shape of an entry, by name.
_Layout = dict[str, tuple[int, "np.dtype[Any]", tuple[int, ...]]]


class Store:
    """Takes tables, sets of arrays of one length, and gives them back array by array."""

    def __init__(self) -> None:
        self._file: IO[bytes] | None = None
        self._end = 0
        self._layouts: dict[tuple[Any, ...], _Layout] = {}

    def keep(self, table: Mapping[str, NDArray[Any]]) -> Fetch:
        """What fetches the arrays of a table, each time anew.

        Args:
            table: arrays of shape (n, ...), with the same n.

        Raises:
            HarnessError: if the disk does not take them.
        """
        start = self._end
        try:
            file = self._opened()
            for array in table.values():
                self._end += file.write(np.ascontiguousarray(array).data)
        except OSError as error:
            raise HarnessError(
                f"{tempfile.gettempdir()}: a large recording's rows cannot be kept there "
                f"({error.strerror or error}); make room, or name another folder in TMPDIR"
            ) from error
        count = len(next(iter(table.values())))
        return partial(self._fetch, start, count, self._layout(table))

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="harness-rows-")  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        self._file.seek(self._end)
        return self._file

    def _layout(self, table: Mapping[str, NDArray[Any]]) -> _Layout:
        """One for all tables that are alike."""
        key = tuple((name, array.dtype, array.shape[1:]) for name, array in table.items())
        if key not in self._layouts:
            layout, at = {}, 0
            for name, dtype, shape in key:
                layout[name] = (at, dtype, shape)
                at += dtype.itemsize * math.prod(shape)
            self._layouts[key] = layout
        return self._layouts[key]

    def _fetch(self, start: int, count: int, layout: _Layout, name: str) -> NDArray[Any]:
        assert self._file is not None  # something was kept there
        before, dtype, shape = layout[name]
        self._file.seek(start + before * count)
        data = bytearray(self._file.read(count * dtype.itemsize * math.prod(shape)))
        return np.frombuffer(data, dtype).reshape(count, *shape)
