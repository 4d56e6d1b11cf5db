"""The cause of wrong values of a layer's MLP, whose attention is right."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.canary.build import OPEN
from harness.canary.experts import Routed, experts
from harness.canary.layout import factors
from harness.canary.observe import TOLERANCE, Seen
from harness.canary.routing import chosen, sign_of_bits
from harness.canary.sizes import Sizes
from harness.canary.words import Named, listed, named

_Values = NDArray[np.float64]


def mlp(sizes: Sizes, layer: int, requests: Sequence[Seen]) -> Named:
    """Name the cause of a layer's wrong MLP from all rows that have a wrong bit of it."""
    if sizes.experts:
        mixture = experts(_routed(sizes, layer, requests))
        if mixture is not None:
            return mixture
    x, y, wanted, value = _columns(sizes, layer, requests)
    start = _put_in(sizes, layer, requests)
    wrong = np.abs(value - wanted) > TOLERANCE
    bits = tuple(int(b) for b in np.flatnonzero(wrong.any(axis=0)))
    if _gate_up(sizes, (x, y, value), start):
        return named("gate_up", layer)
    if not np.abs(value).max() > TOLERANCE:
        return named("mlp_nothing", layer)
    if not np.abs(value[:, list(bits)]).max() > TOLERANCE:
        return named("mlp_missing", layer, bits=listed(bits))
    return (
        _too_early(sizes, layer, requests, value * wanted)
        or _scaled(layer, value * wanted)
        or _by_units(layer, x, wanted, value)
        or _reordered(layer, wanted, value)
        or _mismatched(layer, x, y, value)
        or named("mlp", layer, bits=listed(bits), wrong=int(wrong.sum()))
    )


def _routed(sizes: Sizes, layer: int, requests: Sequence[Seen]) -> Routed:
    """What the experts made in every row, those that are right too."""
    x, y, wanted, value = _columns(sizes, layer, requests, every=True)
    own = [r.outs[:, r.part("own")] for r in requests]
    sign = np.concatenate([sign_of_bits(sizes, bits) for bits in own])
    experts_of = np.concatenate([chosen(sizes, bits) for bits in own])
    del x, y
    return Routed(sizes, layer, wanted * sign, value * 1.0, experts_of, TOLERANCE / 3)


def _columns(
    sizes: Sizes, layer: int, requests: Sequence[Seen], *, every: bool = False
) -> tuple[_Values, _Values, _Values, _Values]:
    """The two factors of each bit, their product and what came, each (rows, width); without
    the signs of experts.

    Args:
        every: of all rows, and not only of those with a wrong bit; with the signs.
    """
    parts: list[tuple[_Values, ...]] = []
    for request in requests:
        made = request.part("mlp", layer)
        rows = request.wrong[:, made].any(axis=1) | every
        copied = request.outs[:, request.part("attention", layer)][rows].astype(np.float64)
        below = request.part("own") if layer == 0 else request.part("mlp", layer - 1)
        source = request.outs[:, below][rows].astype(np.float64)
        pairs = [factors(sizes, bit) for bit in range(sizes.width)]
        x = np.stack([copied[:, a] for a, _ in pairs], 1)
        y = np.stack(
            [source[:, bit] if b is None else copied[:, b] for bit, (_, b) in enumerate(pairs)], 1
        )
        value = request.values[:, made][rows].astype(np.float64)
        wanted = request.outs[:, made][rows].astype(np.float64)
        if not every:
            sign = sign_of_bits(sizes, request.outs[:, request.part("own")][rows])
            value, wanted = value * sign, wanted * sign
        parts.append((x, y, wanted, value))
    x, y, wanted, value = (np.concatenate(c) for c in zip(*parts, strict=True))
    return x, y, wanted, value


def _put_in(sizes: Sizes, layer: int, requests: Sequence[Seen]) -> _Values:
    """What was where the bits of the same rows are written, (rows, width): the bits of a token
    where the head is the embedding, else 0."""
    parts = []
    for request in requests:
        rows = request.wrong[:, request.part("mlp", layer)].any(axis=1)
        part = np.zeros((int(rows.sum()), sizes.width))
        if sizes.tied and layer == sizes.layers - 1:
            part[:, : sizes.bits] = request.outs[:, request.part("own")][rows]
        parts.append(part)
    return np.concatenate(parts)


