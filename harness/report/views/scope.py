"""What a judgement could have seen, as one table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from harness.alignment.power import Power, power_rows
from harness.alignment.result import Alignment
from harness.alignment.scope import Scope, scope_rows
from harness.messages.message import Message
from harness.messages.render import render
from harness.report.language import Said, said


@dataclass(frozen=True)
class ScopeRow:
    """One row: what, and how much of it."""

    what: Said
    how_much: Said


def could_see(alignment: Alignment) -> tuple[ScopeRow, ...]:
    """Every row of an alignment's table; empty where nothing is known."""
    found = () if alignment.scope is None else scope_rows(alignment.scope)
    told = () if alignment.power is None else power_rows(alignment.power)
    return tuple(_row(key, value) for key, value in (*found, *told))


def scope_lines(scope: Scope, power: Power | None) -> Iterator[str]:
    """The table for a terminal, in English."""
    told = () if power is None else power_rows(power)
    rows = [_row(key, value) for key, value in (*scope_rows(scope), *told)]
    width = max(len(row.what.en) for row in rows)
    for row in rows:
        yield f"{row.what.en:<{width}}  {row.how_much.en}"


def _row(key: str, value: Message) -> ScopeRow:
    return ScopeRow(said(key), Said(render(value, "en"), render(value, "zh")))
