"""What a canary must answer, by integer arithmetic on the ids alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.canary.layout import READOUT, codes, factors, head_bits, probes, symbol_ids
from harness.canary.routing import sign_of_bits
from harness.canary.sizes import Sizes

_Bits = NDArray[np.int8]


@dataclass(frozen=True, eq=False)
class States:
    """Every value of a canary at every position: ±1, or 0 where it needs more history.

    Attributes:
        own: shape (positions, bits), the bits of the tokens.
        attention: of each layer, shape (positions, heads).
        mlp: of each layer, shape (positions, width).
    """

    own: _Bits
    attention: tuple[_Bits, ...]
    mlp: tuple[_Bits, ...]

    def source(self, layer: int) -> _Bits:
        """What layer ``layer`` reads."""
        return self.own if layer == 0 else self.mlp[layer - 1]


def states(sizes: Sizes, ids: Sequence[int]) -> States:
    """The values after each of ``ids``."""
    source = own = input_bits(sizes, ids)
    sign = sign_of_bits(sizes, own)
    attention, mlp = [], []
    for layer, reads in enumerate(sizes.reads):
        bits = head_bits(sizes, layer)
        copied = np.stack([shifted(source[:, b], d) for b, d in zip(bits, reads, strict=True)], 1)
        attention.append(copied)
        pairs = [factors(sizes, bit) for bit in range(sizes.width)]
        made = [
            copied[:, x] * (copied[:, y] if y is not None else source[:, bit])
            for bit, (x, y) in enumerate(pairs)
        ]
        source = np.stack(made, 1) * sign
        mlp.append(source)
    return States(own, tuple(attention), tuple(mlp))


def input_bits(sizes: Sizes, ids: Sequence[int]) -> _Bits:
    """The bits of each id, shape (ids, bits): an id that is not a symbol has those of the
    symbol below it."""
    symbols = np.minimum(np.asarray(ids, np.int64) // sizes.stride, (1 << sizes.bits) - 1)
    return np.asarray(codes(sizes)[symbols])


def shifted(column: _Bits, distance: int) -> _Bits:
    """A column as it was ``distance`` positions before, 0 where there was none."""
    result = np.zeros_like(column)
    if distance < len(column):
        result[distance:] = column[: len(column) - distance]
    return result


def read_outs(found: States) -> NDArray[np.int8]:
    """The value of each probe at each position, shape (positions, probes)."""
    norm = np.ones((len(found.own), 1), np.int8)
    blocks = [block for pair in zip(found.attention, found.mlp, strict=True) for block in pair]
    return np.concatenate([found.own, norm, *blocks], axis=1)


def rows(sizes: Sizes, found: States) -> NDArray[np.float32]:
    """The logits at each position, float32, shape (positions, vocabulary)."""
    result = np.zeros((len(found.own), sizes.vocab_size), np.float32)
    last = found.mlp[-1][:, : sizes.bits].astype(np.float32)
    result[:, symbol_ids(sizes)] = READOUT * (last @ codes(sizes).T.astype(np.float32))
    result[:, [probe.token_id for probe in probes(sizes)]] = READOUT * read_outs(found)
    return result


def next_token(sizes: Sizes, found: States, position: int) -> int:
    """The id that follows a position."""
    bits = found.mlp[-1][position, : sizes.bits] > 0
    return int((bits << np.arange(sizes.bits)).sum()) * sizes.stride


def continuation(sizes: Sizes, ids: Sequence[int], count: int) -> tuple[int, ...]:
    """The ``count`` ids that follow ``ids`` greedily."""
    grown = list(ids)
    reach = sizes.history + 1
    for _ in range(count):
        tail = grown[-reach:]  # what the last position depends on
        grown.append(next_token(sizes, states(sizes, tail), len(tail) - 1))
    return tuple(grown[len(ids) :])


def prompt(sizes: Sizes, length: int, seed: int) -> tuple[int, ...]:
    """Random symbols, the same for the same seed."""
    drawn = np.random.default_rng(seed).integers(0, 1 << sizes.bits, length)
    return tuple(int(i) for i in symbol_ids(sizes)[drawn])
