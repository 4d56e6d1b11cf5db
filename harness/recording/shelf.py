"""Where the rows of large recordings stand: on the disk, but for the first.

What several arms repeat (the prompts, the tokens that all follow, texts) is held once.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any, TypeVar

from harness.files.store import Store
from harness.statistics.detail import detail_of
from harness.statistics.lazy_rows import LazyRows
from harness.statistics.rows import NORMAL, RowStatistics

#: Bytes of rows that stay in memory: those of some 70,000 positions.
IN_MEMORY = 32 << 20

_NAMES = tuple(field.name for field in fields(RowStatistics))
_T = TypeVar("_T")


class Shelf:
    """Holds what recordings that are compared with each other are made of.

    Args:
        most: bytes of rows that stay in memory.
    """

    def __init__(self, most: int = IN_MEMORY) -> None:
        self._left = most
        self._store = Store()
        self._seen: dict[tuple[type, Any], Any] = {}
        self._numbers: dict[float, float] = {}

    def once(self, value: _T) -> _T:
        """The first value that was equal, of a type: of texts and of lists of ids."""
        found: _T = self._seen.setdefault((type(value), value), value)
        return found

    def numbers(self, values: tuple[float | None, ...]) -> tuple[float | None, ...]:
        """The same floats, equal ones held once; -0 is equal to 0, so zeros are left alone."""
        once = self._numbers.setdefault
        return tuple(once(value, value) if value else value for value in values)

    def rows(self, rows: RowStatistics) -> RowStatistics:
        """The same rows, to be read as long as they are needed.

        Raises:
            HarnessError: if the disk does not take them.
        """
        columns = {name: getattr(rows, name) for name in _NAMES}
        told = {name: column for name, column in columns.items() if column is not None}
        size = sum(column.nbytes for column in told.values())
        if size <= self._left or not len(rows):
            self._left -= size
            return rows
        return LazyRows(len(rows), rows.whole, self._store.keep(told), detail_of(rows) or NORMAL)
