"""The gate of stops: each run ended as its recording says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from harness.alignment.outcomes import Status
from harness.alignment.result import Gate
from harness.messages.message import Message, message
from harness.recording.endings import FAULTS, Ending, ending_message

#: Its name; like determinism it is of recordings and not of evidence.
STOPS = "stops"


def stops_gate(endings: Sequence[Ending], prompts: int) -> Gate:
    """FAIL where stop, length, eos ids and limits contradict the tokens and nothing but
    the device explains it; INCONCLUSIVE where something else may, or a run was broken off.

    Args:
        endings: what does not hold together, see ``recording.endings``.
        prompts: how many were run.
    """
    if not endings:
        outcome = message("gate.stops.pass", prompts=prompts)
    else:
        outcome = message(
            "gate.stops.wrong", wrong=len(endings), prompts=prompts, reasons=tuple(_kinds(endings))
        )
    return Gate(
        name=STOPS, status=_status(endings), value=float(len(endings)), limit=0.0, message=outcome
    )


def _status(endings: Sequence[Ending]) -> Status:
    if any(ending.proven for ending in endings):
        return "FAIL"
    return "INCONCLUSIVE" if endings else "PASS"


def _kinds(endings: Sequence[Ending]) -> Iterator[Message]:
    """One message for each kind of fault, what is proven first."""
    for proven in (True, False):
        for fault in FAULTS:
            alike = [e for e in endings if e.fault == fault and e.proven is proven]
            if alike:
                yield ending_message(alike)
