"""Parts of an alignment that only some runs have: matrix, magnifier, doctor, depth.

They are read tolerantly: a part that is absent, empty or of another shape is
not shown, and a field that is absent is a dash.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.alignment.result import Alignment
from harness.report.language import MESSAGES, Said, said
from harness.report.sentences import judged_sentence
from harness.report.text import NONE, number, shortened

_STATUS = {
    "PASS": ("✓", "good"),
    "OK": ("✓", "good"),
    "WARN": ("!", "warn"),
    "FAIL": ("✗", "bad"),
    "ERROR": ("✗", "bad"),
}
_SEVERITY = {
    "error": ("✗", "bad"),
    "fail": ("✗", "bad"),
    "warning": ("!", "warn"),
    "warn": ("!", "warn"),
    "ok": ("✓", "good"),
    "harmless": ("✓", "dim"),
}
_MOST = 200


@dataclass(frozen=True)
class Row:
    """A row with its mark and tone, its cells as texts, and what it says."""

    mark: str
    tone: str
    cells: tuple[str, ...]
    sentence: Said


@dataclass(frozen=True)
class Finding:
    """What the doctor found."""

    mark: str
    tone: str
    severity: Said
    what: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Depth:
    """Error of one module: the candidate's, and what is noise there."""

    module: str
    error: float | None
    noise: float | None


@dataclass(frozen=True)
class Sections:
    """The optional parts; empty where there are none."""

    matrix: tuple[Row, ...] = ()
    magnifier: Row | None = None
    doctor: tuple[Finding, ...] = ()
    depth: tuple[Depth, ...] = ()


def sections(alignment: Alignment) -> Sections:
    """Whatever of the optional parts this alignment has."""
    matrix = _part(alignment, "matrix")
    doctor = _part(alignment, "doctor")
    return Sections(
        matrix=tuple(_cell(alignment, cell) for cell in _items(matrix, "cells")),
        magnifier=_magnifier(alignment, _part(alignment, "magnifier")),
        doctor=tuple(map(_finding, _items(doctor, "findings"))),
        depth=tuple(_depth(_part(alignment, "locate"))),
    )


def _part(source: Any, *names: str) -> Any:
    """The first of these fields or keys that there is."""
    for name in names:
        value = source.get(name) if isinstance(source, Mapping) else getattr(source, name, None)
        if value is not None:
            return value
    return None


def _items(part: Any, name: str) -> Sequence[Any]:
    """A list, or the list under that name."""
    found = part if isinstance(part, (list, tuple)) else _part(part, name)
    return found[:_MOST] if isinstance(found, (list, tuple)) else ()


def _text(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return number(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={_text(v)}" for k, v in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return shortened(str(value), 1000)


def _cell(alignment: Alignment, cell: Any) -> Row:
    status = _text(_part(cell, "status"))
    mark, tone = _STATUS.get(status.upper(), ("?", "open"))
    what, rows, equal, sentence = (
        _text(_part(cell, *names))
        for names in (
            ("what", "name", "setting"),
            ("rows",),
            ("equal", "rows_equal"),
            ("sentence", "why"),
        )
    )
    return Row(mark, tone, (what, status, rows, equal), judged_sentence(alignment, sentence))


def _magnifier(alignment: Alignment, part: Any) -> Row | None:
    if part is None:
        return None
    status = _text(_part(part, "status"))
    mark, tone = _STATUS.get(status.upper(), ("?", "open"))
    ratio = _part(part, "ratio", "error_ratio")
    shown = _text(_part(ratio, "value")) if _part(ratio, "value") is not None else _text(ratio)
    sentence = _text(_part(part, "sentence", "why"))
    return Row(mark, tone, (status, shown), judged_sentence(alignment, sentence))


def _finding(finding: Any) -> Finding:
    severity = _text(_part(finding, "severity", "status")).lower()
    mark, tone = _SEVERITY.get(severity, ("i", "open"))
    name = {"warn": "warning", "fail": "error", "note": "info"}.get(severity, severity)
    known = f"severity.{name}" in MESSAGES["en"]
    return Finding(
        mark=mark,
        tone=tone,
        severity=said(f"severity.{name}") if known else Said(severity, severity),
        what=_text(_part(finding, "seen", "what", "name")),
        why=_text(_part(finding, "why", "cause", "detail")),
        remedy=_text(_part(finding, "remedy", "mend", "fix")),
    )


def _depth(part: Any) -> Iterator[Depth]:
    for point in _items(part, "curve"):
        name = _part(point, "module", "name", "layer")
        error = _part(point, "candidate", "error", "value")
        noise = _part(point, "noise", "control", "reference", "limit")
        if name is not None:
            yield Depth(shortened(str(name), 120), _finite(error), _finite(noise))


def _finite(value: Any) -> float | None:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if good else None
