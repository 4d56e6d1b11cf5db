"""Error ratios: the candidate's error over the reference's own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import PATHS, Evidence
from harness.alignment.gates.decide import (
    FEW_PROMPTS,
    estimated_gate,
    held_below,
    what_would_decide,
)
from harness.alignment.outcomes import Status
from harness.alignment.result import Gate, span
from harness.baseline.controls import RatioLimit
from harness.messages.message import Message, message
from harness.statistics.intervals import Estimate, geometric_ratio

#: Beyond this no correct variation of any model tried has been: the catalogue's largest
#: is 1.11, over all prompts.
EXCESS = 1.15


def whole_ratio(evidence: Evidence) -> Estimate:
    """Over the whole vocabulary, both paths."""
    return geometric_ratio(
        evidence.error.sum(axis=1), evidence.reference_error.sum(axis=1), _rows(evidence)
    )


def top_k_ratio(evidence: Evidence) -> Estimate:
    """Among the ids that the oracle finds likeliest."""
    rows = evidence.judged.astype(np.float64)
    return geometric_ratio(evidence.top_error, evidence.top_reference, rows)


def _rows(evidence: Evidence) -> NDArray[np.float64]:
    return np.asarray(evidence.rows.sum(axis=1), np.float64)


def ratio_gate(evidence: Evidence, missing: Message | None) -> Gate:
    """The error over the whole vocabulary; ``missing`` is the reason if it has no value."""
    rows = int(evidence.rows.sum())
    ratio = whole_ratio(evidence)
    return error_ratio_gate("error_ratio", "where.vocabulary", ratio, rows, missing, evidence.limit)


def top_k_ratio_gate(evidence: Evidence, missing: Message | None) -> Gate:
    """The error among the tokens that decide the choice."""
    rows = int(evidence.judged.sum())
    ratio = top_k_ratio(evidence)
    return error_ratio_gate(
        "top_k_error_ratio", "where.top_k", ratio, rows, missing, evidence.limit
    )


def path_ratio_gate(evidence: Evidence, which: int, missing: Message | None) -> Gate:
    """The error of one path alone, prefill (0) or decode (1)."""
    path, limit = PATHS[which], evidence.limit
    rows = evidence.rows[:, which].astype(np.float64)
    ratio = geometric_ratio(evidence.error[:, which], evidence.reference_error[:, which], rows)
    prompts, count = int((rows > 0).sum()), int(rows.sum())
    name, where = f"error_ratio_{path}", f"where.{path}"
    if ratio.value is None:
        none_by_it = evidence.rows.any() and not count
        reason = message("reason.no_row", path=path) if none_by_it else missing
        return error_ratio_gate(name, where, ratio, count, reason, limit)
    if prompts >= FEW_PROMPTS and count >= FEW_PROMPTS:
        return error_ratio_gate(name, where, ratio, count, missing, limit)
    outcome = message(
        "gate.ratio.shown",
        where=message(where),
        ratio=span(ratio.interval()),
        prompts=prompts,
        rows=count,
        enough=FEW_PROMPTS,
    )
    return estimated_gate(name, ratio, limit.value, "NOT_RUN", outcome)


def error_ratio_gate(
    name: str, where: str, ratio: Estimate, rows: int, missing: Message | None, limit: RatioLimit
) -> Gate:
    """A ratio against its limit.

    A value within the limit warns where its whole interval lies beyond what the
    controls and the correct variations of the catalogue show.

    Args:
        where: where the error is measured, as a key of the messages.
        rows: how many rows carry it.
        missing: the reason, if the ratio has no value.
    """
    place = message(where)
    status = held_below(ratio, limit.value)
    if ratio.value is None:
        reason = missing or message("reason.nothing")
        outcome = message("gate.ratio.missing", where=place, reason=reason)
    elif ratio.value == 0.0:
        status, outcome = "PASS", message("gate.ratio.equal", where=place)
    elif status in ("PASS", "FAIL"):
        status, outcome = _decided(status, place, ratio, limit)
    else:
        outcome = _open(place, ratio, limit, rows)
    return estimated_gate(name, ratio, limit.value, status, outcome)


def excess_of(limit: RatioLimit) -> float:
    """Where an error is more than correct variations show, and still within the limit."""
    return limit.size * max(EXCESS, limit.shown)


def _decided(
    status: Status, place: Message, ratio: Estimate, limit: RatioLimit
) -> tuple[Status, Message]:
    found, excess = span(ratio.interval()), excess_of(limit)
    low = ratio.interval().low
    if status == "PASS" and low is not None and low > excess:
        return "WARN", message(
            "gate.ratio.excess", where=place, ratio=found, limit=limit.value, excess=excess
        )
    key = f"gate.ratio.{status.lower()}"
    if limit.arm is None:
        return status, message(key, where=place, ratio=found, limit=limit.value)
    return status, message(
        f"{key}.control",
        where=place,
        ratio=found,
        limit=limit.value,
        arm=limit.arm,
        largest=limit.largest,
    )


def _open(place: Message, ratio: Estimate, limit: RatioLimit, rows: int) -> Message:
    decides = what_would_decide(ratio, limit.value, rows)
    found = span(ratio.interval())
    if ratio.error is None:
        return message("gate.ratio.point", where=place, ratio=found, decides=decides)
    return message("gate.ratio.open", where=place, ratio=found, limit=limit.value, decides=decides)
