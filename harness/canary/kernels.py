"""What a layer's heads read under another RoPE or another window, computed from the weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.canary.cells import Cells
from harness.canary.evidence import convincing
from harness.canary.layout import head_bits
from harness.canary.phases import Planes, key, plain_frequencies, planes, query, stored
from harness.canary.scaling import RopeScaling, Scaling, scaled
from harness.canary.sizes import Sizes

#: Positions that are mixed into a value, the heaviest ones.
_HEAVIEST = 256
#: A cell agrees with a simulation within this. Where several positions are mixed, rounding
#: of the scores decides on their shares, so not all cells can agree.
_WITHIN = 0.3
_LEAST_ALL, _LEAST_WRONG = 0.85, 0.75
#: Good enough to look no further.
_CLOSE = 0.98
#: How many simulations are tried at most.
_CHOICES = 256
#: Cells that are simulated: many enough that none agree by chance.
_MOST_CELLS = 400


@dataclass(frozen=True)
class Rope:
    """A RoPE that an engine may have computed instead.

    Attributes:
        kind: ``base``: of another base; ``linear``: positions divided; ``interleaved``:
            dimensions paired in the layout that the model does not have; ``backwards``:
            turned the other way; ``none``: not applied; ``unscaled``: without LongRoPE, or
            without the scaling of its frequencies; ``scaled``: with another scaling;
            ``all``: the low and the high ones divided alike.
        factor: of the base, or of the positions.
        how: the other scaling.
    """

    kind: str
    factor: float = 1.0
    how: Scaling | None = None


def scores(sizes: Sizes, found: Planes, layer: int, rope: Rope) -> NDArray[np.float64]:
    """The score of each head at each distance, shape (heads, context)."""
    half = sizes.head_dim // 2
    frequencies = found.frequencies / sizes.stretch
    if rope.kind == "unscaled":
        frequencies = plain_frequencies(sizes, layer)
    elif rope.kind == "all":
        frequencies = plain_frequencies(sizes, layer) / rope.factor
    elif rope.how is not None:
        frequencies = scaled(plain_frequencies(sizes, layer), sizes.theta_of(layer), rope.how)
    elif rope.kind == "base":
        frequencies *= rope.factor ** (-np.arange(half) / half)
    elif rope.kind in ("linear", "backwards", "none"):
        frequencies *= {"backwards": -1.0, "none": 0.0}.get(rope.kind, 1 / rope.factor)
    result = np.empty((sizes.heads, sizes.context))
    turns = np.outer(np.arange(sizes.context), frequencies)
    cos, sin = np.cos(turns), np.sin(turns)
    for head, distance in enumerate(sizes.distances[layer]):
        q, k = query(sizes, found, head, distance), key(sizes, found, head // sizes.group)
        if rope.kind == "interleaved":
            product = _wrongly_paired(sizes, q) * np.conj(_wrongly_paired(sizes, k))
        else:
            product = _paired(q) * np.conj(_paired(k))
        used = np.flatnonzero(product)
        result[head] = cos[:, used] @ product.real[used] - sin[:, used] @ product.imag[used]
    return np.asarray(result / np.sqrt(sizes.score_size))


def _wrongly_paired(sizes: Sizes, vector: NDArray[np.float64]) -> NDArray[np.complex128]:
    """As the layout that the model does not have pairs dimensions."""
    kept = stored(sizes, vector)
    return _paired(kept) if sizes.interleaved else np.asarray(kept[0::2] + 1j * kept[1::2])


def _paired(vector: NDArray[np.float64]) -> NDArray[np.complex128]:
    half = len(vector) // 2
    return np.asarray(vector[:half] + 1j * vector[half:])


def simulated(cells: Cells, score: NDArray[np.float64]) -> NDArray[np.float64]:
    """The value of each cell where heads have these scores by distance."""
    bits = head_bits(cells.sizes, cells.layer)
    result = np.zeros(len(cells.row))
    window = cells.sizes.window_of(cells.layer)
    for head in range(cells.sizes.heads):
        of_head = score[head] if window is None else score[head][:window]
        for number, request in enumerate(cells.requests):
            mine = np.flatnonzero((cells.head == head) & (cells.request == number))
            if len(mine):
                column = request.expected.source(cells.layer)[:, bits[head]]
                result[mine] = _mixed(of_head, cells.row[mine], column)
    return result


def _mixed(
    score: NDArray[np.float64], rows: NDArray[np.int64], column: NDArray[np.int8]
) -> NDArray[np.float64]:
    """The softmax over the heaviest distances, of those that each row has."""
    seen = score[: int(rows.max()) + 1]
    if np.ptp(seen) < 1:  # flat: everything is mixed
        return np.asarray([column[: row + 1].mean() for row in rows])
    heavy = np.argsort(-seen)[:_HEAVIEST]
    inside = heavy <= rows[:, None]
    scores_of = np.where(inside, seen[heavy], -np.inf)
    best = scores_of.max(axis=1, keepdims=True)
    weight = np.exp(scores_of - np.where(np.isfinite(best), best, 0))
    read = column[np.clip(rows[:, None] - heavy, 0, None)]
    return np.asarray((read * weight).sum(axis=1) / np.maximum(weight.sum(axis=1), 1e-300))


def fitting_rope(cells: Cells) -> Rope | None:
    """The RoPE that explains a layer's cells, if one does."""
    found = planes(cells.sizes, cells.layer)
    some = _sample(cells)
    kinds = ["interleaved", "backwards", "none"]
    kinds += ["unscaled"] if cells.sizes.original_context is not None else []
    for rope in map(Rope, kinds):
        if _explains(_share(some, found, rope), some):
            return rope
    other = fitting_scaling(cells)
    if other is not None:
        return other
    searched = [
        _best(some, found, kind, factors)
        for kind, factors in (("base", np.geomspace(1 / 1024, 1024, 121)), ("linear", _LINEAR))
    ]
    rope, share = max(searched, key=lambda pair: pair[1])
    return rope if _explains(share, some) else None


