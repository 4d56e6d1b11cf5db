"""Which cells of a layer are wrong, described in the fewest bits.

A region that holds all wrong cells costs one bit for each of its cells, because a wrong
source has the right bit half of the time, and the bits of its own numbers. The region
with the least cost describes best. Where naming the wrong cells one by one is cheaper,
no region describes them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log2

import numpy as np
from numpy.typing import NDArray

from harness.canary.cells import Cells

#: A description must cost no more than this share of naming the cells one by one.
_SHARE = 0.8


@dataclass(frozen=True, eq=False)
class Region:
    """Cells that have something in common.

    Attributes:
        kind: ``heads``; ``distance``: those that look ``numbers[0]`` or further back;
            ``slots``, ``blocks``, ``sources``: those that read certain positions,
            blocks, or an interval of positions; ``offset``: those that read one place in
            every block; ``crossing``: those after position ``numbers[0]`` that read
            before it; ``rows``: an interval of rows; ``requests``.
        numbers: which.
        mask: bool, one for each cell.
        cost: in bits.
    """

    kind: str
    numbers: tuple[int, ...]
    mask: NDArray[np.bool_]
    cost: float


def region(found: Cells) -> Region | None:
    """The region that describes a layer's wrong cells best, or None if none does."""
    count, bad = len(found.row), int(found.wrong.sum())
    share = bad / count
    entropy = -share * log2(share) - (1 - share) * log2(1 - share) if share < 1 else 0.0
    one_by_one = count * entropy + log2(count + 1)
    best = min(_regions(found), key=lambda r: r.cost)
    everywhere = bool(best.mask.all()) and share > 0.25
    return best if best.cost <= _SHARE * one_by_one or everywhere else None


def _regions(found: Cells) -> Iterator[Region]:
    sizes, wrong = found.sizes, found.wrong
    longest = log2(max(2, int(found.row.max())))
    heads = found.heads_wrong
    yield _made("heads", heads, np.isin(found.head, heads), log2(sizes.heads + 1))
    distance = found.row - found.source
    least = int(distance[wrong].min())
    yield _made("distance", (least,), distance >= least, log2(sizes.heads + 1))
    slots = tuple(int(s) for s in np.unique(found.source[wrong]))
    yield _made("slots", slots, np.isin(found.source, slots), longest)
    blocks = found.source // sizes.page_size
    bad = tuple(int(b) for b in np.unique(blocks[wrong]))
    yield _made("blocks", bad, np.isin(blocks, bad), log2(sizes.context / sizes.page_size))
    ends = (slots[0], slots[-1])
    inside = (found.source >= ends[0]) & (found.source <= ends[1])
    yield _made("sources", ends, inside, longest)
    places = np.unique(found.source[wrong] % sizes.page_size)
    offsets = tuple(int(p) for p in places)
    mask = np.isin(found.source % sizes.page_size, offsets)
    yield _made("offset", offsets, mask, log2(sizes.page_size) + 1)
    yield from _crossings(found, longest)
    rows = (int(found.row[wrong].min()), int(found.row[wrong].max()))
    inside = (found.row >= rows[0]) & (found.row <= rows[1])
    yield _made("rows", rows, inside, longest)
    some = tuple(int(r) for r in np.unique(found.request[wrong]))
    if len(some) < len(found.requests):
        yield _made("requests", some, np.isin(found.request, some), log2(len(found.requests)))


def _crossings(found: Cells, longest: float) -> Iterator[Region]:
    """A border between what is read and what reads: after every wrong source, not after
    any wrong row."""
    low = int(found.source[found.wrong].max()) + 1
    high = int(found.row[found.wrong].min())
    if low > high:
        return
    starts = {low, high, *(b for b in range(low, high + 1) if b % found.sizes.page_size == 0)}
    starts |= {r.prompt_tokens for r in found.requests if low <= r.prompt_tokens <= high}
    options = [
        _made("crossing", (c,), (found.source < c) & (found.row >= c), longest)
        for c in sorted(starts)
    ]
    yield min(options, key=lambda r: r.cost)


def _made(kind: str, numbers: tuple[int, ...], mask: NDArray[np.bool_], each: float) -> Region:
    ends = kind in ("sources", "rows")
    return Region(kind, numbers, mask, float(mask.sum()) + each * (2 if ends else len(numbers)))
