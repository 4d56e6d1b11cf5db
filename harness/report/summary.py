"""The outcome in a few lines, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from harness.alignment.outcomes import ALIGNED, FAILING
from harness.alignment.prompt_result import PromptAlignment
from harness.alignment.result import Alignment
from harness.errors import printable


def summary_lines(alignment: Alignment) -> Iterator[str]:
    """Verdict first, then gates, then the prompts that need a look."""
    yield f"{alignment.verdict}: {printable(alignment.sentence)}"
    for difference in alignment.comparability.differences:
        yield (
            f"  {difference.field}: {printable(difference.candidate)} "
            f"against {printable(difference.baseline)}"
        )
    for gate in alignment.gates:
        yield f"  {gate.status:<12} {gate.name}: {printable(gate.sentence)}"
    for cell in alignment.matrix:
        yield f"  {cell.status:<12} matrix, {cell.change}: {printable(cell.sentence)}"
    closer = alignment.magnifier
    if closer is not None:
        yield f"  {closer.status:<12} magnifier: {printable(closer.sentence)}"
    for warning in alignment.warnings:
        yield f"  warning: {printable(warning)}"
    bad = [p for p in alignment.prompts if p.verdict not in ALIGNED and p.class_ is not None]
    for prompt in bad[:10]:
        yield f"  {_prompt_line(prompt)}"
    if len(bad) > 10:
        yield f"  and {len(bad) - 10} more prompts"


def _prompt_line(prompt: PromptAlignment) -> str:
    if prompt.findings and prompt.class_ not in FAILING:
        said = "; ".join(printable(finding.sentence) for finding in prompt.findings)
        return f"{prompt.id}: {prompt.verdict}: {said}"
    return (
        f"{prompt.id}: {prompt.class_} at position {prompt.shown}, "
        f"margin {number(prompt.margin)}, shift {number(prompt.shift)}, "
        f"tolerance {number(prompt.tolerance)}"
    )


def number(value: float | None) -> str:
    """Four significant digits, or a dash."""
    return "—" if value is None else f"{value:.4g}"
