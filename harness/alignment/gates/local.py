"""Local damage: the row and the prompt that stand out, which averages hide."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import Evidence
from harness.alignment.gates.conduct import unmeasured
from harness.alignment.gates.counts import above, count_ratio
from harness.alignment.outcomes import Status
from harness.alignment.prompt_result import Finding
from harness.alignment.result import Gate
from harness.baseline.scales import COMMON, Scales, typical
from harness.messages.message import Message, Value, message
from harness.statistics.intervals import FAIL_CONFIDENCE


def prompt_standing(evidence: Evidence) -> NDArray[np.float64]:
    """float64 (p,), the geometric mean over a prompt's rows of how far they stand out; 0
    where it is not known."""
    return np.array([typical(rows) for rows in evidence.standing])


def standing_out(evidence: Evidence, scales: Scales) -> dict[str, tuple[Finding, ...]]:
    """What the guards find, by the id of the prompt."""
    if not evidence.controls:
        return {}
    found: dict[str, tuple[Finding, ...]] = {}
    for k, whole in enumerate(prompt_standing(evidence)):
        said = []
        if whole > scales.prompt_limit:
            said.append(message("finding.prompt", standing=float(whole), limit=scales.prompt_limit))
        row = evidence.standing[k]
        if len(row) and row.max() > scales.row_limit > 0.0:
            at = int(np.argmax(row))
            said.append(
                message(
                    "finding.row",
                    position=int(evidence.at[k][at]),
                    standing=float(row[at]),
                    limit=scales.row_limit,
                )
            )
        if said:
            found[evidence.ids[k]] = tuple(Finding(verdict="DRIFT", message=m) for m in said)
    return found


def row_guard(evidence: Evidence, scales: Scales, missing: Message | None) -> Gate:
    """FAIL on one row whose error stands out further than any arm's, with headroom,
    or on more rows that stand out than arms of the limit's noise would have.

    A row stands at its error over the middle one of the arms' at its position.
    """
    if not evidence.controls or not any(len(s) for s in evidence.standing):
        return unmeasured("row_guard", missing)
    furthest = [float(s.max(initial=0.0)) for s in evidence.standing]
    worst = int(np.argmax(furthest))
    many, threshold = _many(evidence, scales)
    status: Status = "PASS"
    where: dict[str, Value] = {
        "standing": furthest[worst],
        "largest": scales.row_largest,
        "prompt": evidence.ids[worst],
        "position": int(evidence.at[worst][int(np.argmax(evidence.standing[worst]))]),
    }
    outcome = message("gate.row_guard.pass", **where, limit=scales.row_limit)
    if furthest[worst] > scales.row_limit > 0.0:
        status = "FAIL"
        outcome = message("gate.row_guard.fail", **where, limit=scales.row_limit)
    elif many is not None:
        status = "FAIL"
        rows = sum(len(s) for s in evidence.standing)
        outcome = message(
            "gate.row_guard.many",
            count=many,
            rows=rows,
            times=threshold,
            expected=(1.0 - COMMON) * rows,
        )
    return Gate(
        name="row_guard",
        status=status,
        value=furthest[worst],
        limit=scales.row_limit,
        message=outcome,
    )


def _many(evidence: Evidence, scales: Scales) -> tuple[int | None, float]:
    """How many rows stand beyond what 1 % of the arms' do, inflated to the limit, if
    that is more than chance; and that threshold."""
    threshold = evidence.limit.value * scales.row_common
    seen = np.array([float(np.sum(s > threshold)) for s in evidence.standing])
    rows = np.array([float(len(s)) for s in evidence.standing])
    allowed = (1.0 - COMMON) * rows
    ratio = count_ratio(seen, allowed, float(allowed.sum()) * scales.arms)
    return (int(seen.sum()) if above(ratio, FAIL_CONFIDENCE) else None), threshold


def prompt_guard(evidence: Evidence, scales: Scales, missing: Message | None) -> Gate:
    """FAIL on a prompt whose error stands out further than any arm's, with headroom."""
    found = prompt_standing(evidence)
    if not evidence.controls or not found.any():
        return unmeasured("prompt_guard", missing)
    worst, limit = int(np.argmax(found)), scales.prompt_limit
    beyond = int(np.sum(found > limit))
    where: dict[str, Value] = {
        "standing": float(found[worst]),
        "prompt": evidence.ids[worst],
        "largest": scales.prompt_largest,
        "limit": limit,
    }
    return Gate(
        name="prompt_guard",
        status="FAIL" if beyond else "PASS",
        value=float(found[worst]),
        limit=limit,
        message=message("gate.prompt_guard.fail", **where, beyond=beyond)
        if beyond
        else message("gate.prompt_guard.pass", **where),
    )
