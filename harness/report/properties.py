"""Figures of an alignment as properties of JUnit XML (``pytest --junit-xml``).

Names begin with ``harness.``; values are plain numbers or words. What there is
no figure for is left out.
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.alignment.prompt_result import PromptAlignment
from harness.alignment.result import Alignment, Gate
from harness.report.views.prompt import error_ratio, flips

Property = tuple[str, object]


def gate_properties(gate: Gate) -> Iterator[Property]:
    """Status, value, interval and limit of a gate; the value also under the gate's name."""
    yield f"harness.{gate.name}.status", gate.status
    figures = (
        ("", gate.value),
        (".low", gate.low),
        (".high", gate.high),
        (".threshold", gate.limit),
    )
    yield from ((f"harness.{gate.name}{end}", v) for end, v in figures if v is not None)


def prompt_properties(prompt: PromptAlignment) -> Iterator[Property]:
    """Verdict, divergence and error of a prompt."""
    yield "harness.prompt.verdict", prompt.verdict
    yield "harness.prompt.positions", prompt.tokens_compared
    yield "harness.prompt.flips", len(flips(prompt))
    figures = (
        ("first_divergence", prompt.first_divergence),
        ("class", prompt.class_),
        ("position", prompt.shown),
        ("margin", prompt.margin),
        ("shift", prompt.shift),
        ("tolerance", prompt.tolerance),
        ("error_ratio", error_ratio(prompt)),
    )
    yield from ((f"harness.prompt.{name}", v) for name, v in figures if v is not None)


def alignment_properties(alignment: Alignment) -> Iterator[Property]:
    """The verdict and what it is about."""
    yield "harness.verdict", alignment.verdict
    yield "harness.device", alignment.candidate.device
    yield "harness.model", alignment.candidate.model.name
    yield "harness.suite", alignment.candidate.suite.name
    yield "harness.dtype", alignment.candidate.dtype
    yield "harness.positions", alignment.positions
    ratio = alignment.error_ratio
    for end, value in (("", ratio.value), (".low", ratio.low), (".high", ratio.high)):
        if value is not None:
            yield f"harness.error_ratio{end}", value
