"""How the oracle's rows are seen: as sketches, or at chosen ids alone.

Both are linear in the logits, so one vector in place of each row tells what is traced back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.devices.oracle import ChosenIds
from harness.statistics.rows import NO_TOKEN, SKETCH_WIDTH, hashes


class Seen(Protocol):
    """What of a row's logits is looked at."""

    def of(self, ids: Sequence[int], logits: Any, /) -> NDArray[np.float64]:
        """The rows as they are seen, float64 (n, d).

        Args:
            ids: what the pass reads.
            logits: float32 (n, vocabulary), a tensor without gradient.
        """

    def pull(self, ids: Sequence[int], vector: NDArray[np.float64], width: int, /) -> Any:
        """The gradient, by the logits, of the rows' product with ``vector``, float32
        (n, width)."""


class Sketches:
    """Whole rows, as ``row_statistics`` sketches them: centred, in so many buckets."""

    def __init__(self, torch: Any, vocab_size: int, buckets: int = SKETCH_WIDTH) -> None:
        self._torch, self._buckets = torch, buckets
        bucket, sign = hashes(vocab_size, buckets)
        self._bucket = torch.tensor(np.array(bucket))
        self._sign = torch.tensor(np.array(sign), dtype=torch.float32)

    def of(self, _: Sequence[int], logits: Any, /) -> NDArray[np.float64]:
        """Float64 (n, buckets)."""
        wide = logits.double()
        wide = (wide - wide.mean(-1, keepdim=True)) * self._sign
        sums = self._torch.zeros(len(wide), self._buckets, dtype=wide.dtype)
        found: NDArray[np.float64] = sums.index_add_(1, self._bucket, wide).numpy()
        return found

    def pull(self, _: Sequence[int], vector: NDArray[np.float64], __: int, /) -> Any:
        """Dense: every id is in a bucket."""
        pull = self._torch.tensor(vector, dtype=self._torch.float32)[:, self._bucket] * self._sign
        return pull - pull.mean(-1, keepdim=True)


class Chosen:
    """The logits of some ids of each row, centred on them: what log-probabilities tell too,
    whatever they are normalized by.

    Args:
        chosen: the ids of each row, by what a pass reads.
    """

    def __init__(self, torch: Any, chosen: ChosenIds) -> None:
        self._torch = torch
        self._chosen: Mapping[tuple[int, ...], Any] = {
            read: torch.tensor(np.asarray(ids, np.int64)) for read, ids in chosen.items()
        }

    def of(self, ids: Sequence[int], logits: Any, /) -> NDArray[np.float64]:
        """Float64 (n, k); 0 where a row has no id."""
        at, there = self._at(ids)
        found: NDArray[np.float64] = _centred(logits.double().gather(1, at), there).numpy()
        return found

    def pull(self, ids: Sequence[int], vector: NDArray[np.float64], width: int, /) -> Any:
        """0 but at the ids."""
        at, there = self._at(ids)
        values = _centred(self._torch.tensor(vector, dtype=self._torch.float64), there).float()
        return self._torch.zeros(len(at), width).scatter_add_(1, at, values)

    def _at(self, ids: Sequence[int]) -> tuple[Any, Any]:
        """The ids of each row, and where there is one."""
        chosen = self._chosen[tuple(ids)]
        there = chosen != NO_TOKEN
        return chosen.clamp(min=0), there


def _centred(values: Any, there: Any) -> Any:
    """Less their mean over where there is one; 0 elsewhere."""
    held = values * there
    return (held - held.sum(-1, keepdim=True) / there.sum(-1, keepdim=True).clamp(min=1)) * there
