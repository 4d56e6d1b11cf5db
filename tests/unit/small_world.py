"""A small world: the truth, correct arms around it, and faults that are put in.

Real rows of 64 logits, as recordings, so that a fault is judged by all of the harness.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from factories import RNG, VOCABULARY, bfloat16, forced_recording, free_recording

from harness.alignment.align import compare
from harness.alignment.result import Alignment, Gate
from harness.baseline.baseline import Baseline

PROMPTS, POSITIONS, NOISE = 32, 8, 0.05
Rows = Mapping[str, np.ndarray]
TRUTH: Rows = {
    f"p{i}": 3 * RNG(100 + i).standard_normal((POSITIONS, VOCABULARY)) for i in range(PROMPTS)
}


def arm(seed: int, truth: Rows = TRUTH, noise: float = NOISE) -> dict[str, np.ndarray]:
    """A correct computation in bfloat16, with rounding errors of its own."""
    random = RNG(seed)
    return {i: bfloat16(r + noise * random.standard_normal(r.shape)) for i, r in truth.items()}


def baseline_of(
    reference_rows: Rows, truth: Rows = TRUTH, controls: Mapping[str, Rows] | None = None
) -> Baseline:
    """The reference's rows, the truth as oracle, and correct controls or the given ones."""
    reference = free_recording(reference_rows)
    exact = {i: rows.astype(np.float32) for i, rows in truth.items()}
    if controls is None:
        controls = {f"control-{s}": arm(s, truth) for s in (2, 3)}
    return Baseline(
        reference,
        forced_recording(exact, reference, dtype="float32"),
        {name: forced_recording(rows, reference) for name, rows in controls.items()},
    )


REFERENCE = arm(1)
BASELINE = baseline_of(REFERENCE)


def judged(rows: Rows, baseline: Baseline = BASELINE) -> Alignment:
    """The candidate's rows on the reference's tokens; fewer prompts than the baseline's
    are those that were run."""
    reference = baseline.reference
    run = reference.model_copy(
        update={"prompts": tuple(p for p in reference.prompts if p.id in rows)}
    )
    return compare(forced_recording(rows, run), baseline)


def statuses(found: Alignment) -> dict[str, str]:
    return {gate.name: gate.status for gate in found.gates}


def failing(found: Alignment) -> set[str]:
    return {name for name, status in statuses(found).items() if status == "FAIL"}


def gate(found: Alignment, name: str) -> Gate:
    return next(g for g in found.gates if g.name == name)


def off_truth(rows: Rows, truth: Rows = TRUTH) -> dict[str, np.ndarray]:
    """The error of every row, float64."""
    return {i: z.astype(np.float64) - truth[i] for i, z in rows.items()}


def unlikely(truth: np.ndarray, ids: int = 24) -> np.ndarray:
    """bool, the least likely ids of each row: no top list and no margin holds them."""
    order = np.argsort(truth, axis=1)
    found = np.zeros(truth.shape, np.bool_)
    np.put_along_axis(found, order[:, :ids], True, axis=1)
    return found


def damaged(rows: Rows, times: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Rows with so many times the error of the noise, among unlikely ids alone.

    Args:
        times: by prompt, float64 (POSITIONS,); 1 leaves a row as it is.
    """
    made = {i: z.copy() for i, z in rows.items()}
    for i, factors in times.items():
        ids = unlikely(TRUTH[i])
        for t in np.flatnonzero(factors > 1.0):
            error = np.zeros(VOCABULARY)
            size = NOISE * np.sqrt(VOCABULARY * (factors[t] ** 2 - 1.0))
            # Half of them up would reach the likely ids.
            error[ids[t]] = -np.abs(RNG(int(t)).standard_normal(int(ids[t].sum())))
            error -= error.mean()
            made[i][t] = bfloat16(made[i][t] + size * error / np.linalg.norm(error))
    return made


def at(position: int, value: float) -> np.ndarray:
    """1 at every position but one."""
    return np.where(np.arange(POSITIONS) == position, value, 1.0)
