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
from harness.canary.evidence import entropy

#: A description must cost no more than this share of naming the cells one by one.
_SHARE = 0.8
#: Of a region's cells so many must be wrong: half are right by chance.
_LEAST_RATE = 0.3


@dataclass(frozen=True, eq=False)
class Region:
    """Cells that have something in common.

    Attributes:
        kind: ``heads``; ``distance``: those that look ``numbers[0]`` or further back;
            ``slots``, ``blocks``, ``sources``: those that read certain positions,
            blocks, or an interval of positions; ``offset``: those that read one place in
            every block; ``crossing``: those after position ``numbers[0]`` that read
            before it; ``decode``: the same at the end of each prompt; ``decode_rows``: all
        rows after it; ``rows``: an interval of rows.
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
    one_by_one = count * entropy(bad / count) + log2(count + 1)
    best = min(_regions(found), key=lambda r: r.cost)
    inside = int((best.mask & found.wrong).sum())
    dense = inside >= _LEAST_RATE * best.mask.sum() and inside >= bad / 2
    everywhere = bool(best.mask.all()) and bad / count > 0.25
    return best if dense and (best.cost <= _SHARE * one_by_one or everywhere) else None


def _regions(found: Cells) -> Iterator[Region]:
    sizes, wrong = found.sizes, found.wrong
    longest, page = log2(max(2, int(found.row.max()))), sizes.page_size
    heads = found.heads_wrong
    yield _made(found, "heads", heads, np.isin(found.head, heads), log2(sizes.heads + 1))
    distance = found.row - found.source
    for least in np.unique(distance[wrong]):
        yield _made(found, "distance", (int(least),), distance >= least, log2(sizes.heads + 1))
    yield from _in_the_cache(found, longest)
    offsets = tuple(int(p) for p in np.unique(found.source[wrong] % page))
    if len(offsets) <= page // 2:
        mask = np.isin(found.source % page, offsets)
        yield _made(found, "offset", offsets, mask, log2(page) + 1)
    yield from _crossings(found, longest)
    rows = (int(found.row[wrong].min()), int(found.row[wrong].max()))
    inside = (found.row >= rows[0]) & (found.row <= rows[1])
    yield _made(found, "rows", rows, inside, longest)


def _in_the_cache(found: Cells, longest: float) -> Iterator[Region]:
    """Positions, blocks or an interval that is read wrong, whoever reads it."""
    page, wrong = found.sizes.page_size, found.wrong
    slots = tuple(int(s) for s in np.unique(found.source[wrong]))
    yield _made(found, "slots", slots, np.isin(found.source, slots), longest)
    blocks = found.source // page
    bad = tuple(int(b) for b in np.unique(blocks[wrong]))
    yield _made(found, "blocks", bad, np.isin(blocks, bad), max(1.0, longest - log2(page)))
    ends = (slots[0], slots[-1])
    inside = (found.source >= ends[0]) & (found.source <= ends[1])
    yield _made(found, "sources", ends, inside, longest)


def _crossings(found: Cells, longest: float) -> Iterator[Region]:
    """A border between what is read and what reads: at one position, or where each prompt ends."""
    first, last = int(found.source.min()), int(found.row.max())
    page = found.sizes.page_size
    borders = set(range(first - first % page + page, last + 1, page))
    borders |= {int(found.row[found.wrong].min()), int(found.source[found.wrong].max()) + 1}
    options = [
        _made(found, "crossing", (c,), (found.source < c) & (found.row >= c), longest)
        for c in sorted(borders)
    ]
    yield min(options, key=lambda r: r.cost)
    ends = np.asarray([r.prompt_tokens for r in found.requests])[found.request]
    across = (found.source < ends) & (found.row >= ends)
    yield _made(found, "decode", (), across, 1.0)
    yield _made(found, "decode_rows", (), found.row >= ends, 1.0)


def _made(
    found: Cells, kind: str, numbers: tuple[int, ...], mask: NDArray[np.bool_], each: float
) -> Region:
    """A region with its cost; a wrong cell outside is named by itself."""
    count = 2 if kind in ("sources", "rows") else max(1, len(numbers))
    outside = int((found.wrong & ~mask).sum())
    cost = float(mask.sum()) + each * count + outside * log2(len(mask) + 1)
    return Region(kind, numbers, mask, cost)
