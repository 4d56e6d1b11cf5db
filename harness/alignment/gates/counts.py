"""Counts of positions: how many large shifts, how many flips, against the controls.

These gates only raise an alarm: they fail where a count is significantly above
what the controls' noise, inflated by 1.5, explains, and warn where it is above
that noise as it is. Below that they pass; only the error ratio shows a port to
be right.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import Evidence
from harness.alignment.gates.decide import estimated_gate
from harness.alignment.outcomes import Status
from harness.alignment.result import Gate
from harness.baseline.controls import RatioLimit
from harness.baseline.floor import LARGE
from harness.messages.message import Value, message
from harness.statistics.intervals import FAIL_CONFIDENCE, Estimate, freedom_of

#: Confidence of the interval that must lie above 1 for a warning.
WARN_CONFIDENCE = 0.98
_LIMIT = 1.0


def count_ratio(
    observed: NDArray[np.float64], allowed: NDArray[np.float64], events: float
) -> Estimate:
    """``sum(observed) / sum(allowed)`` with the standard error of its logarithm.

    The spread of ``observed - ratio * allowed`` over prompts, at least that of
    independent events, and that of the ``events`` behind ``allowed``.

    Args:
        observed, allowed: float64 (p,), counts of each prompt.
        events: how many events ``allowed`` was estimated from.

    Returns:
        No value where nothing is allowed; no error with fewer than two
        prompts, or where nothing was observed.
    """
    n, total, most = len(observed), float(observed.sum()), float(allowed.sum())
    if most <= 0.0:
        return Estimate(None, prompts=n)
    value = total / most
    if n < 2 or total <= 0.0:
        return Estimate(value, prompts=n)
    spread = n * float(np.var(observed - value * allowed, ddof=1))
    variance = max(spread, total) / total**2 + 1.0 / max(events, 1.0)
    freedom = freedom_of(observed + allowed)
    return Estimate(value, math.sqrt(variance), freedom, log=True, prompts=n)


def exceedance_gate(evidence: Evidence) -> Gate:
    """The number of large margin shifts against the mean control's."""
    prompts, controls = len(evidence), evidence.controls
    if not controls:
        return _not_run("exceedance")
    events = float(evidence.control_large.sum()) * controls
    # One more event than was seen: no event seen does not mean that none can occur.
    seen = evidence.control_large + 1.0 / (controls * max(prompts, 1))
    plain, inflated = (count_ratio(evidence.large[:, i], seen, events + 1.0) for i in range(2))
    share = 100.0 / max(float(evidence.judged.sum()), 1.0)
    mine, theirs = float(evidence.large[:, 0].sum()), float(evidence.control_large.sum())
    values: dict[str, Value] = {
        "large": LARGE,
        "count": round(mine),
        "share": mine * share,
        "controls": theirs,
        "controls_share": theirs * share,
    }
    return _alarm("exceedance", plain, inflated, values, evidence.limit)


def flip_gate(evidence: Evidence) -> Gate:
    """The number of flips against what margins and noise predict."""
    controls = evidence.controls
    if not controls:
        return _not_run("flip_calibration")
    plain, inflated = (flip_ratio(evidence, i) for i in range(2))
    predicted = calibration(evidence) * float(evidence.predicted[:, 0].sum())
    values: dict[str, Value] = {
        "flips": round(float(evidence.flips.sum())),
        "predicted": predicted,
        "controls": float(evidence.control_flips.sum()),
    }
    return _alarm("flip_calibration", plain, inflated, values, evidence.limit)


def calibration(evidence: Evidence) -> float:
    """The controls' flips over their predicted flips. The prediction counts as
    one more control, so that a few flips do not decide it alone."""
    predicted = float(evidence.predicted[:, 0].sum())
    if predicted <= 0.0:
        return 1.0
    seen = float(evidence.control_flips.sum()) * evidence.controls
    return (seen + predicted) / ((evidence.controls + 1) * predicted)


def flip_ratio(evidence: Evidence, inflation: int) -> Estimate:
    """Flips over those predicted at one of the limit's inflations, calibrated by the controls."""
    factor = calibration(evidence)
    events = factor * float(evidence.predicted[:, 0].sum()) * (evidence.controls + 1)
    return count_ratio(evidence.flips, factor * evidence.predicted[:, inflation], events)


def _alarm(
    name: str, plain: Estimate, inflated: Estimate, values: dict[str, Value], limit: RatioLimit
) -> Gate:
    status, outcome = _outcome(plain, inflated)
    if outcome in ("more", "chance", "fail"):
        values = {**values, "inflation": limit.inflations[1]}
    said = message(f"gate.{name}.{outcome}", **values)
    return estimated_gate(name, inflated, _LIMIT, status, said)


def _outcome(plain: Estimate, inflated: Estimate) -> tuple[Status, str]:
    """The status, and the end of the message's key."""
    if inflated.value is None:
        return "NOT_RUN", "nothing"
    if above(inflated, FAIL_CONFIDENCE):
        return "FAIL", "fail"
    if inflated.value > _LIMIT:
        return "WARN", "chance"
    return ("WARN", "more") if above(plain, WARN_CONFIDENCE) else ("PASS", "pass")


def above(estimate: Estimate, confidence: float) -> bool:
    """Whether the interval lies above 1."""
    low = estimate.interval(confidence).low
    return low is not None and low > _LIMIT


def _not_run(name: str) -> Gate:
    why = message("gate.counts.missing")
    return Gate(name=name, status="NOT_RUN", value=None, limit=_LIMIT, message=why)
