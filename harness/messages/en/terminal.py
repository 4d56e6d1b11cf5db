"""The outcome on a terminal, in English."""

from __future__ import annotations

MESSAGES: dict[str, str] = {
    "terminal.against": "{field}: {candidate} against {baseline}",
    "terminal.matrix": "matrix, {change}: {said}",
    "terminal.magnifier": "magnifier: {said}",
    "terminal.warning": "warning: {said}",
    "terminal.diagnosis": "diagnosis: {said}",
    "terminal.alike": "diagnosis: not to be told apart from {said}",
    "terminal.more": "and {n} more {n:prompt|prompts}",
    "terminal.equal.tokens": "equal tokens: {equal} of {all} {all:prompt|prompts} ({percent})",
    "terminal.equal.characters": "equal characters: {equal} of {all} {all:prompt|prompts} "
    "({percent})",
    "terminal.equal.more": "and {n} more {n:prompt|prompts}; all of them are in the JSON",
    "terminal.equal.line": "{equal} of {of}",
    "terminal.equal.differs": "{equal} of {of}, first difference at {n}: {candidate} against "
    "{reference}",
    "terminal.end": "the end",
    "terminal.prompt": "{id}: {class_} at position {n}, margin {margin}, shift {shift}, tolerance "
    "{tolerance}",
    "terminal.report": "report: {path}",
}
