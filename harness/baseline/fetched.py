"""The arms' rows of a large baseline: as ``ArmRows``, without holding errors or moments."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.baseline.scales import ArmRows


class FetchedArmRows(ArmRows):
    """``ArmRows`` whose errors are computed again whenever they are asked for, from rows that
    stand on the disk. What is kept of a position is one float for each arm.

    Args:
        fetch: computes ``error``, float64 (A, m, w).
        positions, shift: as of ``ArmRows``.
    """

    def __init__(
        self,
        fetch: Callable[[], NDArray[np.float64]],
        positions: NDArray[np.int64],
        shift: NDArray[np.float64],
    ) -> None:
        self.__dict__.update(_fetch=fetch, positions=positions, shift=shift)

    def __getattr__(self, name: str) -> Any:
        if name != "error":
            raise AttributeError(name)
        return self.__dict__["_fetch"]()

    @property
    def _once(self) -> ArmRows:
        return ArmRows(self.error, self.positions, self.shift)

    @property
    def squared(self) -> NDArray[np.float64]:
        return self._once.squared

    @property
    def usual(self) -> NDArray[np.float64]:
        return self._once.usual

    @property
    def moments(self) -> NDArray[np.float64]:
        return self._once.moments

    @cached_property
    def standing(self) -> NDArray[np.float64]:
        return self._once.standing
