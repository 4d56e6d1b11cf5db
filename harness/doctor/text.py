"""A diagnosis as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from harness.doctor.finding import Diagnosis, Finding
from harness.errors import log_line

_WIDTH = 100
_COLOURS = {"error": "31;1", "warning": "33;1", "harmless": "32"}


def render(diagnosis: Diagnosis, *, colour: bool = False) -> str:
    """Facts, findings, and the outcome in one line."""
    lines: list[str] = []
    for section, rows in diagnosis.facts.items():
        lines.append(f"{section}:")
        width = max(map(len, rows))
        lines += [log_line(f"  {name.ljust(width)}  {value}") for name, value in rows.items()]
    lines += findings_text(diagnosis.findings, colour=colour)
    lines.append(outcome(diagnosis))
    return "\n".join(lines)


def findings_text(findings: Sequence[Finding], *, colour: bool = False) -> list[str]:
    """Every finding: what was seen, why it matters, the command that mends it."""
    lines: list[str] = []
    for found in findings:
        word = f"{found.severity}: {found.code}"
        lines.append(f"\x1b[{_COLOURS[found.severity]}m{word}\x1b[0m" if colour else word)
        lines += _paragraph("seen", found.seen)
        sources = f" ({', '.join(found.sources)})" if found.sources else ""
        lines += _paragraph("why", found.why + sources)
        lines.append(log_line(f"  mend  {found.remedy}"))  # never wrapped: it is copied
    return lines


def outcome(diagnosis: Diagnosis) -> str:
    """Ready or not, in one line."""
    name = diagnosis.device or "this host"
    count = len(diagnosis.errors)
    others = len(diagnosis.findings) - count
    beside = f", {others} other finding{'s' * (others != 1)}" if others else ""
    if count:
        return f"{name}: not ready: {count} error{'s' * (count != 1)}{beside}"
    return f"{name}: ready{beside}"


def _paragraph(label: str, text: str) -> list[str]:
    wrapped = textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=f"  {label.ljust(4)}  ",
        subsequent_indent=" " * 8,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [log_line(line) for line in wrapped]