def fitting_scaling(cells: Cells) -> Rope | None:
    """The scaling of frequencies that explains a layer's cells, if one does: none where there
    should be one, or another; the plainest of those that explain all."""
    if cells.sizes.original_context is not None:
        return None
    found, some, best = planes(cells.sizes, cells.layer), _sample(cells), (0.0, Rope("base"))
    for rope in _scalings(cells.sizes):
        share = _share(some, found, rope)
        if share > best[0]:
            best = share, rope
        if share >= _CLOSE:
            break
    return best[1] if _explains(best[0], some) else None


def _scalings(sizes: Sizes) -> Iterator[Rope]:
    """Scalings that an engine may have computed instead, the likely ones first."""
    right = sizes.scaling
    if right is None:
        starts = [
            Scaling("llama3", factor, original, 1, 4)
            for original in 2.0 ** np.arange(4, 18) for factor in (8, 32, 4, 2, 16)
        ]  # fmt: skip
        yield from (Rope("scaled", how=how) for how in starts)
        return
    yield Rope("unscaled")
    yield Rope("all", right.factor)
    if right.kind == "llama3":  # one border and no way between, at the one end or the other
        for turns in (right.few, right.many, (right.few + right.many) / 2):
            yield Rope("scaled", how=replace(right, few=turns, many=turns))
        yield Rope("scaled", how=replace(right, few=right.many / 2, many=2 * right.few))
    other: RopeScaling = "yarn" if right.kind == "llama3" else "llama3"
    yield Rope("scaled", how=replace(right, kind=other))
    for times in (1, 2.0, 0.5, 4.0, 0.25, 8.0, 0.125, 16.0, 0.0625):
        for more in (1, 2.0, 0.5, 4.0, 0.25, 8.0, 0.125):
            if (times, more) != (1, 1):
                how = replace(right, factor=right.factor * more, original=right.original * times)
                yield Rope("scaled", how=how)


