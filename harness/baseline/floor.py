"""The noise floor of a baseline, measured between its own arms.

Computed once per baseline; every candidate is held against it. A control is
held against the reference as a candidate is, and its local noise is taken
from the other arms, as a candidate's is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.baseline.baseline import MIN_CONTROLS, Baseline
from harness.baseline.controls import RatioLimit, disagreement, ratio_limit
from harness.baseline.detail import judged_baseline
from harness.baseline.fetched import FetchedArmRows
from harness.baseline.routing import RouteNoise, route_noise
from harness.baseline.scales import ArmRows, Scales, scales_of
from harness.recording.format import PromptRecord, Recording, Run
from harness.statistics.lazy_rows import LazyRows
from harness.statistics.margins import Margins, margins
from harness.statistics.noise import local_noise, row_spacing, tolerance, top_k_rms_errors
from harness.statistics.rows import SKETCH_WIDTH, RowStatistics

#: A shift beyond this many times the local noise is counted as large.
LARGE = 3.0


@dataclass(frozen=True, eq=False)
class PromptFloor:
    """One prompt of the baseline: n positions, and A arms, the reference first.

    Attributes:
        unit: float64 (n,), spacing of the dtype, logits.
        noise: float64 (n,), local noise ``s_t`` of differences among the
            likeliest tokens, logits.
        arms: the arms' own rows, held against one another.
        large: float64 (n,), share of the controls whose shift is large.
        flips: float64 (n,), share of the controls that flip.
        predicted: float64 (n, 2), probability of a flip by margin and noise,
            as it is and inflated to the limit of the error ratio.
    """

    unit: NDArray[np.float64]
    noise: NDArray[np.float64]
    arms: ArmRows
    large: NDArray[np.float64]
    flips: NDArray[np.float64]
    predicted: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NoiseFloor:
    """The noise floor of a whole baseline, by prompt id.

    Attributes:
        controls: how many controls it was seen in.
        limit: of error ratios.
        scales: of the guards, from all prompts.
        routes: of a mixture of experts whose arms all tell them.
    """

    prompts: Mapping[str, PromptFloor]
    controls: int
    limit: RatioLimit
    scales: Scales
    routes: RouteNoise | None = None

    def tolerances(self) -> dict[str, NDArray[np.float64]]:
        """``tau_t`` of every position of every prompt, logits."""
        kappa = self.scales.kappa
        return {i: tolerance(kappa, p.noise, p.unit) for i, p in self.prompts.items()}


def has_noise_floor(baseline: Baseline) -> bool:
    """Whether there are an oracle and enough controls to measure noise."""
    return baseline.oracle is not None and len(baseline.controls) >= MIN_CONTROLS


def choices(run: Run) -> NDArray[np.int64]:
    """The token that the device chose, or would have chosen, at each position."""
    return np.array(run.choices(), dtype=np.int64)


def arm_rows(arm: Recording, prompt: PromptRecord) -> RowStatistics:
    """The rows of an arm on the tokens of the reference's prompt."""
    record = arm.prompt(prompt.id)
    assert record is not None  # checked when the baseline was put together
    return record.on(prompt.run.token_ids).rows


def noise_floor(baseline: Baseline, *, every_row: bool = False) -> NoiseFloor | None:
    """The floor of a baseline; None without an oracle and enough sound controls.

    Args:
        every_row: also of the rows that a mixture's routes leave out, as for a candidate that
            does not tell its own.
    """
    baseline = judged_baseline(baseline)
    oracle = baseline.oracle
    if oracle is None:
        return None
    sound = sound_controls(baseline)
    baseline = replace(baseline, controls=sound)
    if not has_noise_floor(baseline):
        return None
    limit = ratio_limit(sound, baseline.reference, oracle)
    routes = route_noise(baseline, limit)
    if routes is not None and every_row:
        routes = replace(routes, left_out="none")
    seen = {p.id: _seen(p, baseline, oracle, limit, routes) for p in baseline.reference.prompts}
    scale = _shift_scale(list(seen.values()))
    return NoiseFloor(
        {i: _prompt_floor(s, scale, limit) for i, s in seen.items()},
        len(sound),
        limit,
        scales_of([s.arms for s in seen.values()], limit),
        routes,
    )


def sound_controls(baseline: Baseline) -> dict[str, Recording]:
    """The controls that measure the noise; none without an oracle."""
    oracle = baseline.oracle
    if oracle is None:
        return {}
    return {
        name: control
        for name, control in baseline.controls.items()
        if _finite_beside(control, baseline.reference)
        and disagreement(control, baseline.reference, oracle) is None
    }


def _finite_beside(control: Recording, reference: Recording) -> bool:
    """Whether a control is finite wherever the reference is: NaN in it would look
    like a large noise, or like none."""
    return not any(
        ((arm_rows(control, p).nonfinite > 0) & (p.run.rows.nonfinite == 0)).any()
        for p in reference.prompts
    )


