"""Systematic errors, which do not average out over positions.

Rounding errors point everywhere; a wrong constant or a missing term points the
same way at every position, and hides below them while it is small. The reference
has systematic errors of its own, so a candidate is held against both: it is
charged with what parts it from the reference and from the oracle.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import PARTS, Evidence
from harness.alignment.gates.conduct import unmeasured
from harness.alignment.gates.decide import (
    estimated_gate,
    held_below,
    what_would_decide,
)
from harness.alignment.outcomes import Status
from harness.alignment.result import Gate, span
from harness.messages.message import Message, Value, message
from harness.statistics.intervals import (
    FAIL_CONFIDENCE,
    Estimate,
    freedom_of,
    jackknife_error,
    t_at,
)
from harness.statistics.systematic import FEWEST_PROMPTS, systematic_share

#: The largest systematic part of a correct port's error, as a share of the
#: reference's own mean squared error.
BIAS_LIMIT = 0.05
#: The largest difference of scale between the logits of two correct engines.
SLOPE_LIMIT = 0.003
#: With fewer prompts a mean over them has an interval that is wide whatever it is.
FEW_FOR_A_MEAN = 8
#: How far the mean error of one bucket may be beyond the controls' furthest.
BUCKET_HEADROOM = 2.0
_AGAINST = {"reference": "against.reference", "oracle": "against.oracle"}
_PARTS = {
    "first_half": "part.first_half",
    "second_half": "part.second_half",
    "prefill": "part.prefill",
    "decode": "part.decode",
}
#: Best first: of two estimates of a fault, the better one is believed.
_ORDER: tuple[Status, ...] = ("PASS", "WARN", "INCONCLUSIVE", "FAIL", "NOT_RUN")


def bias_shares(evidence: Evidence) -> tuple[Estimate, Estimate]:
    """The systematic part of the candidate's error against the reference, and of that
    against the nearest point between oracle and reference, as shares of the
    reference's mean squared error."""
    used = evidence.rows.sum(axis=1) > 0
    counts = evidence.rows[used].sum(axis=1).astype(np.float64)
    errors = evidence.reference_error[used].sum(axis=1)
    mine, theirs = evidence.mean_error[used], evidence.arm_error[used][:, 0]
    return (
        systematic_share(mine - theirs, counts, errors),
        systematic_share(mine - _nearest(mine, theirs) * theirs, counts, errors),
    )


def _nearest(mine: NDArray[np.float64], theirs: NDArray[np.float64]) -> float:
    """How far from the oracle (0) to the reference (1) the candidate's mean error lies,
    by products of different prompts. A better port may have a part of the reference's
    systematic error."""
    shared = float(mine.sum(axis=0) @ theirs.sum(axis=0) - np.sum(mine * theirs))
    own = float(np.sum(theirs.sum(axis=0) ** 2) - np.sum(theirs**2))
    return min(max(shared / own, 0.0), 1.0) if own > 0.0 else 0.0


def slope_differences(evidence: Evidence, part: int = 0) -> tuple[Estimate, Estimate]:
    """Slope of the candidate's error on the centred oracle row, minus the
    reference's, and minus the part of that which is nearest: ``sum(<e, z_O>) /
    sum(<z_O, z_O>)``, by jackknife.

    Args:
        part: an index of PARTS.
    """
    used = evidence.power[:, part] > 0
    power = evidence.power[used, part]
    along, theirs = evidence.along[used, part], evidence.reference_along[used, part]
    own = float(theirs.sum())
    nearest = min(max(float(along.sum()) / own, 0.0), 1.0) if own else 0.0
    return _slope(along - theirs, power), _slope(along - nearest * theirs, power)


def _slope(along: NDArray[np.float64], power: NDArray[np.float64]) -> Estimate:
    prompts = len(along)
    if not prompts:
        return Estimate(None)
    value = float(along.sum() / power.sum())
    if prompts < 2:
        return Estimate(value, prompts=prompts)
    left_out = (along.sum() - along) / (power.sum() - power)
    return Estimate(value, jackknife_error(left_out), freedom_of(power), prompts=prompts)


def _better(
    estimates: tuple[Estimate, Estimate], limit: float, *, both_sides: bool = False
) -> tuple[Estimate, Status, str]:
    """Of the two estimates the one that charges less, with its status, and what it
    is held against."""
    judged = [
        (_ORDER.index(status), abs(e.value or 0.0), e, status, against)
        for e, against in zip(estimates, ("reference", "oracle"), strict=True)
        for status in (_held(e, limit, both_sides=both_sides),)
    ]
    _, _, estimate, status, against = min(judged, key=lambda found: found[:2])
    return estimate, status, against


def _held(estimate: Estimate, limit: float, *, both_sides: bool) -> Status:
    """As ``held_below``; with few prompts a value within the limit warns, since their
    intervals are wide whatever the port is."""
    status = held_below(estimate, limit, both_sides=both_sides)
    few = estimate.prompts < FEW_FOR_A_MEAN and estimate.error is not None
    within = abs(estimate.value or 0.0) <= limit
    return "WARN" if status == "INCONCLUSIVE" and few and within else status


