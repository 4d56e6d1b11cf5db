"""Which experts a mixture's routers chose, row by row, in two bytes a layer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Routes:
    """The routes of n rows: of the last token that each row follows, in every routed layer.

    Attributes:
        chosen: uint16 (n, layers), a hash of the set of experts. Two sets have one hash by
            chance in 1 of 65,536 cases.
        margin: float32 (n, layers), logits of the router: the least of a chosen expert minus
            the largest of one that was left out. None where the device does not tell, or where
            the choice does not go by these logits alone.
    """

    chosen: NDArray[np.uint16]
    margin: NDArray[np.float32] | None = None

    def __post_init__(self) -> None:
        if self.chosen.ndim != 2 or not self.chosen.shape[1]:
            raise ValueError(f"routes have shape {self.chosen.shape}, not (rows, layers)")
        if self.margin is not None and self.margin.shape != self.chosen.shape:
            raise ValueError(f"margins {self.margin.shape} of routes {self.chosen.shape}")

    def __len__(self) -> int:
        return len(self.chosen)

    def __getitem__(self, index: slice) -> Routes:
        return Routes(self.chosen[index], None if self.margin is None else self.margin[index])

    @property
    def layers(self) -> int:
        """How many layers have a router."""
        return int(self.chosen.shape[1])


def set_hashes(ids: NDArray[np.integer]) -> NDArray[np.uint16]:
    """A hash of each set of experts, whatever their order.

    Args:
        ids: (..., k), the experts of one router.

    Returns:
        uint16, of the shape without k.
    """
    with np.errstate(over="ignore"):
        total = _mixed(np.asarray(ids).astype(np.uint64) + np.uint64(1)).sum(-1, dtype=np.uint64)
        return np.asarray(_mixed(total) >> np.uint64(48)).astype(np.uint16)


def joined(parts: list[Routes]) -> Routes | None:
    """The rows of all parts, in order; None without parts, or of models of other layers."""
    if not parts or len({part.layers for part in parts}) != 1:
        return None
    margins = [part.margin for part in parts if part.margin is not None]
    return Routes(
        np.concatenate([part.chosen for part in parts]),
        np.concatenate(margins) if len(margins) == len(parts) else None,
    )


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finalizer."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))