@dataclass(frozen=True, eq=False)
class _Seen:
    """One prompt: unit and noise, the reference's margin over its runner-up, the
    arms' rows, and each control's flips."""

    unit: NDArray[np.float64]
    noise: NDArray[np.float64]
    margin: NDArray[np.float64]
    arms: ArmRows
    flips: NDArray[np.bool_]


def _seen(
    prompt: PromptRecord,
    baseline: Baseline,
    oracle: Recording,
    limit: RatioLimit,
    routes: RouteNoise | None,
) -> _Seen:
    reference, chosen = prompt.run.rows, choices(prompt.run)
    unit = row_spacing(baseline.reference.dtype, reference)
    controls = [arm_rows(c, prompt) for c in baseline.controls.values()]
    truth = arm_rows(oracle, prompt)
    finite = np.all([rows.nonfinite == 0 for rows in (reference, truth, *controls)], axis=0)
    if routes is not None:
        finite &= routes.judged(prompt.id, len(finite), None)
    errors = top_k_rms_errors([reference, *controls], truth)
    found = [margins(reference, a, chosen, a.top_ids[:, 0].astype(np.int64)) for a in controls]
    shifts = [
        np.abs(f.shift)
        / np.where(
            finite,
            limit.hidden * local_noise([e for k, e in enumerate(errors) if k != j], unit),
            1.0,
        )
        for j, f in enumerate(found, start=1)
    ]
    n = len(reference)
    shift = np.where(finite, np.array(shifts).reshape(len(controls), n), 0.0)
    return _Seen(
        unit=unit,
        noise=limit.hidden * local_noise(errors, unit),
        margin=margins(reference, reference, chosen, chosen).margin,
        arms=_arm_rows([reference, *controls], truth, finite, shift),
        flips=np.array([f.flip for f in found], dtype=np.bool_).reshape(len(controls), n),
    )


def _arm_rows(
    arms: list[RowStatistics],
    truth: RowStatistics,
    finite: NDArray[np.bool_],
    shift: NDArray[np.float64],
) -> ArmRows:
    """The arms' errors; of rows that stand on the disk, computed when they are asked for."""
    at = np.flatnonzero(finite)

    def error() -> NDArray[np.float64]:
        return np.stack([_sketched(rows, truth) for rows in arms])[:, at]

    if any(isinstance(rows, LazyRows) for rows in (*arms, truth)):
        return FetchedArmRows(error, at, shift)
    return ArmRows(error(), at, shift)


def _sketched(arm: RowStatistics, truth: RowStatistics) -> NDArray[np.float64]:
    """The sketch of an arm's error, float64 (n, w); 0 where a side has none."""
    if arm.sketch is None or truth.sketch is None:
        return np.zeros((len(arm), SKETCH_WIDTH))
    return arm.sketch.astype(np.float64) - truth.sketch


def _shift_scale(seen: list[_Seen]) -> float:
    """Root-mean-square of shift over local noise, over all controls."""
    squares = np.concatenate([(s.arms.shift**2).ravel() for s in seen])
    return math.sqrt(float(squares.mean())) if squares.size else 0.0


def _prompt_floor(seen: _Seen, scale: float, limit: RatioLimit) -> PromptFloor:
    controls = max(len(seen.arms.shift), 1)
    return PromptFloor(
        unit=seen.unit,
        noise=seen.noise,
        arms=seen.arms,
        large=np.sum(seen.arms.shift > LARGE, axis=0) / controls,
        flips=np.sum(seen.flips, axis=0) / controls,
        predicted=np.stack(
            [flip_probability(seen.margin, f * scale * seen.noise) for f in limit.inflations],
            axis=1,
        ),
    )


def flip_probability(
    margin: NDArray[np.float64], deviation: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Chance that a normal shift of this standard deviation outweighs the
    margin, ``Phi(-margin / deviation)``; 0 where nothing moves. Shape (n,)."""
    safe = np.where(deviation > 0.0, deviation, 1.0)
    tail = np.array([0.5 * math.erfc(x) for x in (margin / safe / math.sqrt(2.0)).tolist()])
    return np.where(deviation > 0.0, tail, 0.0)


def relative_push(
    found: Margins, unit: NDArray[np.float64], noise: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What stands against a position, over its local noise; 0 up to two units.

    A position is beyond its tolerance exactly where this is above ``kappa``. The
    larger of the shift and of the margin that a flip crossed: a greedy choice
    flips only where the shift outweighs the margin.
    """
    crossed = np.where(found.flip, found.margin, 0.0)
    push = np.maximum(np.abs(found.shift), crossed)
    return np.asarray(np.where(push > 2.0 * unit, push / noise, 0.0))
