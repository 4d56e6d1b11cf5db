"""The gate of masks: the candidate takes the same ids out of its rows as the reference."""

from __future__ import annotations

import numpy as np

from harness.alignment.evidence import Evidence
from harness.alignment.outcomes import Status
from harness.alignment.result import Gate
from harness.messages.message import Message, message


def masks_gate(evidence: Evidence) -> Gate:
    """FAIL on any row in which the two mask other ids. NOT_RUN where one side
    does not tell its masks, and INCONCLUSIVE where it is the reference that does
    not and the candidate has some, because nobody knows whether they are right."""
    rows, other = int(evidence.positions.sum()), int(evidence.other_masks.sum())
    unheld = int(evidence.masked_rows[~evidence.masks_told, 0].sum())
    told = bool(evidence.masks_told.all()) and rows > 0
    status: Status = "PASS"
    if other:
        status, outcome = "FAIL", _other(evidence, rows, other)
    elif unheld:
        status, outcome = "INCONCLUSIVE", message("gate.masks.untold", masked=unheld, rows=rows)
    elif not told:
        status, outcome = "NOT_RUN", message("gate.masks.missing")
    elif masked := int(evidence.masked_rows[:, 1].sum()):
        outcome = message("gate.masks.pass", rows=rows, masked=masked)
    else:
        outcome = message("gate.masks.none", rows=rows)
    return Gate(
        name="masks",
        status=status,
        value=None if status == "NOT_RUN" else float(other or unheld),
        limit=0.0,
        message=outcome,
    )


def _other(evidence: Evidence, rows: int, other: int) -> Message:
    first = int(np.argmax(evidence.first_other_mask >= 0))
    mine, theirs = evidence.masked_there[first].tolist()
    return message(
        "gate.masks.fail",
        other=other,
        rows=rows,
        position=int(evidence.first_other_mask[first]),
        prompt=evidence.ids[first],
        mine=mine,
        theirs=theirs,
    )
