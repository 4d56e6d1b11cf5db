"""Patterns of damage that means hide and single rows do not show: a place in all outputs,
a direction of the error, a scale that changes its sign or is that of one prompt."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import Evidence
from harness.alignment.gates.conduct import unmeasured
from harness.alignment.gates.decide import estimated_gate, held_below
from harness.alignment.outcomes import Status
from harness.alignment.result import Gate, span
from harness.baseline.scales import Scales
from harness.messages.message import Message, Value, message
from harness.statistics.directions import along_one
from harness.statistics.intervals import Estimate, geometric_ratio
from harness.statistics.places import FEWEST, Places, places_of

#: How far the scale of one prompt may be off, over the error of a mean of independent
#: rows, and over the arms' furthest. Rows of one prompt are alike: correct variations of both
#: embedded models came to 9, their arms to 10.
PROMPT_SCALE_LIMIT, PROMPT_SCALE_HEADROOM = 15.0, 2.0
#: The mean of a prompt's row slopes over their root mean square, above which its rows agree.
AGREED = 0.5


def places(evidence: Evidence) -> Places:
    """How far the candidate's rows stand out at each place in the outputs."""
    return places_of(evidence.standing, evidence.at, [int(n) for n in evidence.expected])


def place_guard(evidence: Evidence, scales: Scales, missing: Message | None) -> Gate:
    """FAIL on a place in the outputs, such as the last token of each, whose error stands
    out further than any arm's, with headroom."""
    found = places(evidence)
    if not evidence.controls or not len(found.index):
        few = evidence.controls and any(len(s) for s in evidence.standing)
        return unmeasured(
            "place_guard", message("reason.no_place", least=FEWEST) if few else missing
        )
    worst, limit = int(np.argmax(found.standing)), scales.place_limit
    index = int(found.index[worst])
    where: dict[str, Value] = {
        "standing": float(found.standing[worst]),
        "place": message("place.start", index=index)
        if index >= 0
        else message("place.end", index=-index),
        "largest": scales.place_largest,
        "limit": limit,
    }
    failed = bool(found.standing[worst] > limit)
    return Gate(
        name="place_guard",
        status="FAIL" if failed else "PASS",
        value=float(found.standing[worst]),
        limit=limit,
        message=message(f"gate.place_guard.{'fail' if failed else 'pass'}", **where),
    )


def direction_gate(evidence: Evidence, scales: Scales, missing: Message | None) -> Gate:
    """FAIL where the error in one direction of the logits is larger than the arms' own
    there, by more than any of them is, with headroom. The prompt that has the largest
    part in it is left out, since the other guards judge single prompts."""
    seen = any(len(rows) for rows in evidence.bounded)
    if not evidence.controls or scales.white is None or not seen:
        return unmeasured("direction", missing)
    found = along_one(evidence.bounded, scales.white)
    limit = scales.direction_limit
    failed = found > limit
    outcome = message(
        f"gate.direction.{'fail' if failed else 'pass'}",
        value=found,
        largest=scales.direction_largest,
        limit=limit,
    )
    status: Status = "FAIL" if failed else "PASS"
    return Gate(name="direction", status=status, value=found, limit=limit, message=outcome)


def tilt_gate(evidence: Evidence, missing: Message | None) -> Gate:
    """The scale of single rows: FAIL where it scatters more than the limit of the
    error ratio allows, so that a scale which changes its sign is told too, or where
    one prompt is scaled beyond what any of the arms' is."""
    if not evidence.controls or not evidence.power[:, 0].any():
        return unmeasured("row_slope", missing)
    found = tilt_ratio(evidence)
    status = held_below(found, evidence.limit.value)
    if status == "INCONCLUSIVE":
        # Shown to be too large it is not, and the other gates show a port to be right.
        status = "WARN" if (found.value or 0.0) > evidence.limit.value else "PASS"
    key = {"PASS": "pass", "WARN": "chance", "FAIL": "fail"}.get(status)
    if key is None:
        outcome = message("gate.row_slope.missing", reason=missing or message("reason.nothing"))
    else:
        outcome = message(
            f"gate.row_slope.{key}", ratio=span(found.interval()), limit=evidence.limit.value
        )
    prompt = None if status == "FAIL" else _scaled_prompt(evidence)
    if prompt is not None:
        status, outcome = "FAIL", message("gate.row_slope.prompt", **prompt)
    return estimated_gate("row_slope", found, evidence.limit.value, status, outcome)


def _scaled_prompt(evidence: Evidence) -> dict[str, Value] | None:
    """The prompt whose scale is furthest off, if it is beyond the limit."""
    mine, arms = scale_standing(evidence)
    largest = float(arms.max(initial=0.0))
    limit = evidence.limit.widened * max(PROMPT_SCALE_LIMIT, PROMPT_SCALE_HEADROOM * largest)
    worst = int(np.argmax(mine))
    if not mine[worst] > limit:
        return None
    return {
        "prompt": evidence.ids[worst],
        "slope": float(evidence.along[worst, 0] / evidence.power[worst, 0]),
        "standing": float(mine[worst]),
        "largest": largest,
        "limit": limit,
    }


def scale_standing(evidence: Evidence) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """How far each prompt's scale is off, over the error that it would have if the arms'
    row slopes were independent: float64 (p,), and (p, A) of the arms. 0 where that is
    not known."""
    rows, power = evidence.rows.sum(axis=1), evidence.power[:, 0]
    usual = np.sqrt(np.median(evidence.arm_tilt, axis=1)) / np.maximum(rows, 1)
    known = (usual > 0.0) & (power > 0.0)
    unit = np.where(known, usual * power, np.inf)
    mine, theirs = np.abs(evidence.along[:, 0]), np.abs(evidence.arm_along)
    # Of one row that is far out the mean is small beside its root mean square.
    scatter = np.sqrt(evidence.tilt / np.maximum(rows, 1)) * power
    return np.where(mine > AGREED * scatter, mine / unit, 0.0), theirs / unit[:, None]


def tilt_ratio(evidence: Evidence) -> Estimate:
    """Root mean square of the candidate's row slopes over that of the arms', as a
    geometric mean over prompts."""
    rows = evidence.rows.sum(axis=1).astype(np.float64)
    return geometric_ratio(evidence.tilt, evidence.arm_tilt.mean(axis=1), rows)
