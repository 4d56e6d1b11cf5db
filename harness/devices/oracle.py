"""What a diagnosis asks of the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import Cause
from harness.statistics.rows import SKETCH_WIDTH

#: The ids of each row that are looked at, int32 (n, k), ``NO_TOKEN`` where there are fewer, by
#: what a pass reads: a prompt and its output.
ChosenIds = Mapping[tuple[int, ...], NDArray[np.int32]]


class Gradients(Protocol):
    """How one product of rows moves with each cause."""

    @property
    def whole(self) -> Mapping[Cause, float]: ...

    @property
    def parts(self) -> Mapping[tuple[str, str], NDArray[np.float32]]: ...


@dataclass(frozen=True, eq=False)
class Answer:
    """Gradients that are known."""

    whole: Mapping[Cause, float]
    parts: Mapping[tuple[str, str], NDArray[np.float32]]


class Oracle(Protocol):
    """The oracle, seen from its logits (``harness.devices.hf.sensitivity``)."""

    @property
    def settings(self) -> tuple[Cause, ...]: ...

    @property
    def exchanges(self) -> tuple[Cause, ...]: ...

    @property
    def weights(self) -> int: ...

    def sketches(self, ids: Sequence[int], rows: int) -> NDArray[np.float64]: ...

    def gradients(
        self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], Sequence[Gradients]]: ...

    def layer_changes(
        self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> Sequence[Mapping[Cause, float]]: ...

    def entries(
        self, part: Cause, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.float64]: ...

    def changed(self, cause: Cause, size: float) -> AbstractContextManager[None]: ...

    def now(self, cause: Cause) -> float | None: ...


@runtime_checkable
class SensitiveDevice(Protocol):
    """A device whose open model, in float32, can be asked as an oracle."""

    def sensitivity(
        self, chosen: ChosenIds | None = None, buckets: int = SKETCH_WIDTH
    ) -> Oracle: ...
