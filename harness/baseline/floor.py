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
from harness.baseline.controls import disagreement
from harness.recording.format import PromptRecord, Recording, Run
from harness.statistics.margins import Margins, margins
from harness.statistics.noise import local_noise, rms_error, row_spacing, tolerance
from harness.statistics.rows import RowStatistics

#: A shift beyond this many times the local noise is counted as large.
LARGE = 3.0
#: What a candidate is held against: the controls as they are, which warns, and
#: with their noise inflated to the limit of the error ratio, which fails.
INFLATIONS = (1.0, 1.5)


@dataclass(frozen=True, eq=False)
class PromptFloor:
    """One prompt of the baseline, n positions.

    Attributes:
        unit: float64 (n,), spacing of the dtype, logits.
        noise: float64 (n,), local noise ``s_t``, logits.
        kappa: the largest ``|shift| / s_t`` of any control here.
        large: float64 (n,), share of the controls whose shift is large.
        flips: float64 (n,), share of the controls that flip.
        predicted: float64 (n, 2), probability of a flip by margin and noise,
            at each of INFLATIONS.
    """

    unit: NDArray[np.float64]
    noise: NDArray[np.float64]
    kappa: float
    large: NDArray[np.float64]
    flips: NDArray[np.float64]
    predicted: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class NoiseFloor:
    """The noise floor of a whole baseline, by prompt id; ``controls`` is how
    many arms it was seen in."""

    prompts: Mapping[str, PromptFloor]
    controls: int

    @property
    def kappa(self) -> float:
        """The largest ``|shift| / s_t`` over all prompts and controls."""
        return max((p.kappa for p in self.prompts.values()), default=0.0)

    def tolerances(self) -> dict[str, NDArray[np.float64]]:
        """``tau_t`` of every position of every prompt, logits."""
        kappa = self.kappa
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


def noise_floor(baseline: Baseline) -> NoiseFloor | None:
    """The floor of a baseline; None without an oracle and enough sound controls."""
    oracle = baseline.oracle
    if oracle is None:
        return None
    sound = {
        name: control
        for name, control in baseline.controls.items()
        if disagreement(control, baseline.reference, oracle) is None
    }
    baseline = replace(baseline, controls=sound)
    if not has_noise_floor(baseline):
        return None
    seen = {p.id: _seen(p, baseline, oracle) for p in baseline.reference.prompts}
    scale = _shift_scale(list(seen.values()))
    return NoiseFloor({i: _prompt_floor(s, scale) for i, s in seen.items()}, len(baseline.controls))


@dataclass(frozen=True, eq=False)
class _Seen:
    """One prompt: unit and noise, the reference's margin over its runner-up,
    and each usable control's shift over its local noise, and its flips."""

    unit: NDArray[np.float64]
    noise: NDArray[np.float64]
    margin: NDArray[np.float64]
    relative: NDArray[np.float64]
    flips: NDArray[np.bool_]


def _seen(prompt: PromptRecord, baseline: Baseline, oracle: Recording) -> _Seen:
    reference, chosen = prompt.run.rows, choices(prompt.run)
    width = baseline.reference.model.vocab_size
    unit = row_spacing(baseline.reference.dtype, reference)
    # NaN in a control would look like a large noise.
    found_rows = [arm_rows(c, prompt) for c in baseline.controls.values()]
    arms = [rows for rows in found_rows if not rows.nonfinite.any()]
    truth = arm_rows(oracle, prompt)
    errors = [rms_error(rows, truth, width) for rows in (reference, *arms)]
    found = [margins(reference, a, chosen, a.top_ids[:, 0].astype(np.int64)) for a in arms]
    relative = [
        np.abs(f.shift) / local_noise([e for k, e in enumerate(errors) if k != j], unit)
        for j, f in enumerate(found, start=1)
    ]
    n = len(reference)
    return _Seen(
        unit=unit,
        noise=local_noise(errors, unit),
        margin=margins(reference, reference, chosen, chosen).margin,
        relative=np.array(relative).reshape(len(arms), n),
        flips=np.array([f.flip for f in found], dtype=np.bool_).reshape(len(arms), n),
    )


def _shift_scale(seen: list[_Seen]) -> float:
    """Root-mean-square of shift over local noise, over all controls."""
    squares = np.concatenate([(s.relative**2).ravel() for s in seen])
    return math.sqrt(float(squares.mean())) if squares.size else 0.0


def _prompt_floor(seen: _Seen, scale: float) -> PromptFloor:
    arms = max(len(seen.relative), 1)
    return PromptFloor(
        unit=seen.unit,
        noise=seen.noise,
        kappa=float(seen.relative.max(initial=0.0)),
        large=np.sum(seen.relative > LARGE, axis=0) / arms,
        flips=np.sum(seen.flips, axis=0) / arms,
        predicted=np.stack(
            [flip_probability(seen.margin, f * scale * seen.noise) for f in INFLATIONS], axis=1
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

    A position is beyond its tolerance exactly where this is above
    ``HEADROOM * kappa``. The largest of the shift, of the margin that a flip crossed,
    and of what the chosen token lies below the best of its own row: a greedy
    choice flips only where the shift outweighs the margin, and one that the
    logits do not explain (a penalty, sampling) hides behind no small shift.
    """
    crossed = np.where(found.flip, found.margin, 0.0)
    push = np.maximum(np.maximum(np.abs(found.shift), crossed), found.trailing)
    return np.asarray(np.where(push > 2.0 * unit, push / noise, 0.0))
