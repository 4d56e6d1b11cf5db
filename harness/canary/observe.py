"""What a device answered, beside what it had to answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.canary.caps import BFLOAT16, FLOAT16, capped, uncapped
from harness.canary.expected import States, read_outs, rows, states
from harness.canary.layout import READOUT, Probe, probes
from harness.canary.sizes import Sizes

#: A value that is further off than this is wrong. Whether a row is exact is another
#: question: that is asked of its bits.
TOLERANCE = 0.02


@dataclass(frozen=True, eq=False)
class Seen:
    """The rows of one request.

    Attributes:
        name: of the request, for a reader.
        ids: what the rows are conditioned on; row t follows ``ids[:first + t + 1]``.
        first: the position of the first row: the last token of the prompt, or one within it.
        prompt_tokens: how many of the ids are the prompt's.
        logits: float32, shape (rows, vocabulary).
        expected: the values at every position of ``ids``.
        chosen: the tokens that the device took, one for each row; empty if they were given.
    """

    sizes: Sizes
    name: str
    ids: tuple[int, ...]
    first: int
    prompt_tokens: int
    logits: NDArray[np.float32]
    expected: States
    chosen: tuple[int, ...] = ()
    tolerance: float = TOLERANCE

    @cached_property
    def positions(self) -> NDArray[np.int64]:
        """The position of each row's input."""
        return self.first + np.arange(len(self.logits))

    @cached_property
    def wanted(self) -> NDArray[np.float32]:
        """The rows that had to come, shape (rows, vocabulary)."""
        cap = self.sizes.soft_cap
        return self.uncapped if cap is None else capped(self.uncapped, cap, self.grain)

    @cached_property
    def uncapped(self) -> NDArray[np.float32]:
        """The same before a soft-cap, shape (rows, vocabulary)."""
        return rows(self.sizes, self._at(self.positions))

    @cached_property
    def exact(self) -> NDArray[np.bool_]:
        """Which rows have the very bits that they had to have, bool (rows,)."""
        return np.asarray((self.logits == self.wanted).all(axis=1))

    @cached_property
    def scale(self) -> NDArray[np.float32]:
        """The size of each row, 1 where it is right, float32 (rows,)."""
        norm = next(p for p in probes(self.sizes) if p.part == "norm")
        return np.asarray(self.read([norm.token_id])[:, 0] / READOUT)

    @cached_property
    def values(self) -> NDArray[np.float32]:
        """What the probes read, in rows brought to their right size; (rows, probes)."""
        size = np.where(np.isfinite(self.scale) & (np.abs(self.scale) > 0.05), self.scale, 1)
        return np.asarray(self.raw / size[:, None])

    @cached_property
    def raw(self) -> NDArray[np.float32]:
        """What the probes read, in rows of the size that they have; (rows, probes)."""
        return np.asarray(self.read([p.token_id for p in probes(self.sizes)]) / READOUT)

    @cached_property
    def outs(self) -> NDArray[np.int8]:
        """What the probes had to read, shape (rows, probes)."""
        return read_outs(self._at(self.positions))

    @cached_property
    def wrong(self) -> NDArray[np.bool_]:
        """Which values are wrong, bool (rows, probes)."""
        return np.asarray(~(np.abs(self.values - self.outs) <= self.tolerance))

    @cached_property
    def grain(self) -> float:
        """The relative step of the dtype that the logits have."""
        finite = self.logits[np.isfinite(self.logits)]
        if not (np.ascontiguousarray(finite).view(np.uint32) & 0xFFFF).any():
            return BFLOAT16
        half = finite.astype(np.float16).astype(np.float32)
        return FLOAT16 if (half == finite).all() else 2.0**-20

    def part(self, part: str, layer: int = -1) -> NDArray[np.int64]:
        """The columns of one part's probes."""
        return np.asarray(
            [k for k, p in enumerate(probes(self.sizes)) if (p.part, p.layer) == (part, layer)]
        )

    def read(self, ids: list[int]) -> NDArray[np.float32]:
        """The logits of some ids as they were before a soft-cap, float32 (rows, ids)."""
        found, cap = self.logits[:, ids], self.sizes.soft_cap
        return found if cap is None else uncapped(found, cap, self.grain)

    def _at(self, positions: NDArray[np.int64]) -> States:
        e = self.expected
        return replace(
            e,
            own=e.own[positions],
            attention=tuple(a[positions] for a in e.attention),
            mlp=tuple(m[positions] for m in e.mlp),
        )


def seen(
    sizes: Sizes,
    name: str,
    ids: tuple[int, ...],
    logits: NDArray[np.float32],
    *,
    prompt_tokens: int,
    chosen: tuple[int, ...] = (),
) -> Seen:
    """Rows of a request: the last one follows all of ``ids``."""
    first = len(ids) - len(logits)
    return Seen(sizes, name, ids, first, prompt_tokens, logits, states(sizes, ids), chosen)


def all_probes(sizes: Sizes) -> tuple[Probe, ...]:
    """Every probe, in the order of the columns of ``values``."""
    return probes(sizes)
