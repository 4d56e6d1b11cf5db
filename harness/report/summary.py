"""The outcome in a few lines, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from harness.alignment.diagnosis import Diagnosis
from harness.alignment.outcomes import ALIGNED, FAILING
from harness.alignment.prompt_result import PromptAlignment
from harness.alignment.result import Alignment
from harness.alignment.token_table import TokenRow, TokenTable
from harness.errors import printable

#: Prompts in the terminal's table of equal tokens.
_MOST_ROWS = 64


def summary_lines(alignment: Alignment) -> Iterator[str]:
    """Verdict first, then gates, then the prompts that need a look."""
    yield f"{alignment.verdict}: {printable(alignment.sentence)}"
    if alignment.diagnosis is not None and alignment.diagnosis.explanations:
        yield f"  {printable(alignment.diagnosis.sentence)}"
    for difference in alignment.comparability.differences:
        yield (
            f"  {printable(difference.field)}: {printable(difference.candidate)} "
            f"against {printable(difference.baseline)}"
        )
    for gate in alignment.gates:
        yield f"  {gate.status:<12} {gate.name}: {printable(gate.sentence)}"
    if alignment.diagnosis is not None:
        yield from _explained(alignment.diagnosis)
    for cell in alignment.matrix:
        yield f"  {cell.status:<12} matrix, {cell.change}: {printable(cell.sentence)}"
    closer = alignment.magnifier
    if closer is not None:
        yield f"  {closer.status:<12} magnifier: {printable(closer.sentence)}"
    for warning in alignment.warnings:
        yield f"  warning: {printable(warning)}"
    if alignment.tokens is not None:
        yield from _equal_lines(alignment.tokens)
    bad = [p for p in alignment.prompts if p.verdict not in ALIGNED and p.class_ is not None]
    for prompt in bad[:10]:
        yield f"  {_prompt_line(prompt)}"
    if len(bad) > 10:
        yield f"  and {len(bad) - 10} more prompts"


def _explained(diagnosis: Diagnosis) -> Iterator[str]:
    """Every cause, with those that cannot be told apart from it."""
    for explanation in diagnosis.explanations:
        if explanation.sentence != diagnosis.sentence:  # else the gate's line says it
            yield f"  diagnosis: {printable(explanation.sentence)}"
        for other in explanation.alike:
            yield f"  diagnosis: not to be told apart from {printable(other.sentence)}"


def _equal_lines(table: TokenTable) -> Iterator[str]:
    """Equal tokens per prompt; where there are many, those that differ first."""
    all_ = len(table.rows)
    word = "prompt" if all_ == 1 else "prompts"
    yield f"  equal {table.unit}: {table.equal_prompts} of {all_} {word} ({table.share:.1%})"
    rows = table.rows if all_ <= _MOST_ROWS else table.worst_first[:_MOST_ROWS]
    width = max(len(printable(row.id)) for row in rows)
    for row in rows:
        yield f"    {printable(row.id):<{width}}  {_equal_line(row)}"
    if len(rows) < all_:
        yield f"    and {all_ - len(rows)} more prompts; all of them are in the JSON"


def _equal_line(row: TokenRow) -> str:
    counts = f"{row.equal} of {row.of}"
    if row.first_difference is None:
        return counts
    mine = _shown(row.candidate, row.candidate_token)
    theirs = _shown(row.reference, row.reference_token)
    return f"{counts}, first difference at {row.first_difference}: {mine} against {theirs}"


def _shown(text: str | None, token: int | None) -> str:
    """A token as its text and id, as far as they are known; or that there was none."""
    if text is None:
        return "the end"
    if text == f"<{token}>":
        return str(token)
    return printable(repr(text)) + ("" if token is None else f" {token}")


def _prompt_line(prompt: PromptAlignment) -> str:
    if prompt.findings and prompt.class_ not in FAILING:
        said = "; ".join(printable(finding.sentence.rstrip(".。")) for finding in prompt.findings)
        return f"{prompt.id}: {prompt.verdict}: {said}"
    return (
        f"{prompt.id}: {prompt.class_} at position {prompt.shown}, "
        f"margin {number(prompt.margin)}, shift {number(prompt.shift)}, "
        f"tolerance {number(prompt.tolerance)}"
    )


def number(value: float | None) -> str:
    """Four significant digits, or a dash."""
    return "—" if value is None else f"{value:.4g}"
