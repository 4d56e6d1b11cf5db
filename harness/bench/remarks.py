"""Warnings for the reader of a bench."""

from __future__ import annotations

from harness.bench.measure import STABLE_WITHIN
from harness.bench.result import Bench
from harness.messages.message import Message, message


def warnings_of(bench: Bench) -> tuple[Message, ...]:
    """Cells that were not measured, on a noisy host, or with other tokens."""
    found = []
    for times in bench.cells:
        cell = times.cell.name
        if times.problem:
            found.append(message("bench.not_measured", cell=cell, problem=times.problem))
        elif not times.stable:
            percent = round(100 * (STABLE_WITHIN - 1))
            found.append(message("bench.not_settled", cell=cell, percent=percent))
        if len({r.tokens for r in times.repeats}) > 1:
            found.append(message("bench.other_tokens", cell=cell))
    return tuple(found)
