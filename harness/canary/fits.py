"""What each head of a layer really reads: another distance, another bit, nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.canary.cells import Cells
from harness.canary.evidence import convincing
from harness.canary.layout import head_bits
from harness.canary.sizes import KEY_STEP, Sizes

#: How far into the future a head is searched.
_AHEAD = 16
#: Of the cells of a head, so many must agree with a fit: a reader of one position has no
#: other values but those at the ends of what it may read.
_AGREE = 0.93
#: A head that asks for so few positions ahead reads its own.
NEAREST = 3
#: What is nothing, and what is the mean of everything.
_NOTHING, _MEAN = 0.004, 0.03
_CHUNK = 4096

Reads = tuple[tuple[int, ...], tuple[int, ...]]


@dataclass(frozen=True)
class Fit:
    """How a head's cells come about.

    Attributes:
        kind: ``reads``: ``bit`` of the source, ``distance`` back; ``nothing``: zeros;
            ``flat``: the mean of all positions.
    """

    kind: Literal["reads", "nothing", "flat"]
    distance: int = 0
    bit: int = 0


def fits(found: Cells) -> dict[int, Fit | None]:
    """The fit of each wrong head; None where nothing fits."""
    return {head: _fit(found.of(found.head == head), head) for head in found.heads_wrong}


def _fit(mine: Cells, head: int) -> Fit | None:
    if mine.agrees(np.zeros(len(mine.row)), _NOTHING) == 1:
        return Fit("nothing")
    if mine.agrees(mine.means(), _MEAN) >= _AGREE:
        return Fit("flat")
    sizes, layer = mine.sizes, mine.layer
    own = int(mine.own_bit[0])
    width = sizes.bits if layer == 0 else sizes.width
    reach = int(mine.row.max()) + 1
    wanted = sizes.reads[layer][head]
    for bit in sorted(range(width), key=lambda b: b != own):
        distances, shares = _scan(mine, bit, reach)
        good = np.flatnonzero((shares >= _AGREE) & (shares == shares.max()))
        choices = len(distances) * width
        if len(good) and convincing(float(shares.max()), len(mine.row), choices):
            nearest = int(distances[good[np.abs(distances[good] - wanted).argmin()]])
            if (nearest, bit) == (wanted, own):
                return None  # right but for some cells
            return Fit("reads", nearest, bit)
    return None


def _scan(mine: Cells, bit: int, reach: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The share of cells that agree, for each distance."""
    distances = np.arange(-_AHEAD, reach)
    agree = np.zeros(len(distances))
    for number, request in enumerate(mine.requests):
        rows = mine.row[mine.request == number]
        values = mine.value[mine.request == number]
        if not len(rows):
            continue
        column = request.expected.source(mine.layer)[:, bit]
        for start in range(0, len(distances), _CHUNK):
            chunk = distances[start : start + _CHUNK]
            where = rows[:, None] - chunk
            inside = (where >= 0) & (where < len(column))
            read = np.where(inside, column[np.clip(where, 0, len(column) - 1)], 0)
            agree[start : start + _CHUNK] += (np.abs(values[:, None] - read) < 0.1).sum(axis=0)
    return distances, agree / len(mine.row)


def explains(exchange: Exchange, found: Cells, fitted: dict[int, Fit | None]) -> bool:
    """Whether an exchange is what the heads show: each reads what it would read then.

    A head that would read the future reads something else, so it is only asked to be wrong.
    """
    copied, layer = head_bits(found.sizes, found.layer), found.layer
    shown = 0
    for head, would in enumerate(zip(*exchange.reads, strict=True)):
        own = (found.sizes.reads[layer][head], copied[head])
        if would[0] < 0:
            if head not in fitted:
                return False
            continue
        fit = fitted.get(head)
        if head not in fitted:
            actual: tuple[int, int] | None = own
        else:
            actual = None if fit is None or fit.kind != "reads" else (fit.distance, fit.bit)
        if actual != would:
            return False
        shown += head in fitted
    return shown > 0


@dataclass(frozen=True)
class Exchange:
    """A wrong order of heads, and what the heads read then.

    Attributes:
        kind: ``query``, ``output``: of heads; ``key``, ``value``, ``kv``: of KV heads;
            ``tiled``: head h uses KV head h modulo their number; ``same``: all use one.
        parts: which change places; two of them, or empty where all do.
        shards: by how many parts all are rotated, or 0.
    """

    kind: str
    parts: tuple[int, ...]
    shards: int
    reads: Reads


def exchanges(sizes: Sizes, layer: int) -> Iterator[Exchange]:
    """Every exchange that has a name, the simple ones first."""
    heads, kv_heads = range(sizes.heads), range(sizes.kv_heads)
    for kind in ("query", "output"):
        for parts, shards, order in _orders(heads):
            yield Exchange(kind, parts, shards, _reads(sizes, layer, **{kind: order}))
    for kind in ("kv", "value", "key"):
        for parts, shards, order in _orders(kv_heads):
            orders = {"key": order, "value": order} if kind == "kv" else {kind: order}
            yield Exchange(kind, parts, shards, _reads(sizes, layer, **orders))
    tiled = [head % sizes.kv_heads for head in heads]
    yield Exchange("tiled", (), 0, _reads(sizes, layer, kv_of=tiled))
    for one in kv_heads:
        yield Exchange("same", (one,), 0, _reads(sizes, layer, kv_of=[one] * sizes.heads))


def _orders(of: range) -> Iterator[tuple[tuple[int, ...], int, list[int]]]:
    """Two exchanged, one in the place of another, or all rotated by a share of them."""
    count = len(of)
    for a, b in combinations(of, 2):
        order = list(of)
        order[a], order[b] = b, a
        yield (a, b), 0, order
    for shards in (2, 4, 8):
        if count % shards == 0 and count > 2:
            step = count // shards
            for turn in range(1, shards):
                yield (), shards, [(i + turn * step) % count for i in of]
    if count > 2:
        yield (), count, list(of)[::-1]
    for a in of:
        for b in of:
            if a != b:
                yield (a, b), -1, [b if i == a else i for i in of]


def _reads(
    sizes: Sizes,
    layer: int,
    *,
    query: list[int] | None = None,
    output: list[int] | None = None,
    key: list[int] | None = None,
    value: list[int] | None = None,
    kv_of: list[int] | None = None,
) -> Reads:
    """Distance and bit of each head under wrong orders."""
    group, copied = sizes.group, head_bits(sizes, layer)
    distances, bits = [], []
    for head in range(sizes.heads):
        computed = output[head] if output else head
        asks = query[computed] if query else computed
        kv_head = kv_of[computed] if kv_of else computed // group
        keys = key[kv_head] if key else kv_head
        values = value[kv_head] if value else kv_head
        step = KEY_STEP * sizes.stretch
        nominal = sizes.asked[layer][asks] + step * (keys - asks // group)
        window = sizes.window_of(layer)
        near = 0 if -NEAREST <= nominal < 0 else nominal
        distances.append(near if window is None else min(near, window - 1))
        bits.append(copied[values * group + head % group])
    return tuple(distances), tuple(bits)