_LINEAR = np.unique(
    np.concatenate(
        [
            *(np.arange(2, 17), 1 / np.arange(2, 17), 4 / np.arange(3, 16)),
            *(2.0 ** np.arange(-7, 8), np.geomspace(0.8, 1.25, 40), np.geomspace(20, 200, 10)),
        ]
    )
)


def _best(
    cells: Cells, found: Planes, kind: str, factors: NDArray[np.float64]
) -> tuple[Rope, float]:
    """The factor that explains most, and the share of wrong cells that it explains."""
    width = float(np.log(factors[1] / factors[0])) if kind == "base" else 0.02
    centre, share = 1.0, 0.0
    for _ in range(4):
        shares = [_share(cells, found, Rope(kind, float(f))) for f in factors]
        best = int(np.argmax(shares))
        if shares[best] > share:
            centre, share = float(factors[best]), shares[best]
        if share >= _CLOSE:
            break
        factors = centre * np.exp(np.linspace(-width, width, 13))
        width /= 5
    return Rope(kind, centre), share


def _sample(cells: Cells) -> Cells:
    """Some of the wrong cells and some of the right ones."""
    picked = np.zeros(len(cells.row), bool)
    for kind in (cells.wrong, ~cells.wrong):
        places = np.flatnonzero(kind)
        picked[places[:: max(1, len(places) // _MOST_CELLS)]] = True
    return cells.of(picked)


def _explains(share: float, cells: Cells) -> bool:
    return convincing(share, int(cells.wrong.sum()), _CHOICES, least=_LEAST_WRONG)


def _share(cells: Cells, found: Planes, rope: Rope) -> float:
    """The share of wrong cells that a RoPE explains; 0 where it makes right ones wrong."""
    predicted = simulated(cells, scores(cells.sizes, found, cells.layer, rope))
    near = np.abs(cells.value - predicted) <= _WITHIN
    return float(near[cells.wrong].mean()) if near.mean() >= _LEAST_ALL else 0.0


def keys_only(cells: Cells) -> bool:
    """Whether all is explained by keys that are turned and queries that are not: then every
    row reads by absolute positions, whatever its own."""
    sizes, found = cells.sizes, planes(cells.sizes, cells.layer)
    some = _sample(cells)
    turns = np.outer(np.arange(sizes.context), found.frequencies / sizes.stretch)
    bits, predicted = head_bits(sizes, cells.layer), np.zeros(len(some.row))
    for head, distance in enumerate(sizes.distances[cells.layer]):
        q, k = query(sizes, found, head, distance), key(sizes, found, head // sizes.group)
        product = _paired(k) * np.conj(_paired(q))
        score = (np.cos(turns) @ product.real - np.sin(turns) @ product.imag) / np.sqrt(
            sizes.score_size
        )
        for number, request in enumerate(some.requests):
            mine = (some.head == head) & (some.request == number)
            column = request.expected.source(cells.layer)[:, bits[head]]
            for cell in np.flatnonzero(mine):
                seen = score[: some.row[cell] + 1]
                weight = np.exp(seen - seen.max())
                predicted[cell] = (weight * column[: len(seen)]).sum() / weight.sum()
    near = np.abs(some.value - predicted) <= _WITHIN
    share = float(near[some.wrong].mean())
    return float(near.mean()) >= _LEAST_ALL and _explains(share, some)


def windows(cells: Cells, wrong: tuple[int, ...]) -> Iterator[tuple[int, dict[int, int]]]:
    """Windows that leave right heads right, with the distance that each wrong head reads then."""
    sizes, layer = cells.sizes, cells.layer
    nominal = sizes.asked[layer]
    right = [nominal[h] for h in range(sizes.heads) if h not in wrong]
    score = scores(sizes, planes(sizes, layer), layer, Rope("base"))
    lowest, highest = max(right, default=0) + 1, min(nominal[h] for h in wrong)
    for window in range(max(lowest, 2), highest + 1):
        yield window, {head: int(score[head][:window].argmax()) for head in wrong}
