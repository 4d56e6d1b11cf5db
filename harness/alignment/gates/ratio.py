"""Error ratios: the candidate's error over the reference's own."""

from __future__ import annotations

from harness.alignment.evidence import PATHS, Evidence
from harness.alignment.gates.decide import (
    FEW_PROMPTS,
    counted,
    estimated_gate,
    held_below,
    span,
    what_would_decide,
)
from harness.alignment.result import Gate
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


def ratio_gate(evidence: Evidence, missing: str) -> Gate:
    """The error over the whole vocabulary; ``missing`` says why there is none."""
    rows = int(evidence.rows.sum())
    return error_ratio_gate(
        "error_ratio", "over the whole vocabulary", pooled_ratio(evidence), rows, missing
    )


def top_k_ratio_gate(evidence: Evidence, missing: str) -> Gate:
    """The error where the choice of a token is made."""
    return error_ratio_gate(
        "top_k_error_ratio",
        "among the likeliest tokens",
        top_k_ratio(evidence),
        int(evidence.positions.sum()),
        missing,
    )


def path_ratio_gate(evidence: Evidence, which: int, missing: str) -> Gate:
    """The error of one path, prefill (0) or decode (1), by itself."""
    path = PATHS[which]
    rows = evidence.rows[:, which]
    used = rows > 0
    found = ratio_of_roots(evidence.error[used, which], evidence.reference_error[used, which])
    prompts, count = int(used.sum()), int(rows.sum())
    name, where = f"error_ratio_{path}", f"of the {path} path"
    if found.value is None:
        reason = missing if count or not evidence.rows.any() else f"no row of it came by {path}"
        return error_ratio_gate(name, where, found, count, reason)
    if prompts >= FEW_PROMPTS and count >= FEW_PROMPTS:
        return error_ratio_gate(name, where, found, count, missing)
    return estimated_gate(
        name,
        found,
        ERROR_RATIO_LIMIT,
        "NOT_RUN",
        f"Error {where}: {span(found, 3)} times the reference's; shown, not gated: "
        f"{counted(prompts, 'prompt')} and {counted(count, 'row')}, and {FEW_PROMPTS} of each "
        "are needed.",
    )


def error_ratio_gate(name: str, where: str, found: Estimate, rows: int, missing: str) -> Gate:
    """A ratio against its limit.

    Args:
        where: where the error is measured, for the sentence.
        rows: how many rows carry it.
        missing: why there is no value, where there is none.
    """
    limit = ERROR_RATIO_LIMIT
    status = held_below(found, limit)
    if found.value is None:
        outcome = missing or "there is nothing to measure it by"
    elif found.value == 0.0:
        status, outcome = "PASS", "the candidate equals the oracle"
    else:
        outcome = f"{span(found, 3)} times the reference's"
        if status == "PASS":
            outcome += f", at most {limit}"
        elif status == "FAIL":
            outcome += f", more than {limit}"
        elif found.error is None:
            outcome += f", {what_would_decide(found, limit, rows)}"
        else:
            outcome += f", not yet decided against {limit}: {what_would_decide(found, limit, rows)}"
    return estimated_gate(name, found, limit, status, f"Error {where}: {outcome}.")
