"""Places in outputs: the same position, from the start or from the end, of all prompts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: A place that fewer prompts have says nothing that their rows do not say.
FEWEST = 4


@dataclass(frozen=True, eq=False)
class Places:
    """How far rows stand out at each place, as geometric means over prompts.

    Attributes:
        index: int64 (k,), position from 0, or from the end: -1 is the last.
        standing: float64 (k,).
    """

    index: NDArray[np.int64]
    standing: NDArray[np.float64]


def places_of(
    standing: Sequence[NDArray[np.float64]],
    at: Sequence[NDArray[np.int64]],
    lengths: Sequence[int],
) -> Places:
    """Every place that ``FEWEST`` prompts have.

    Args:
        standing: of each prompt's rows, float64 (m,); rows at 0 have no error.
        at: int64 (m,), their positions in the output.
        lengths: of the outputs.
    """
    longest = max(lengths, default=0)
    logs, counts = np.zeros(2 * longest), np.zeros(2 * longest)
    for rows, positions, length in zip(standing, at, lengths, strict=True):
        seen = rows > 0.0
        found, index = np.log(rows[seen]), positions[seen]
        # Places from the end stand behind those from the start. No prompt has one twice.
        for place in (index, index - length):
            logs[place] += found
            counts[place] += 1.0
    kept = np.flatnonzero(counts >= FEWEST)
    index = np.where(kept < longest, kept, kept - 2 * longest)
    return Places(index.astype(np.int64), np.exp(logs[kept] / counts[kept]))
