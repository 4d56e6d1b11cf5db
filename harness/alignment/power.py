"""The power of a judgement: the smallest faults that this suite, with this baseline,
would have told with 95 %."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import Evidence, gather
from harness.alignment.gates.bias import (
    BIAS_LIMIT,
    SLOPE_LIMIT,
    bias_shares,
    bucket_charges,
    bucket_limit,
    bucket_reach,
    slope_differences,
)
from harness.alignment.gates.ratio import whole_ratio
from harness.alignment.power_facts import Power
from harness.alignment.prompts import hold
from harness.baseline.baseline import Baseline
from harness.baseline.detail import judged_baseline
from harness.baseline.floor import noise_floor
from harness.baseline.scales import Scales
from harness.messages.message import Message, message
from harness.statistics.intervals import FAIL_CONFIDENCE, Estimate, t_at

__all__ = ["Power", "power_before", "power_of", "power_rows"]

#: One-sided 95 % of a normal variable.
_ONE_SIDED = 1.6448536269514722
#: The share of rows or prompts that a fault of the stated size must carry beyond a limit.
_TOLD = 0.95


def power_of(evidence: Evidence, scales: Scales, noise: NDArray[np.float64]) -> Power:
    """What would have been told.

    An estimate with standard error s fails with 95 % where the truth lies beyond the
    limit by ``(t + 1.645) s``, t of the 99.9 % interval. A guard fails where 95 % of
    the arms' rows, or prompts, would be beyond its limit if they were so many times as
    large.

    Args:
        evidence: of the candidate; a control's, before one has run.
        noise: float64 (n,), the local noise of the judged positions, logits.
    """
    ratio, slope = whole_ratio(evidence), slope_differences(evidence)[0]
    share = bias_shares(evidence)[0]
    at = scales.kappa * float(np.median(noise)) if scales.kappa and noise.size else None
    reach = _reach(ratio)
    return Power(
        uniform=None if reach is None else evidence.limit.value * math.exp(reach),
        prompt=_times(scales.prompt_limit, _pooled(evidence, whole=True)),
        row=_times(scales.row_limit, _pooled(evidence, whole=False)),
        shift=at,
        token=_token(evidence),
        scale=_beyond(SLOPE_LIMIT, slope),
        systematic=_beyond(evidence.limit.size**2 * BIAS_LIMIT, share),
    )


def power_before(baseline: Baseline) -> Power | None:
    """What any candidate could be told by, before one has run: with the noise of the
    first control in its place. None where there is no noise floor."""
    baseline = judged_baseline(baseline)
    floor = noise_floor(baseline)
    if floor is None:
        return None
    control = next(iter(baseline.controls.values()))
    noise = np.concatenate([p.noise for p in floor.prompts.values()])
    held = [hold(p, baseline, control.dtype, floor.routes) for p in control.prompts]
    return power_of(gather(held, floor), floor.scales, noise)


def _reach(found: Estimate) -> float | None:
    if found.error is None or found.value is None:
        return None
    return (t_at(FAIL_CONFIDENCE, found.freedom) + _ONE_SIDED) * found.error


def _beyond(limit: float, found: Estimate) -> float | None:
    reach = _reach(found)
    return None if reach is None else limit + reach


def _pooled(evidence: Evidence, *, whole: bool) -> NDArray[np.float64]:
    """How far the arms' rows or prompts stand out, float64 (any,)."""
    arms = [a for a in evidence.arms if a is not None]
    parts = [a.prompt_standing if whole else a.standing.ravel() for a in arms]
    return np.concatenate(parts) if parts else np.zeros(0)


def _times(limit: float, standing: NDArray[np.float64]) -> float | None:
    if limit <= 0.0 or not standing.size:
        return None
    low = float(np.quantile(standing, 1.0 - _TOLD))
    return limit / low if low > 0.0 else None


def _token(evidence: Evidence) -> float | None:
    """A token's logit that is off at every position: it must pass the limit from the
    wrong side of the bucket's own error."""
    if not evidence.controls or len(evidence) < 2 or not evidence.rows.any():
        return None
    _, controls = bucket_charges(evidence)
    largest = float(controls.max(initial=0.0))
    reach = float(np.median([bucket_reach(evidence, k) for k in range(controls.shape[1])]))
    return max(bucket_limit(evidence), largest + reach) + largest


def power_rows(power: Power) -> tuple[tuple[str, Message], ...]:
    """The power as a table: for each row the key of its name, and what stands there."""
    figures = (
        ("power.uniform", "power.is.times", power.uniform),
        ("power.prompt", "power.is.times", power.prompt),
        ("power.row", "power.is.times", power.row),
        ("power.shift", "power.is.shift", power.shift),
        ("power.token", "power.is.logits", power.token),
        ("power.scale", "power.is.scale", _percent(power.scale)),
        ("power.systematic", "power.is.share", _percent(power.systematic)),
    )
    return tuple(
        (name, message("power.is.unknown") if value is None else message(key, value=value))
        for name, key, value in figures
    )


def _percent(share: float | None) -> float | None:
    """None also where a double cannot hold it, as of a file that was made up."""
    found = math.nan if share is None else 100.0 * share
    return found if math.isfinite(found) else None
