"""The words of a judgement: verdicts, gate statuses and classes of a position."""

from __future__ import annotations

from typing import Literal, get_args

#: Best first.
Verdict = Literal[
    "BIT_EXACT",
    "TOKEN_EXACT",
    "EQUIVALENT",
    "INCONCLUSIVE",
    "DRIFT",
    "DIVERGENT",
    "NON_DETERMINISTIC",
    "NOT_COMPARABLE",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
ALIGNED: frozenset[Verdict] = frozenset({"BIT_EXACT", "TOKEN_EXACT", "EQUIVALENT"})
NO_JUDGEMENT: frozenset[Verdict] = frozenset({"INCONCLUSIVE", "NOT_COMPARABLE"})

Status = Literal["PASS", "WARN", "FAIL", "INCONCLUSIVE", "NOT_RUN"]
PointClass = Literal[
    "EXACT", "TIE", "NEAR_TIE", "REROUTED", "SILENT_DRIFT", "DIVERGENT", "NONFINITE"
]
#: The classes that fail the point guard.
FAILING: frozenset[PointClass] = frozenset({"SILENT_DRIFT", "DIVERGENT", "NONFINITE"})


def exit_status(verdict: Verdict) -> int:
    """0 aligned, 1 not aligned, 3 no judgement."""
    if verdict in ALIGNED:
        return 0
    return 3 if verdict in NO_JUDGEMENT else 1
