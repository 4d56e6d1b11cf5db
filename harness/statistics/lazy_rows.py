"""Rows whose columns are fetched when they are asked for, and never kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.statistics.rows import NORMAL, WHOLE_ONLY, Detail, RowStatistics, concatenate

#: Gives a column by its name.
Column = Callable[[str], NDArray[Any]]
_NAMES = frozenset(field.name for field in fields(RowStatistics))


class LazyRows(RowStatistics):
    """As ``RowStatistics``, to whoever reads them; each reading of a column fetches it again.

    Args:
        count: how many rows.
        whole: whether they have the columns of whole rows; the others are None.
        column: fetches a column of that many rows.
        detail: what whole rows hold.
    """

    def __init__(self, count: int, whole: bool, column: Column, detail: Detail = NORMAL) -> None:
        self.__dict__.update(_count=count, _whole=whole, _column=column, _detail=detail)

    def __getattr__(self, name: str) -> Any:
        if name not in _NAMES:
            raise AttributeError(name)
        if name in WHOLE_ONLY and not self.__dict__["_whole"]:
            return None
        return self.__dict__["_column"](name)

    def __len__(self) -> int:
        return int(self.__dict__["_count"])

    def __getitem__(self, index: slice | NDArray[np.bool_]) -> RowStatistics:
        if not isinstance(index, slice):
            return super().__getitem__(index)
        count = len(range(*index.indices(len(self))))
        if count == len(self) and index.step in (None, 1):
            return self
        column: Column = self.__dict__["_column"]
        return LazyRows(count, self.whole, lambda name: column(name)[index], self.detail)

    @property
    def whole(self) -> bool:
        return bool(self.__dict__["_whole"])

    @property
    def detail(self) -> Detail:
        """What each row holds, where they are whole."""
        detail: Detail = self.__dict__["_detail"]
        return detail


def join(parts: Sequence[RowStatistics]) -> RowStatistics:
    """``rows.concatenate``, which fetches nothing before it is asked for where a part does."""
    if not any(isinstance(part, LazyRows) for part in parts):
        return concatenate(list(parts))

    def column(name: str) -> NDArray[Any]:
        return np.concatenate([getattr(part, name) for part in parts])

    whole = all(part.whole for part in parts)
    detail = next(part.detail for part in parts if isinstance(part, LazyRows))
    return LazyRows(sum(map(len, parts)), whole, column, detail)
