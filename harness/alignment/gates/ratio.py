"""Error ratios: the candidate's error over the reference's own."""

from __future__ import annotations

from harness.alignment.evidence import PATHS, Evidence
from harness.alignment.gates.decide import (
    FEW_PROMPTS,
    estimated_gate,
    held_below,
    what_would_decide,
)
from harness.alignment.result import Gate, span
from harness.messages.message import Message, message
from harness.statistics.intervals import Estimate, ratio_of_roots

#: The largest error of a correct port, relative to the reference's own.
ERROR_RATIO_LIMIT = 1.5


def pooled_ratio(evidence: Evidence) -> Estimate:
    """Over the whole vocabulary, both paths."""
    used = evidence.rows.sum(axis=1) > 0
    return ratio_of_roots(
        evidence.error[used].sum(axis=1), evidence.reference_error[used].sum(axis=1)
    )


def top_k_ratio(evidence: Evidence) -> Estimate:
    """Among the ids that the oracle finds likeliest."""
    used = (evidence.top_reference > 0) | (evidence.top_error > 0)
    return ratio_of_roots(evidence.top_error[used], evidence.top_reference[used])


def ratio_gate(evidence: Evidence, missing: Message | None) -> Gate:
    """The error over the whole vocabulary; ``missing`` is the reason if it has no value."""
    rows = int(evidence.rows.sum())
    return error_ratio_gate(
        "error_ratio", "where.vocabulary", pooled_ratio(evidence), rows, missing
    )


def top_k_ratio_gate(evidence: Evidence, missing: Message | None) -> Gate:
    """The error among the tokens that decide the choice."""
    rows = int(evidence.positions.sum())
    return error_ratio_gate(
        "top_k_error_ratio", "where.top_k", top_k_ratio(evidence), rows, missing
    )


def path_ratio_gate(evidence: Evidence, which: int, missing: Message | None) -> Gate:
    """The error of one path alone, prefill (0) or decode (1)."""
    path = PATHS[which]
    rows = evidence.rows[:, which]
    used = rows > 0
    ratio = ratio_of_roots(evidence.error[used, which], evidence.reference_error[used, which])
    prompts, count = int(used.sum()), int(rows.sum())
    name, where = f"error_ratio_{path}", f"where.{path}"
    if ratio.value is None:
        none_by_it = evidence.rows.any() and not count
        reason = message("reason.no_row", path=path) if none_by_it else missing
        return error_ratio_gate(name, where, ratio, count, reason)
    if prompts >= FEW_PROMPTS and count >= FEW_PROMPTS:
        return error_ratio_gate(name, where, ratio, count, missing)
    outcome = message(
        "gate.ratio.shown",
        where=message(where),
        ratio=span(ratio.interval()),
        prompts=prompts,
        rows=count,
        enough=FEW_PROMPTS,
    )
    return estimated_gate(name, ratio, ERROR_RATIO_LIMIT, "NOT_RUN", outcome)


def error_ratio_gate(
    name: str, where: str, ratio: Estimate, rows: int, missing: Message | None
) -> Gate:
    """A ratio against its limit.

    Args:
        where: where the error is measured, as a key of the messages.
        rows: how many rows carry it.
        missing: the reason, if the ratio has no value.
    """
    limit, place = ERROR_RATIO_LIMIT, message(where)
    status = held_below(ratio, limit)
    if ratio.value is None:
        reason = missing or message("reason.nothing")
        outcome = message("gate.ratio.missing", where=place, reason=reason)
    elif ratio.value == 0.0:
        status, outcome = "PASS", message("gate.ratio.equal", where=place)
    elif status in ("PASS", "FAIL"):
        key = f"gate.ratio.{status.lower()}"
        outcome = message(key, where=place, ratio=span(ratio.interval()), limit=limit)
    else:
        decides = what_would_decide(ratio, limit, rows)
        if ratio.error is None:
            outcome = message(
                "gate.ratio.point", where=place, ratio=span(ratio.interval()), decides=decides
            )
        else:
            outcome = message(
                "gate.ratio.open",
                where=place,
                ratio=span(ratio.interval()),
                limit=limit,
                decides=decides,
            )
    return estimated_gate(name, ratio, limit, status, outcome)
