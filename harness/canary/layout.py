"""Where each value of a canary is: in the residual, and among the logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.canary.sizes import Sizes

Part = Literal["own", "norm", "attention", "mlp"]
_Ids = NDArray[np.int64]

#: What a read-out logit is for a value of 1.
READOUT = 8.0


@dataclass(frozen=True)
class Probe:
    """One value that every row of logits reads out.

    ``own``: a bit of the token that was put in; ``norm``: the size of the row;
    ``attention``: what a head copied; ``mlp``: a bit that the MLP made.

    Attributes:
        layer: -1 for ``own`` and ``norm``.
        index: the bit, or the head.
        distance: how far back the head reads; 0 for the others.
        token_id: the id whose logit reads it.
    """

    part: Part
    layer: int
    index: int
    distance: int
    token_id: int

    @property
    def name(self) -> str:
        """As ``layer 2 head 3, 17 back``."""
        if self.part == "attention":
            return f"layer {self.layer} head {self.index}, {self.distance} back"
        if self.part == "mlp":
            return f"layer {self.layer} MLP bit {self.index}"
        return "size of the row" if self.part == "norm" else f"input bit {self.index}"


@dataclass(frozen=True)
class Layout:
    """Dimensions of the residual, as int64 arrays of indices.

    ``attention[l]`` and ``mlp[l]`` begin at 0 and become a bit, ±1; ``attention_room[l]``
    and ``mlp_room[l]`` begin at 1 and become 0, so that the mean square stays 1. ``mirror`` holds
    ``own`` once more where the head is the embedding; else it is empty.
    """

    own: _Ids
    mirror: _Ids
    attention: tuple[_Ids, ...]
    attention_room: tuple[_Ids, ...]
    mlp: tuple[_Ids, ...]
    mlp_room: tuple[_Ids, ...]
    twos: _Ids
    ones: _Ids

    def source(self, layer: int) -> _Ids:
        """What layer ``layer`` reads: the input's bits, or those of the MLP below."""
        return self.own if layer == 0 else self.mlp[layer - 1]


def layout(sizes: Sizes) -> Layout:
    """The residual of a canary. The squares of a row add up to the hidden size."""
    taken = 0

    def take(count: int) -> _Ids:
        nonlocal taken
        taken += count
        return np.arange(taken - count, taken)

    own, mirror = take(sizes.bits), take(sizes.own_dimensions - sizes.bits)
    blocks = [
        (take(sizes.heads), take(sizes.heads), take(sizes.width), take(sizes.width))
        for _ in range(sizes.layers)
    ]
    left = sizes.hidden - sizes.own_squares - sizes.layers * (sizes.heads + sizes.width)
    twos, ones = take(left // 4), take(left % 4)
    attention, attention_room, mlp, mlp_room = zip(*blocks, strict=True)
    return Layout(own, mirror, attention, attention_room, mlp, mlp_room, twos, ones)


def symbol_ids(sizes: Sizes) -> _Ids:
    """The token ids of the symbols, shape (2 ** bits,)."""
    return np.arange(1 << sizes.bits) * sizes.stride


def codes(sizes: Sizes) -> NDArray[np.int8]:
    """The bits of each symbol as ±1, shape (2 ** bits, bits)."""
    symbols = np.arange(1 << sizes.bits)
    return np.where(symbols[:, None] >> np.arange(sizes.bits) & 1, 1, -1).astype(np.int8)


def probes(sizes: Sizes) -> tuple[Probe, ...]:
    """Every probe, in the order in which a forward pass makes its value."""
    places: list[tuple[Part, int, int, int]] = [("own", -1, b, 0) for b in range(sizes.bits)]
    places.append(("norm", -1, 0, 0))
    for layer, reads in enumerate(sizes.reads):
        places += [("attention", layer, head, reads[head]) for head in range(sizes.heads)]
        places += [("mlp", layer, bit, 0) for bit in range(sizes.width)]
    symbols = 1 << sizes.bits
    return tuple(
        Probe(*place, token_id=k % symbols * sizes.stride + 1 + k // symbols)
        for k, place in enumerate(places)
    )


def factors(sizes: Sizes, bit: int) -> tuple[int, int | None]:
    """The two heads whose bits the MLP multiplies for ``bit``; None for the bit of that
    number of the layer's source, where there are fewer heads than bits."""
    if bit < sizes.heads and sizes.heads > 1:
        return bit, (bit + 1) % sizes.heads
    return bit % sizes.heads, None


def head_bits(sizes: Sizes, layer: int) -> tuple[int, ...]:
    """Which bit of the layer's source each head copies."""
    width = sizes.bits if layer == 0 else sizes.width
    return tuple(head % width for head in range(sizes.heads))
