"""The cause of wrong values of a mixture of experts: which expert's work came in whose place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from harness.canary.routing import all_signs, unnormalized
from harness.canary.sizes import Sizes
from harness.canary.words import Named, listed, named

_Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Routed:
    """What a mixture made, in every row.

    Attributes:
        product: of the two bits, before any expert's sign, shape (rows, width).
        value: what came, shape (rows, width).
        chosen: the experts of each row, shape (rows, 2).
        within: a value that is further off is wrong.
    """

    sizes: Sizes
    layer: int
    product: _Values
    value: _Values
    chosen: NDArray[np.int64]
    within: float

    def explained(self, works: list[int], weights: tuple[float, float] = (1.0, 1.0)) -> bool:
        """Whether all values are those of a mixture in which ``works[e]`` does the work of
        expert e, -1 for none, and the two experts weigh so many halves."""
        signs = np.concatenate([all_signs(self.sizes), np.zeros((1, self.sizes.width), np.int8)])
        by_expert = signs[np.asarray(works)].astype(np.float64)
        taken = sum(w * by_expert[self.chosen[:, i]] for i, w in enumerate(weights))
        return bool(np.abs(self.value - self.product * taken).max() <= self.within)


def experts(found: Routed) -> Named | None:
    """The first cause that explains every value; None if none does."""
    sizes, layer, right = found.sizes, found.layer, list(range(found.sizes.experts))
    part = unnormalized(sizes)
    shares = {(part, part): "experts_unnormalized"}
    shares |= dict.fromkeys(((2.0, 0.0), (0.0, 2.0)), "experts_one")
    for weights, cause in shares.items():
        if found.explained(right, weights):
            return named(cause, layer, factor=part)
    for zero in right:
        if found.explained([-1 if e == zero else e for e in right]):
            return named("expert_nothing", layer, expert=zero)
    for cause, pair, works in _orders(sizes.experts):
        if found.explained(works):
            if pair is None:
                return named(cause, layer, experts=sizes.experts)
            return named(cause, layer, a=pair[0], b=pair[1])
    return _missing(found)


def _orders(count: int) -> Iterator[tuple[str, tuple[int, int] | None, list[int]]]:
    """Two exchanged, one in the place of another, all rotated or reversed."""
    right = list(range(count))
    for a, b in permutations(right, 2):
        if a < b:
            swapped = {a: b, b: a}
            yield "experts_exchanged", (a, b), [swapped.get(e, e) for e in right]
    for a, b in permutations(right, 2):
        yield "expert_copied", (a, b), [b if e == a else e for e in right]
    for turn in range(1, count):
        yield "experts_order", None, right[turn:] + right[:turn]
    yield "experts_order", None, right[::-1]


def _missing(found: Routed) -> Named | None:
    """Several experts that give nothing, as a shard of them."""
    count = found.sizes.experts
    zero = []
    for expert in range(count):
        rows = (found.chosen == expert).any(axis=1)
        bits = all_signs(found.sizes)[expert] != 0
        if rows.any() and not np.abs(found.value[rows][:, bits]).max() > found.within:
            zero.append(expert)
    if not zero or not found.explained([-1 if e in zero else e for e in range(count)]):
        return None
    return named("experts_missing", found.layer, experts=listed(tuple(zero)))
