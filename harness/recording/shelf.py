"""Where the rows of large recordings stand: on the disk, in a file without a name.

What several arms repeat (the prompts, the tokens that all follow, texts) is held once.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Mapping
from functools import partial
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError
from harness.statistics.lazy_rows import LazyRows
from harness.statistics.rows import WHOLE_ONLY, RowStatistics

#: Bytes of rows that stay in memory: those of some 60,000 positions.
IN_MEMORY = 32 << 20

_T = TypeVar("_T")
Layout = dict[str, tuple[int, "np.dtype[Any]", tuple[int, ...]]]


class Shelf:
    """Keeps rows: the first in memory, the others on the disk.

    Args:
        columns: type and shape of one row, by column.
        most: bytes of rows that stay in memory.
    """

    def __init__(
        self, columns: Mapping[str, tuple[str, tuple[int, ...]]], most: int = IN_MEMORY
    ) -> None:
        self._columns = columns
        self._left = most
        self._file: IO[bytes] | None = None
        self._end = 0
        self._seen: dict[type, dict[Any, Any]] = {}
        self._numbers: dict[float, float] = {}
        self._layouts: dict[bool, Layout] = {}

    def once(self, value: _T) -> _T:
        """The first value that was equal, of the same type: of texts and of lists of ids."""
        return self._seen.setdefault(type(value), {}).setdefault(value, value)  # type: ignore[no-any-return]

    def numbers(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        """The same floats, equal ones held once."""
        once = self._numbers.setdefault
        return tuple(once(value, value) if value else value for value in values)

    def rows(self, rows: RowStatistics) -> RowStatistics:
        """The same rows, for as long as they are needed.

        Raises:
            HarnessError: if the disk does not take them.
        """
        names = [n for n in self._columns if rows.whole or n not in WHOLE_ONLY]
        size = sum(getattr(rows, name).nbytes for name in names)
        if size <= self._left or not len(rows):
            self._left -= size
            return rows
        try:
            file, start = self._opened(), self._end
            for name in names:
                file.write(np.ascontiguousarray(getattr(rows, name)).data)
            self._end += size
        except OSError as error:
            raise HarnessError(
                f"{tempfile.gettempdir()}: rows of a large recording cannot be kept there "
                f"({error.strerror or error}); make room, or name another folder in TMPDIR"
            ) from error
        column = partial(_column, file, start, len(rows), self._layout(names, rows.whole))
        return LazyRows(len(rows), rows.whole, column)

    def _opened(self) -> IO[bytes]:
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="harness-rows-")  # noqa: SIM115
        self._file.seek(self._end)
        return self._file

    def _layout(self, names: list[str], whole: bool) -> Layout:
        """The bytes of a row before each column, its type and its shape."""
        if whole not in self._layouts:
            layout, at = {}, 0
            for name in names:
                dtype, shape = np.dtype(self._columns[name][0]), self._columns[name][1]
                layout[name] = (at, dtype, shape)
                at += dtype.itemsize * math.prod(shape)
            self._layouts[whole] = layout
        return self._layouts[whole]


def _column(file: IO[bytes], start: int, count: int, layout: Layout, name: str) -> NDArray[Any]:
    before, dtype, shape = layout[name]
    file.seek(start + before * count)
    data = bytearray(file.read(count * dtype.itemsize * math.prod(shape)))
    return np.frombuffer(data, dtype).reshape(count, *shape)