def bias_gate(evidence: Evidence, missing: Message | None) -> Gate:
    """The systematic share against its limit; the smaller of the two."""
    limit = evidence.limit.size**2 * BIAS_LIMIT
    share, status, against = _better(bias_shares(evidence), limit)
    if share.value is None:
        reason = missing or message("reason.few_prompts", least=FEWEST_PROMPTS)
        outcome = message("gate.bias.missing", reason=reason)
    else:
        outcome = _outcome(
            "bias", share, status, limit, evidence, against=message(_AGAINST[against])
        )
    return estimated_gate("bias", share, limit, status, outcome)


def slope_gate(evidence: Evidence, missing: Message | None) -> Gate:
    """The scale of the logits against the reference's and the oracle's, whichever is
    nearer: over all rows, and over halves and paths, where only a failure counts."""
    slope, status, against = _better(slope_differences(evidence), SLOPE_LIMIT, both_sides=True)
    part: str | None = None
    if status != "FAIL":
        for index, name in enumerate(PARTS[1:], 1):
            found = _better(slope_differences(evidence, index), SLOPE_LIMIT, both_sides=True)
            if found[1] == "FAIL":
                (slope, status, against), part = found, name
                break
    if slope.value is None:
        reason = missing or message("reason.nothing")
        outcome = message("gate.slope.missing", reason=reason)
    elif part is not None:
        outcome = message(
            "gate.slope.fail.part",
            against=message(_AGAINST[against]),
            value=span(slope.interval()),
            part=message(_PARTS[part]),
            limit=SLOPE_LIMIT,
        )
    else:
        against_what = message(_AGAINST[against])
        outcome = _outcome("slope", slope, status, SLOPE_LIMIT, evidence, against=against_what)
    return estimated_gate("slope", slope, SLOPE_LIMIT, status, outcome)


def _outcome(
    gate: str,
    estimate: Estimate,
    status: Status,
    limit: float,
    evidence: Evidence,
    **values: Value,
) -> Message:
    values = {**values, "value": span(estimate.interval()), "limit": limit}
    if status in ("PASS", "FAIL"):
        return message(f"gate.{gate}.{status.lower()}", **values)
    signed = limit if (estimate.value or 0.0) >= 0.0 else -limit
    decides = what_would_decide(estimate, signed, int(evidence.rows.sum()))
    return message(f"gate.{gate}.open", **values, decides=decides)


def bucket_charges(evidence: Evidence) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What each bucket of the sketch is charged with, in logits: float64 (w,) of the
    candidate, and (A - 1, w) of the controls.

    How far the mean error lies from all that stands between the oracle and the
    reference, so that nobody is charged with the reference's own. Means are over a
    prompt's rows, and of the prompts the median is taken: a few whose errors are a
    hundred times as large would hide a token that is off everywhere.
    """
    mine, arms = _prompt_means(evidence)
    found = np.stack([_median(mine), *(_median(arms[:, k]) for k in range(arms.shape[1]))])
    # The reference's own mean error; between it and the oracle nothing is charged.
    low, high = np.minimum(found[1], 0.0), np.maximum(found[1], 0.0)
    charges = np.maximum(np.maximum(low - found, found - high), 0.0)
    return charges[0], charges[2:]


def _prompt_means(evidence: Evidence) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean errors of each prompt: (p, w) of the candidate, (p, A, w) of the arms."""
    rows = evidence.rows.sum(axis=1)
    used = rows > 0
    counts = rows[used].astype(np.float64)
    mine = evidence.mean_error[used] / counts[:, None]
    return mine, evidence.arm_error[used] / counts[:, None, None]


def _median(means: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.median(means, axis=0))


def bucket_limit(evidence: Evidence) -> float:
    """The largest charge of a bucket, in logits."""
    largest = float(bucket_charges(evidence)[1].max(initial=0.0))
    return BUCKET_HEADROOM * evidence.limit.hidden * largest


def bucket_gate(evidence: Evidence, missing: Message | None) -> Gate:
    """FAIL where the mean error of one bucket of ids is beyond twice the controls'
    furthest, and prompts agree on it: one token's logit that is off everywhere."""
    if not evidence.controls or not evidence.rows.any():
        return unmeasured("bucket", missing)
    mine, controls = bucket_charges(evidence)
    worst, largest = int(np.argmax(mine)), float(controls.max(initial=0.0))
    limit = bucket_limit(evidence)
    surely = float(mine[worst]) - bucket_reach(evidence, worst) > largest
    status: Status = "PASS"
    if mine[worst] > limit:
        status = "FAIL" if surely else "WARN"
    key = {"PASS": "pass", "WARN": "chance", "FAIL": "fail"}[status]
    outcome = message(
        f"gate.bucket.{key}",
        value=float(mine[worst]),
        largest=largest,
        limit=limit,
        share=100.0 / len(mine),
    )
    return Gate(
        name="bucket", status=status, value=float(mine[worst]), limit=limit, message=outcome
    )


def bucket_reach(evidence: Evidence, bucket: int) -> float:
    """Half the 99.9 % interval of the median difference of one bucket, for the worst of
    as many buckets as there are: from the median absolute deviation over prompts, as
    of normal ones."""
    mine, arms = _prompt_means(evidence)
    drift = (mine - arms[:, 0])[:, bucket]
    if len(drift) < 2:
        return float("inf")
    deviation = 1.4826 * float(np.median(np.abs(drift - np.median(drift))))
    error = math.sqrt(math.pi / 2.0) * deviation / math.sqrt(len(drift))
    confidence = 1.0 - (1.0 - FAIL_CONFIDENCE) / mine.shape[1]
    return t_at(confidence, len(drift) - 1.0) * error
