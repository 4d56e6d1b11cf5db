"""The cells of one layer's attention: one for each row and head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.canary.layout import head_bits
from harness.canary.observe import TOLERANCE, Seen
from harness.canary.sizes import Sizes

_Ints = NDArray[np.int64]
#: Rows of a request that are looked at, spread over all of them.
_MOST_ROWS = 512


@dataclass(frozen=True, eq=False)
class Cells:
    """Flat arrays, one entry for each (row, head) of a layer.

    Attributes:
        request: the number of the request in ``requests``.
        row: the position of the row.
        head: which head.
        source: the position that the head reads.
        value: what came, float32.
        wanted: what had to come, ±1.
    """

    sizes: Sizes
    layer: int
    requests: tuple[Seen, ...]
    request: _Ints
    row: _Ints
    head: _Ints
    source: _Ints
    value: NDArray[np.float32]
    wanted: NDArray[np.int8]

    @cached_property
    def wrong(self) -> NDArray[np.bool_]:
        off = np.abs(self.value - self.wanted)
        return np.asarray(~(off <= min(r.tolerance for r in self.requests)))

    @property
    def heads_wrong(self) -> tuple[int, ...]:
        """The heads with any wrong cell."""
        return tuple(int(h) for h in np.unique(self.head[self.wrong]))

    def of(self, mask: NDArray[np.bool_]) -> Cells:
        """Some of the cells."""
        return replace(
            self,
            request=self.request[mask],
            row=self.row[mask],
            head=self.head[mask],
            source=self.source[mask],
            value=self.value[mask],
            wanted=self.wanted[mask],
        )

    def read(self, distance: int | _Ints, bit: int | _Ints, of: Seen | None = None) -> _Ints:
        """What each cell had to hold if its head read that bit so far back; 0 if unknown.

        Args:
            of: the request that is read; its own by default.
        """
        return self.at(self.row - distance, bit, of)

    def at(self, where: _Ints, bit: int | _Ints, of: Seen | None = None) -> _Ints:
        """What each cell had to hold if its head read that bit at that position; 0 if unknown."""
        result = np.zeros(len(self.row), np.int64)
        bits = np.broadcast_to(np.asarray(bit), self.row.shape)
        for number, request in enumerate(self.requests):
            mine = self.request == number
            source = (of or request).expected.source(self.layer)
            places = where[mine]
            inside = (places >= 0) & (places < len(source))
            found = source[np.clip(places, 0, len(source) - 1), bits[mine]]
            result[mine] = np.where(inside, found, 0)
        return result

    def agrees(self, predicted: NDArray[Any], within: float = TOLERANCE) -> float:
        """The share of cells whose value is the predicted one."""
        return float((np.abs(self.value - predicted) <= within).mean()) if len(self.row) else 0.0

    def means(self) -> NDArray[np.float64]:
        """What each cell had to hold if its head took the mean of all that it may see.

        The first positions of a layer above the first are not known; they add the same to the
        sums of all rows, which is taken from the cells themselves.
        """
        result = np.zeros(len(self.row))
        window = self.sizes.window_of(self.layer) or self.sizes.context
        for number, request in enumerate(self.requests):
            source = request.expected.source(self.layer).astype(np.float64)
            sums = np.concatenate([np.zeros((1, source.shape[1])), source.cumsum(axis=0)])
            mine = self.request == number
            rows, bits = self.row[mine], self.own_bit[mine]
            start = np.maximum(rows + 1 - window, 0)
            count = rows + 1 - start
            known = (sums[rows + 1, bits] - sums[start, bits]) / count
            unknown = 0.0
            if self.layer and not start.any() and len(rows):
                unknown = float(np.median((self.value[mine] - known) * count))
            result[mine] = known + unknown / count
        return result

    @cached_property
    def own_bit(self) -> _Ints:
        """The bit that each cell's head copies."""
        return np.asarray(head_bits(self.sizes, self.layer))[self.head]


def cells(sizes: Sizes, layer: int, requests: Sequence[Seen]) -> Cells:
    """The cells of a layer in the rows of some requests."""
    reads = np.asarray(sizes.reads[layer])
    parts: list[tuple[NDArray[Any], ...]] = []
    for number, request in enumerate(requests):
        columns = request.part("attention", layer)
        picked = _spread(request)
        row = np.repeat(request.positions[picked], len(columns))
        head = np.tile(np.arange(len(columns)), len(picked))
        parts.append(
            (
                np.full(len(row), number),
                row,
                head,
                row - reads[head],
                request.values[np.ix_(picked, columns)].ravel(),
                request.outs[np.ix_(picked, columns)].ravel(),
            )
        )
    joined = [np.concatenate(column) for column in zip(*parts, strict=True)]
    found = Cells(sizes, layer, tuple(requests), *joined)
    return _of_usual_size(found) if sizes.post_normed else found


def _of_usual_size(found: Cells) -> Cells:
    """Where a norm follows, what is missing of one head makes the others larger: the cells with
    each row brought to its usual size, if fewer are wrong then."""
    size = np.ones(len(found.row))
    for number in range(len(found.requests)):
        mine = found.request == number
        for row in np.unique(found.row[mine]):
            cells_of = mine & (found.row == row)
            size[cells_of] = np.median(np.abs(found.value[cells_of]))
    sized = replace(found, value=(found.value / np.where(size > 0.1, size, 1)).astype(np.float32))
    return sized if 0 < sized.wrong.sum() < found.wrong.sum() else found


def _spread(request: Seen) -> _Ints:
    """Rows to look at: all, or every n-th and those that are wrong."""
    count = len(request.positions)
    if count <= _MOST_ROWS:
        return np.arange(count)
    bad = np.flatnonzero(request.wrong.any(axis=1))[:_MOST_ROWS]
    return np.union1d(np.linspace(0, count - 1, _MOST_ROWS).astype(np.int64), bad)
