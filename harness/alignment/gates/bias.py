"""Systematic errors, which do not average out over positions.

Rounding errors point everywhere; a wrong constant or a missing term points the
same way at every position, and hides below them while it is small.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import Evidence
from harness.alignment.gates.decide import (
    FEW_PROMPTS,
    estimated_gate,
    held_below,
    what_would_decide,
)
from harness.alignment.outcomes import Status
from harness.alignment.result import Gate, span
from harness.messages.message import Message, Value, message
from harness.statistics.intervals import Estimate, freedom_of, jackknife_error

#: The largest systematic part of a correct port's difference from the
#: reference, as a share of the reference's own mean squared error.
BIAS_LIMIT = 0.05
#: Fewer prompts give no products to average.
_FEWEST = 3
#: The largest difference of scale between the logits of two correct engines.
SLOPE_LIMIT = 0.003


def bias_share(evidence: Evidence) -> Estimate:
    """Squared norm of the mean difference from the reference, over the mean
    squared error of the reference.

    With ``d_i`` the summed difference of prompt i and ``n_i`` its positions,
    ``sum(d_i . d_j) / sum(n_i n_j)`` over ``i != j``: products within a prompt,
    which noise makes positive, are left out, so noise alone gives 0 on average.
    """
    used = evidence.rows.sum(axis=1) > 0
    counts = evidence.rows[used].sum(axis=1).astype(np.float64)
    errors = evidence.reference_error[used].sum(axis=1)
    prompts = len(counts)
    if prompts < _FEWEST or errors.sum() <= 0.0:
        return Estimate(None, prompts=prompts)
    products = evidence.drift[used] @ evidence.drift[used].T
    pairs, weights = _off_diagonal(products), _off_diagonal(np.outer(counts, counts))
    value = _share(pairs.sum(), weights.sum(), errors.sum(), counts.sum())
    # Without prompt k both of its rows and columns go.
    left_out = _share(
        pairs.sum() - 2.0 * pairs.sum(axis=1),
        weights.sum() - 2.0 * weights.sum(axis=1),
        errors.sum() - errors,
        counts.sum() - counts,
    )
    freedom = freedom_of(np.diag(products))
    return Estimate(float(value), jackknife_error(left_out), freedom, prompts=prompts)


def _off_diagonal(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    return matrix - np.diag(np.diag(matrix))


def _share(
    pairs: NDArray[np.float64],
    weights: NDArray[np.float64],
    errors: NDArray[np.float64],
    counts: NDArray[np.float64],
) -> NDArray[np.float64]:
    return np.asarray((pairs / weights) / (errors / counts))


def slope_difference(evidence: Evidence) -> Estimate:
    """Slope of the candidate's error on the centred oracle row, minus the
    reference's: ``sum(<z_D - z_B, z_O>) / sum(<z_O, z_O>)``, by jackknife."""
    used = evidence.power > 0
    along, power = evidence.along[used], evidence.power[used]
    prompts = len(along)
    if not prompts:
        return Estimate(None)
    value = float(along.sum() / power.sum())
    if prompts < 2:
        return Estimate(value, prompts=prompts)
    left_out = (along.sum() - along) / (power.sum() - power)
    return Estimate(value, jackknife_error(left_out), freedom_of(power), prompts=prompts)


def bias_gate(evidence: Evidence, missing: Message | None) -> Gate:
    """The systematic share against its limit.

    It passes while the value is within the limit: the error ratio shows a port
    to be right, and it includes the systematic part.
    """
    share = bias_share(evidence)
    status = held_below(share, BIAS_LIMIT)
    if status == "INCONCLUSIVE" and share.value is not None:
        # Few prompts differ by chance: they warn.
        undecided: Status = "INCONCLUSIVE" if share.prompts >= FEW_PROMPTS else "WARN"
        status = "PASS" if share.value <= BIAS_LIMIT else undecided
    if share.value is None:
        reason = missing or message("reason.few_prompts", least=_FEWEST)
        outcome = message("gate.bias.missing", reason=reason)
    else:
        outcome = _outcome("bias", "share", status, share, BIAS_LIMIT, evidence)
    return estimated_gate("bias", share, BIAS_LIMIT, status, outcome)


def slope_gate(evidence: Evidence, missing: Message | None) -> Gate:
    """The scale of the logits against the reference's.

    With few prompts a value within the limit warns where its interval is wider.
    """
    slope = slope_difference(evidence)
    status = held_below(slope, SLOPE_LIMIT, both_sides=True)
    few = slope.prompts < FEW_PROMPTS and slope.error is not None
    if status == "INCONCLUSIVE" and few and abs(slope.value or 0.0) <= SLOPE_LIMIT:
        status = "WARN"
    if slope.value is None:
        reason = missing or message("reason.nothing")
        outcome = message("gate.slope.missing", reason=reason)
    else:
        outcome = _outcome("slope", "slope", status, slope, SLOPE_LIMIT, evidence)
    return estimated_gate("slope", slope, SLOPE_LIMIT, status, outcome)


def _outcome(
    gate: str, value: str, status: Status, estimate: Estimate, limit: float, evidence: Evidence
) -> Message:
    """The message of a gate about a figure; ``value`` is its name in the messages."""
    values: dict[str, Value] = {value: span(estimate.interval()), "limit": limit}
    if status == "FAIL":
        return message(f"gate.{gate}.fail", **values)
    if status == "PASS":
        high = estimate.interval().high
        wide = gate == "bias" and high is not None and high > limit
        return message(f"gate.{gate}.{'wide' if wide else 'pass'}", **values)
    signed = limit if (estimate.value or 0.0) >= 0.0 else -limit
    decides = what_would_decide(estimate, signed, int(evidence.rows.sum()))
    return message(f"gate.{gate}.open", **values, decides=decides)