def _gate_up(sizes: Sizes, seen: tuple[_Values, _Values, _Values], start: _Values) -> bool:
    """Whether only the half of each product came, nearly; what was there is taken back by a
    product too. A norm after the MLP gives the halves another size."""
    x, y, value = seen
    made = x * _swapped(sizes, y) - _swapped(sizes, start)
    if not sizes.post_normed:
        return _near(value, start + made)
    came = value - start
    off, plainly = _off(came, made), _off(came, x * y - start)
    return off <= TOLERANCE / 3 and 2 * off < plainly


def _off(came: _Values, made: _Values) -> float:
    """How far values are from others that have another size in each row."""
    squares = np.maximum((made**2).sum(axis=1, keepdims=True), 1e-12)
    return float(np.abs(came - (came * made).sum(axis=1, keepdims=True) / squares * made).max())


def _swapped(sizes: Sizes, y: _Values) -> _Values:
    """What is left of y where it opens the gate itself: the half of it, nearly."""
    gate = y / OPEN
    if sizes.tied:  # GELU
        return np.asarray(y * (1 + np.tanh(np.sqrt(2 / np.pi) * (gate + 0.044715 * gate**3))) / 2)
    return np.asarray(y / (1 + np.exp(-gate)))


def _near(value: _Values, predicted: _Values) -> bool:
    return bool(np.abs(value - predicted).max() <= TOLERANCE / 3)


def _scaled(layer: int, ratio: _Values) -> Named | None:
    """Bits that are right but for one factor."""
    factor = float(np.median(ratio))
    if abs(factor) <= 0.1 or np.abs(ratio - factor).max() > 0.02 * abs(factor):
        return None
    return named("mlp_factor", layer, factor=factor)


def _too_early(sizes: Sizes, layer: int, requests: Sequence[Seen], ratio: _Values) -> Named | None:
    """The attention of the next layer read nothing, and these bits are there: it ran before."""
    if layer + 1 == sizes.layers or (ratio < 0.1).any():
        return None
    columns = requests[0].part("attention", layer + 1)
    if any(np.abs(r.values[:, columns]).max() > TOLERANCE for r in requests):
        return None
    return named("layer_order", layer + 1)


def _by_units(layer: int, x: _Values, wanted: _Values, value: _Values) -> Named | None:
    """Each unit of a bit gives a constant share of what it should: none, or another size."""
    ratio, shares = value * wanted, []
    for bit in range(value.shape[1]):
        for sign in (1, -1):  # which of the two units is open
            mine = ratio[x[:, bit] == sign, bit]
            share = float(np.median(mine)) if len(mine) else 1.0
            if len(mine) and np.abs(mine - share).max() > TOLERANCE * max(1.0, abs(share)):
                return None
            shares.append((bit, share))
    bits = tuple(sorted({bit for bit, share in shares if abs(share - 1) > TOLERANCE}))
    off = [share for _, share in shares if abs(share - 1) > TOLERANCE]
    if all(abs(share) <= TOLERANCE for share in off):
        return named("mlp_missing", layer, bits=listed(bits))
    if np.ptp(off) <= TOLERANCE:
        return named("mlp_factor_some", layer, bits=listed(bits), factor=off[0])
    return named("norm_mlp", layer, low=min(off), high=max(off))


def _reordered(layer: int, wanted: _Values, value: _Values) -> Named | None:
    """Bits that are right but in each other's places."""
    order = [_column(value[:, bit], wanted, bit) for bit in range(wanted.shape[1])]
    if None in order or len(value) < 2 * wanted.shape[1]:
        return None
    moved = tuple(bit for bit, of in enumerate(order) if of != bit)
    return named("mlp_order", layer, bits=listed(moved))


def _column(value: _Values, among: _Values, first: int) -> int | None:
    count = among.shape[1]
    for bit in sorted(range(count), key=lambda b: b != first):
        if _near(value, among[:, bit]):
            return bit
    return None


def _mismatched(layer: int, x: _Values, y: _Values, value: _Values) -> Named | None:
    """The gate of one bit with the up of another: shards that do not belong together."""
    if len(value) < 2 * x.shape[1]:
        return None
    pairs = []
    for bit in range(x.shape[1]):
        if np.abs(value[:, bit]).max() <= TOLERANCE:
            pairs.append((-1, -1))  # of units that have no part in a bit
            continue
        for gate in sorted(range(x.shape[1]), key=lambda b: b != bit):
            up = _column(value[:, bit] * x[:, gate], y, bit)
            if up is not None:
                pairs.append((gate, up))
                break
        else:
            return None
    wrong = tuple(bit for bit, (gate, up) in enumerate(pairs) if (gate, up) != (bit, bit))
    return named("mlp_pairs", layer, bits=listed(wrong))
