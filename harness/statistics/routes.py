"""Which experts a mixture's routers chose, token by token, in two bytes a layer."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Beyond it ``erfc`` is less than 1e-16, which adds nothing to a count.
_FAR = 6.0


@dataclass(frozen=True, eq=False)
class Routes:
    """The routes of n tokens, in every routed layer.

    The last of them belong to a run's rows, each to the token that a row follows; before
    them those of the prompt's earlier tokens, all or none.

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

    def of(self, rows: int, prompt: int) -> Routes | None:
        """With those of the prompt's earlier tokens where all of them are known, else without.

        Args:
            rows: of the run; None is returned where fewer are known.
            prompt: tokens of the prompt.
        """
        if len(self) < rows:
            return None
        whole = rows + prompt - 1
        return self[len(self) - (whole if len(self) == whole else rows) :]

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


def left(arm: Routes, truth: Routes) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """Where an arm left the truth's routes, and how near the truth's router was to it.

    Args:
        arm, truth: of the same n tokens and layers.

    Returns:
        bool (n,), whether the token has other experts in any layer; float64 (n,), the truth's
        margin in the first such layer, what follows being a consequence. NaN where it has
        none, or where the truth tells no margins.
    """
    moved = np.asarray(arm.chosen != truth.chosen)
    margin = np.full(len(truth), np.nan)
    if truth.margin is not None:
        rows = np.flatnonzero(moved.any(1))
        margin[rows] = truth.margin[rows, moved.argmax(1)[rows]]
    return np.asarray(moved.any(1)), margin


def tried(arm: Routes, truth: Routes) -> NDArray[np.float64]:
    """The truth's margins at which rounding alone could move the arm, float64 (m,): up to its
    first other expert, since its inputs are other ones from there on."""
    if truth.margin is None:
        return np.zeros(0)
    flat = truth.margin.ravel().astype(np.float64)  # tokens in order, layers in order
    moved = np.flatnonzero((arm.chosen != truth.chosen).ravel())
    return flat[: int(moved[0]) + 1] if len(moved) else flat


def router_noise(margins: NDArray[np.float64], flips: int) -> float:
    """The standard deviation of the difference of two router logits, at most (98 %).

    A choice with margin m flips with a chance of ``Phi(-m / s)`` if rounding is normal. The s
    that is returned makes as many flips as Poisson's law allows where ``flips`` were seen,
    ``(sqrt(flips + 1) + 1) ** 2`` (Anscombe, 1948).

    Args:
        margins: float64 (n,), logits; of all choices that could flip.
        flips: how many did.

    Returns:
        Logits; infinite where the choices are too few to tell.
    """
    allowed = (math.sqrt(flips + 1.0) + 1.0) ** 2
    if allowed >= 0.5 * len(margins):
        return math.inf
    low, high = 0.0, max(1e-6 * float(margins.max(initial=0.0)), 1e-30)
    while _flips(margins, high) < allowed:
        low, high = high, 2.0 * high
    for _ in range(40):
        middle = 0.5 * (low + high)
        low, high = (middle, high) if _flips(margins, middle) < allowed else (low, middle)
    return high


def widest_flip(margins: NDArray[np.float64], noise: float, chance: float) -> float:
    """The margin beyond which ``chance`` flips are expected among these choices, logits;
    infinite where the noise is."""
    if not math.isfinite(noise) or not len(margins):
        return math.inf
    order = np.sort(margins)[::-1]
    beyond = np.cumsum(_chances(order, noise))
    return float(order[min(int(np.searchsorted(beyond, chance)), len(order) - 1)])


def _flips(margins: NDArray[np.float64], noise: float) -> float:
    return float(_chances(margins, noise).sum())


def _chances(margins: NDArray[np.float64], noise: float) -> NDArray[np.float64]:
    """``Phi(-margin / noise)`` of each."""
    scaled = margins / noise / math.sqrt(2.0)
    near = scaled < _FAR
    chances = np.zeros(len(margins))
    chances[near] = [0.5 * math.erfc(x) for x in scaled[near].tolist()]
    return chances


def _mixed(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """splitmix64's finalizer."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(values ^ (values >> np.uint64(31)))
