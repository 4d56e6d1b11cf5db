"""Parts of an alignment that only some runs have: matrix, magnifier, diagnosis, doctor."""

from __future__ import annotations

from dataclasses import dataclass

from harness.alignment.diagnosis import Diagnosis
from harness.alignment.gates.systematic import systematic_gate
from harness.alignment.result import Alignment, DepthPoint, Magnifier, MatrixCell
from harness.alignment.token_table import TokenRow, TokenTable
from harness.doctor.finding import Finding, Severity
from harness.report.language import Said, said, said_of
from harness.report.text import NONE, number, shortened
from harness.report.views.gates import STATUS_MARK, STATUS_TONE

_SEVERITY: dict[Severity, tuple[str, str]] = {
    "error": ("✗", "bad"),
    "warning": ("!", "warn"),
    "harmless": ("✓", "dim"),
}
#: Rows of a table, and characters of a cell.
_MOST, _MOST_TEXT = 200, 1000
#: Heads of a layer in a chart.
_MOST_HEADS = 128


@dataclass(frozen=True)
class Row:
    """A row with its mark and tone, its cells as texts, and what it says."""

    mark: str
    tone: str
    cells: tuple[str, ...]
    sentence: Said


@dataclass(frozen=True)
class FindingView:
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
    ratio: float | None = None
    limit: float | None = None
    failing: bool = False


@dataclass(frozen=True)
class EqualRow:
    """One prompt: how much of it is equal, and what stands where it parts."""

    mark: str
    tone: str
    id: str
    equal: str
    of: str
    first: str
    candidate: str
    reference: str


@dataclass(frozen=True)
class Equal:
    """Equal tokens per prompt: its heading's key, the share, the rows, those left out."""

    heading: str
    share: Said
    rows: tuple[EqualRow, ...]
    more: int


@dataclass(frozen=True)
class Cause:
    """What explains a part of the error, and what cannot be told apart from it."""

    sentence: Said
    alike: tuple[Said, ...]


@dataclass(frozen=True)
class HeadRow:
    """The largest t of each head of a layer."""

    layer: str
    heads: tuple[float, ...]


@dataclass(frozen=True)
class Diagnosed:
    """The outcome of a diagnosis, what cannot be told apart from its cause, and further
    causes.

    Attributes:
        named: whether there is a cause, which then stands under the verdict too.
        depth: of each layer the largest t, and what chance stays below.
        heads: the same of each head; empty where there are none.
        limit: what chance stays below; None where that is not told.
    """

    mark: str
    tone: str
    sentence: Said
    named: bool
    alike: tuple[Said, ...]
    causes: tuple[Cause, ...]
    scope: Said
    left: Said | None
    depth: tuple[Depth, ...]
    heads: tuple[HeadRow, ...]
    limit: float | None


@dataclass(frozen=True)
class Sections:
    """The optional parts; empty where there are none."""

    equal: Equal | None = None

    matrix: tuple[Row, ...] = ()
    magnifier: Row | None = None
    diagnosis: Diagnosed | None = None
    doctor: tuple[FindingView, ...] = ()
    depth: tuple[Depth, ...] = ()


def sections(alignment: Alignment) -> Sections:
    """Whatever of the optional parts this alignment has."""
    closer, located = alignment.magnifier, alignment.locate
    curve = () if located is None else located.curve[:_MOST]
    return Sections(
        equal=None if alignment.tokens is None else _equal(alignment.tokens),
        matrix=tuple(map(_cell, alignment.matrix[:_MOST])),
        magnifier=None if closer is None else _magnifier(closer),
        diagnosis=None if alignment.diagnosis is None else _diagnosed(alignment.diagnosis),
        doctor=tuple(map(_finding, alignment.doctor[:_MOST])),
        depth=tuple(map(_depth, curve)),
    )


