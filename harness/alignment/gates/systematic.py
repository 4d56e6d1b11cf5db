"""The gate of a diagnosis: whether the error has a part that rounding does not have."""

from __future__ import annotations

from harness.alignment.diagnosis import Diagnosis, Finding
from harness.alignment.outcomes import Status
from harness.alignment.result import Gate

SYSTEMATIC = "systematic"
_STATUS: dict[Finding, Status] = {"SYSTEMATIC": "FAIL", "SLIGHT": "WARN", "NOTHING": "PASS"}


def systematic_gate(diagnosis: Diagnosis) -> Gate:
    """FAIL on a cause that is surely there, beyond its margin; WARN on one within."""
    return Gate(
        name=SYSTEMATIC,
        status=_STATUS[diagnosis.finding],
        value=diagnosis.first.t,
        limit=diagnosis.first.limit,
        message=diagnosis.message,
        sentence=diagnosis.sentence,
    )
