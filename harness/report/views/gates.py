"""Gates as the templates show them."""

from __future__ import annotations

from dataclasses import dataclass

from harness.alignment.evidence import PATHS
from harness.alignment.outcomes import Status
from harness.alignment.result import Gate
from harness.report.language import MESSAGES, Said, said, said_of
from harness.report.text import NONE, number
from harness.statistics.intervals import Interval

#: How a status is coloured and marked, in every table.
STATUS_TONE: dict[Status, str] = {
    "PASS": "good",
    "WARN": "warn",
    "FAIL": "bad",
    "INCONCLUSIVE": "open",
    "NOT_RUN": "dim",
}
STATUS_MARK: dict[Status, str] = {
    "PASS": "✓",
    "WARN": "!",
    "FAIL": "✗",
    "INCONCLUSIVE": "?",
    "NOT_RUN": NONE,
}


@dataclass(frozen=True)
class GateView:
    """A gate: ``found`` is its value with its interval, ``asks`` what it asks."""

    name: str
    status: str
    tone: str
    mark: str
    found: Said
    limit: str
    sentence: Said
    asks: Said | None


def gate_view(gate: Gate) -> GateView:
    """What the templates show of a gate."""
    found = Interval(value=gate.value, low=gate.low, high=gate.high)
    plain = Said(number(gate.value), number(gate.value))
    return GateView(
        name=gate.name,
        status=gate.status,
        tone=STATUS_TONE[gate.status],
        mark=STATUS_MARK[gate.status],
        found=plain if gate.low is None or gate.high is None else interval(found),
        limit=number(gate.limit),
        sentence=said_of(gate),
        asks=_asks(gate.name),
    )


def interval(estimate: Interval) -> Said:
    """``1.02 (0.98 to 1.07)``, or what there is of it."""
    if estimate.value is None:
        return Said(NONE, NONE)
    key = "interval.none" if estimate.low is None or estimate.high is None else "interval"
    return said(
        key, value=number(estimate.value), low=number(estimate.low), high=number(estimate.high)
    )


def gate_base(name: str) -> tuple[str, str]:
    """A gate's name without the path it is of, and that path or nothing."""
    base, _, path = name.rpartition("_")
    return (base, path) if path in PATHS else (name, "")


def _asks(name: str) -> Said | None:
    base, path = gate_base(name)
    if f"asks.{base}" not in MESSAGES["en"]:
        return None
    asks = said(f"asks.{base}")
    if not path:
        return asks
    only = said(f"asks.{path}")
    return Said(f"{asks.en} {only.en}", asks.zh + only.zh)