def _depth(point: DepthPoint) -> Depth:
    return Depth(
        module=shortened(point.module, 120),
        error=point.candidate,
        noise=point.noise,
        ratio=point.ratio,
        limit=point.limit,
        failing=point.status in ("BEYOND", "NONFINITE"),
    )


def _equal(table: TokenTable) -> Equal:
    rows = table.worst_first[:_MOST] if len(table.rows) > _MOST else table.rows
    share = f"{100 * table.share:.1f}"
    return Equal(
        heading="equal_tokens" if table.unit == "tokens" else "equal_texts",
        share=said("equal.share", equal=table.equal_prompts, all=len(table.rows), percent=share),
        rows=tuple(map(_equal_row, rows)),
        more=len(table.rows) - len(rows),
    )


def _equal_row(row: TokenRow) -> EqualRow:
    same = row.first_difference is None
    return EqualRow(
        mark="=" if same else "≠",
        tone="dim" if same else "warn",
        id=shortened(row.id, 120),
        equal=number(row.equal),
        of=number(row.of),
        first=number(row.first_difference),
        candidate=_token(row.candidate, row.candidate_token, same),
        reference=_token(row.reference, row.reference_token, same),
    )


def _token(text: str | None, token: int | None, same: bool) -> str:
    """A token as its text and id; an end, and nothing where all are equal."""
    if text is None:
        return NONE if same else "∎"
    known = token is not None and text != f"<{token}>"
    return f"{shortened(text, 80)} {token}" if known else shortened(text, 80)


def _cell(cell: MatrixCell) -> Row:
    name = shortened(cell.name, _MOST_TEXT)
    cells = (name, cell.status, number(cell.rows), number(cell.rows_equal))
    return Row(STATUS_MARK[cell.status], STATUS_TONE[cell.status], cells, said_of(cell))


def _magnifier(closer: Magnifier) -> Row:
    ratio = None if closer.error_ratio is None else closer.error_ratio.value
    cells = (closer.status, number(ratio))
    return Row(STATUS_MARK[closer.status], STATUS_TONE[closer.status], cells, said_of(closer))


def _diagnosed(diagnosis: Diagnosis) -> Diagnosed:
    status = systematic_gate(diagnosis).status
    # Of a systematic error the outcome is the first cause itself.
    limit = next((f.limit for f in diagnosis.families if f.name == "causes"), None)
    first = [x for x in diagnosis.explanations[:1] if x.sentence == diagnosis.sentence]
    return Diagnosed(
        mark=STATUS_MARK[status],
        tone=STATUS_TONE[status],
        sentence=said_of(diagnosis),
        named=bool(diagnosis.explanations),
        alike=tuple(said_of(other) for found in first for other in found.alike),
        causes=tuple(
            Cause(said_of(found), tuple(map(said_of, found.alike)))
            for found in diagnosis.explanations[len(first) : _MOST]
        ),
        scope=said(
            "diagnosis.scope",
            prompts=diagnosis.prompts,
            rows=diagnosis.rows,
            **{family.name: family.hypotheses for family in diagnosis.families},
            t=f"{diagnosis.first.t:.1f}",
            limit=f"{diagnosis.first.limit:.1f}",
        ),
        left=None
        if diagnosis.left is None
        else said("diagnosis.left", left=f"{diagnosis.left:.1f}"),
        depth=tuple(Depth(str(x.layer), x.t, limit) for x in diagnosis.layers[:_MOST]),
        heads=tuple(
            HeadRow(str(x.layer), x.heads[:_MOST_HEADS])
            for x in diagnosis.layers[:_MOST]
            if x.heads
        ),
        limit=limit,
    )


def _finding(finding: Finding) -> FindingView:
    mark, tone = _SEVERITY[finding.severity]
    return FindingView(
        mark=mark,
        tone=tone,
        severity=said(f"severity.{finding.severity}"),
        what=shortened(finding.seen, _MOST_TEXT),
        why=shortened(finding.why, _MOST_TEXT),
        remedy=shortened(finding.remedy, _MOST_TEXT),
    )
