"""The outcome in a few lines, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from harness.alignment.diagnosis import Diagnosis
from harness.alignment.outcomes import ALIGNED, FAILING
from harness.alignment.prompt_result import PromptAlignment
from harness.alignment.result import Alignment
from harness.alignment.token_table import TokenRow, TokenTable
from harness.errors import printable
from harness.messages.statement import Stated, told
from harness.report.language import Language, say

#: Prompts in the terminal's table of equal tokens.
_MOST_ROWS = 64


def summary_lines(alignment: Alignment, language: Language = "en") -> Iterator[str]:
    """Verdict first, then gates, then the prompts that need a look."""
    t = partial(say, language)
    yield f"{alignment.verdict}: {_told(alignment, language)}"
    diagnosis = alignment.diagnosis
    if diagnosis is not None and diagnosis.explanations:
        yield f"  {_told(diagnosis, language)}"
    for difference in alignment.comparability.differences:
        fields = {name: printable(text) for name, text in difference.model_dump().items()}
        yield f"  {t('terminal.against', **fields)}"
    for gate in alignment.gates:
        yield f"  {gate.status:<12} {gate.name}: {_told(gate, language)}"
    if diagnosis is not None:
        yield from _explained(diagnosis, language)
    yield from _closer_looks(alignment, language)
    for warning in alignment.remarks:
        yield f"  {t('terminal.warning', said=_told(warning, language))}"
    if alignment.tokens is not None:
        yield from _equal_lines(alignment.tokens, language)
    bad = [p for p in alignment.prompts if p.verdict not in ALIGNED and p.class_ is not None]
    for prompt in bad[:10]:
        yield f"  {_prompt_line(prompt, language)}"
    if len(bad) > 10:
        yield f"  {t('terminal.more', n=len(bad) - 10)}"


def _told(stated: Stated, language: Language) -> str:
    """What it says; in English the sentence of the file."""
    return printable(stated.sentence if language == "en" else told(stated, language))


def _closer_looks(alignment: Alignment, language: Language) -> Iterator[str]:
    t = partial(say, language)
    for cell in alignment.matrix:
        line = t("terminal.matrix", change=cell.change, said=_told(cell, language))
        yield f"  {cell.status:<12} {line}"
    closer = alignment.magnifier
    if closer is not None:
        line = t("terminal.magnifier", said=_told(closer, language))
        yield f"  {closer.status:<12} {line}"


def _explained(diagnosis: Diagnosis, language: Language) -> Iterator[str]:
    """Every cause, with those that cannot be told apart from it."""
    t = partial(say, language)
    for explanation in diagnosis.explanations:
        if explanation.sentence != diagnosis.sentence:  # else the gate's line says it
            yield f"  {t('terminal.diagnosis', said=_told(explanation, language))}"
        for other in explanation.alike:
            yield f"  {t('terminal.alike', said=_told(other, language))}"


def _equal_lines(table: TokenTable, language: Language) -> Iterator[str]:
    """Equal tokens per prompt; where there are many, those that differ first."""
    t, all_ = partial(say, language), len(table.rows)
    counts = {"equal": table.equal_prompts, "all": all_, "percent": f"{table.share:.1%}"}
    yield f"  {t(f'terminal.equal.{table.unit}', **counts)}"
    rows = table.rows if all_ <= _MOST_ROWS else table.worst_first[:_MOST_ROWS]
    width = max(len(printable(row.id)) for row in rows)
    for row in rows:
        yield f"    {printable(row.id):<{width}}  {_equal_line(row, language)}"
    if len(rows) < all_:
        yield f"    {t('terminal.equal.more', n=all_ - len(rows))}"


def _equal_line(row: TokenRow, language: Language) -> str:
    t = partial(say, language)
    if row.first_difference is None:
        return t("terminal.equal.line", equal=row.equal, of=row.of)
    return t(
        "terminal.equal.differs",
        equal=row.equal,
        of=row.of,
        n=row.first_difference,
        candidate=_shown(row.candidate, row.candidate_token, language),
        reference=_shown(row.reference, row.reference_token, language),
    )


def _shown(text: str | None, token: int | None, language: Language) -> str:
    """A token as its text and id, as far as they are known; or that there was none."""
    if text is None:
        return say(language, "terminal.end")
    if text == f"<{token}>":
        return str(token)
    return printable(repr(text)) + ("" if token is None else f" {token}")


def _prompt_line(prompt: PromptAlignment, language: Language) -> str:
    if prompt.findings and prompt.class_ not in FAILING:
        sentences = (_told(finding, language).rstrip(".。") for finding in prompt.findings)
        return f"{prompt.id}: {prompt.verdict}: {'; '.join(sentences)}"
    return say(
        language,
        "terminal.prompt",
        id=prompt.id,
        class_=prompt.class_,
        n=prompt.shown,
        margin=number(prompt.margin),
        shift=number(prompt.shift),
        tolerance=number(prompt.tolerance),
    )


def number(value: float | None) -> str:
    """Four significant digits, or a dash."""
    return "—" if value is None else f"{value:.4g}"
