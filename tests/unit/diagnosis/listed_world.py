"""An oracle whose logits are linear in its causes, of which a server lists the largest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from linear_oracle import Found, LinearOracle
from numpy.typing import NDArray

from harness.devices.causes import Cause
from harness.devices.server.reply import told_rows
from harness.diagnosis.errors import Errors, PromptErrors
from harness.statistics.listed import centred_at, ids_within_reach, listed_count, listed_metric
from harness.statistics.rows import NO_TOKEN, RowStatistics, row_statistics

ROWS, VOCABULARY = 8, 100
ARMS, NOISE = 4, 0.05
Directions = Mapping[Cause, NDArray[np.float64]]


def served(rows: RowStatistics, listed: int = 20, digits: int | None = None) -> RowStatistics:
    """What a server would list of these rows, printed with so many digits after the point."""
    logs = rows.top_logits - rows.logsumexp[:, None]
    told = logs if digits is None else np.round(logs, digits)
    pairs = zip(rows.top_ids.tolist(), told.tolist(), strict=True)
    return told_rows([dict(zip(*each, strict=True)) for each in pairs], listed)


@dataclass
class LinearLogits(LinearOracle):
    """``directions`` are float64 (p, ROWS, VOCABULARY) of each cause. Rows, which begin at
    ``base``, are seen at the ids of ``chosen``, by what a pass reads."""

    base: NDArray[np.float64] = field(kw_only=True)
    chosen: Mapping[tuple[int, ...], NDArray[np.int32]] = field(kw_only=True)

    def sketches(self, ids: Sequence[int], _: int) -> NDArray[np.float64]:
        moved = self.base[ids[0]].copy()
        for cause, size in self.sizes.items():
            moved += size * self.directions[cause][ids[0]]
        return self._seen(ids, moved)

    def gradients(
        self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], list[Found]]:
        along = {
            cause: self._seen(ids, direction[ids[0]])
            for cause, direction in self.directions.items()
            if cause not in self.settings
        }
        found = [Found({c: float(np.sum(d * v)) for c, d in along.items()}, {}) for v in vectors]
        return self.sketches(ids, ROWS), found

    def _seen(self, ids: Sequence[int], logits: NDArray[np.float64]) -> NDArray[np.float64]:
        chosen = self.chosen[tuple(ids)]
        there = chosen != NO_TOKEN
        values = np.where(there, np.take_along_axis(logits, np.maximum(chosen, 0), axis=1), 0.0)
        mean = values.sum(axis=1, keepdims=True) / np.maximum(there.sum(axis=1, keepdims=True), 1)
        return np.where(there, values - mean, 0.0)


def world(
    seed: int,
    causes: Sequence[Cause],
    effects: Mapping[Cause, float],
    *,
    prompts: int = 12,
    listed: int = 20,
    coarse: float = 1.0,
    digits: int | None = None,
    settings: tuple[Cause, ...] = (),
) -> tuple[Errors, LinearLogits]:
    """Normal rounding of the arms and of a candidate that is ``coarse`` times as large."""
    random = np.random.default_rng(seed)
    base = 2.0 * random.normal(size=(prompts, ROWS, VOCABULARY))
    along = {cause: random.normal(size=base.shape) for cause in causes}
    made: list[PromptErrors] = []
    chosen: dict[tuple[int, ...], NDArray[np.int32]] = {}
    for index in range(prompts):

        def rows(scale: float, moved: NDArray[np.float64] | float = 0.0, i: int = index) -> object:
            noise = scale * NOISE * random.normal(size=(ROWS, VOCABULARY))
            return row_statistics((base[i] + noise + moved).astype(np.float32))

        truth = rows(0.0)
        effect = sum((s * along[c][index] for c, s in effects.items()), np.zeros(()))
        mine = served(rows(coarse, effect), listed, digits)
        most = listed_count(mine)
        ids = ids_within_reach(truth, np.full(ROWS, NOISE), most)
        chosen[index, 1] = ids
        at = centred_at(truth, ids, most)
        arms = np.stack([centred_at(rows(1.0), ids, most) for _ in range(ARMS)]) - at
        made.append(
            PromptErrors(f"p{index}", (index, 1), at, arms, centred_at(mine, ids, most) - at)
        )
    metric = listed_metric([p.arms for p in made], [chosen[p.token_ids] for p in made])
    return Errors(tuple(made), metric, chosen, listed), LinearLogits(
        along, settings, base=base, chosen=chosen
    )
