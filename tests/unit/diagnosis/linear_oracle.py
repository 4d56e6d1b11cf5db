"""An oracle whose rows move along fixed directions, so that every score is exact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import PARTS, Cause
from harness.devices.oracle import Question
from harness.diagnosis.errors import Errors, PromptErrors
from harness.statistics.score import metric_of

ROWS, WIDTH = 12, 64
Directions = Mapping[Cause, NDArray[np.float64]]


@dataclass
class Found:
    whole: dict[Cause, float]
    parts: dict[tuple[str, str], NDArray[np.float32]]


@dataclass
class LinearOracle:
    """``directions`` are float64 (p, ROWS, WIDTH) of each cause; token 0 of a prompt is
    its number. Single parts are causes too, of which the place has all indices."""

    directions: Directions
    settings: tuple[Cause, ...] = ()
    sizes: dict[Cause, float] = field(default_factory=dict)
    exchanges: tuple[Cause, ...] = ()
    layers: tuple[Cause, ...] = ()
    passes: int = 0
    announced: list[tuple[Question, ...]] = field(default_factory=list)
    vectors: int = 0

    @property
    def weights(self) -> int:
        return sum(cause.kind == "weight" for cause in self.directions)

    def sketches(self, ids: Sequence[int], rows: int) -> NDArray[np.float64]:
        self.passes += 1
        moved = np.zeros((ROWS, WIDTH))
        for cause, size in self.sizes.items():
            moved += size * self.directions[cause][ids[0]]
        return moved[:rows]

    def entries(
        self, part: Cause, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """Of the weights in a row or column, which are numbered without a gap."""
        chosen = sorted(
            cause
            for cause in self.directions
            if (cause.kind, cause.place) == ("weight", part.place)
            and part.index == (cause.index if part.kind == "row" else cause.column)
        )
        return np.array(
            [[float(np.sum(self.directions[c][ids[0]] * v)) for c in chosen] for v in vectors]
        ).reshape(len(vectors), len(chosen))

    def layer_changes(
        self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> list[dict[Cause, float]]:
        return [
            {c: float(np.sum(self.directions[c][ids[0]] * v)) for c in self.layers} for v in vectors
        ]

    def gradients(
        self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], list[Found]]:
        found = []
        self.vectors += len(vectors)
        for vector in vectors:
            values = {
                cause: float(np.sum(direction[ids[0]][: len(vector)] * vector))
                for cause, direction in self.directions.items()
            }
            parts: dict[tuple[str, str], list[float]] = {}
            for cause, value in values.items():
                if cause.kind in PARTS and cause.kind != "weight":
                    parts.setdefault((cause.kind, cause.place), []).append(value)
            whole = {
                c: v
                for c, v in values.items()
                if c.kind not in PARTS and c not in (*self.settings, *self.exchanges, *self.layers)
            }
            arrays = {key: np.array(value, np.float32) for key, value in parts.items()}
            found.append(Found(whole, arrays))
        return self.sketches(ids, len(vectors[0])), found

    def together(self, questions: Sequence[Question]) -> None:
        self.announced.append(tuple(questions))

    def forget(self) -> None:
        self.announced.clear()

    @contextmanager
    def changed(self, cause: Cause, size: float) -> Iterator[None]:
        self.sizes[cause] = size
        yield
        del self.sizes[cause]

    def now(self, cause: Cause) -> float | None:
        return 10_000.0 if cause.kind == "rope_base" else None


def directions(
    random: np.random.Generator, causes: Sequence[Cause], prompts: int
) -> dict[Cause, NDArray[np.float64]]:
    return {cause: random.normal(size=(prompts, ROWS, WIDTH)) for cause in causes}


def errors(
    random: np.random.Generator,
    prompts: int,
    effects: Mapping[Cause, float] | None = None,
    of: Directions | None = None,
    common: float = 0.3,
) -> Errors:
    """Normal rounding of four arms and a candidate that share a part of it, and effects."""
    made = []
    for index in range(prompts):
        noise = 0.5 + (index % 4) / 2.0
        shared = common * random.normal(size=(ROWS, WIDTH))
        arms = noise * (random.normal(size=(4, ROWS, WIDTH)) + shared)
        mine = noise * (random.normal(size=(ROWS, WIDTH)) + shared)
        for cause, size in (effects or {}).items():
            assert of is not None
            mine = mine + size * of[cause][index]
        made.append(PromptErrors(f"p{index}", (index, 1), np.zeros((ROWS, WIDTH)), arms, mine))
    return Errors(tuple(made), metric_of([p.arms for p in made]))
