"""What a diagnosis asks of the oracle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import Cause
from harness.process.progress import Progress
from harness.statistics.rows import SKETCH_WIDTH

#: The ids of each row that are looked at, int32 (n, k), ``NO_TOKEN`` where there are fewer, by
#: what a pass reads: a prompt and its output.
ChosenIds = Mapping[tuple[int, ...], NDArray[np.int32]]


@dataclass(frozen=True, eq=False)
class Question:
    """One question of an oracle; what it answers is in ``Oracle`` under the same name.

    Attributes:
        ids: what a pass reads.
        rows: how many of its last rows are looked at.
        vectors: float64 (rows, w) each, whose products are traced back.
        part: the row or column whose entries are asked for.
    """

    kind: Literal["sketches", "gradients", "layer_changes", "entries"]
    ids: tuple[int, ...]
    rows: int
    vectors: tuple[NDArray[np.float64], ...] = ()
    part: Cause | None = None

    def equals(self, other: Question) -> bool:
        """Whether both have the same answer."""
        one, two = ((q.kind, q.ids, q.rows, q.part, len(q.vectors)) for q in (self, other))
        same = map(np.array_equal, self.vectors, other.vectors)
        return one == two and all(same)


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

    def together(self, questions: Sequence[Question]) -> None:
        """What will be asked next, in this order: an oracle whose weights are on disk answers
        all of it at once, and keeps the answers until they are asked for."""

    def forget(self) -> None:
        """No more is asked: what was kept for a restart may go."""

    def now(self, cause: Cause) -> float | None: ...


@runtime_checkable
class SensitiveDevice(Protocol):
    """A device whose open model, in float32, can be asked as an oracle."""

    def sensitivity(
        self,
        chosen: ChosenIds | None = None,
        buckets: int = SKETCH_WIDTH,
        progress: Progress | None = None,
    ) -> Oracle: ...
