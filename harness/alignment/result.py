"""The alignment: everything that a report shows and a script asks for.

One JSON file, complete in itself: a report is rendered from it alone, without
the model, the baseline or the recording.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from harness import jsonfile
from harness.devices.base import EnvironmentValue
from harness.doctor.finding import Finding
from harness.recording import Count, ModelFacts, SuiteFacts, validated
from harness.rows import NO_TOKEN
from harness.strict_model import FROM_LIST, StrictModel

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "harness.alignment/1"

Verdict = Literal[
    "BIT_EXACT",
    "TOKEN_EXACT",
    "EQUIVALENT",
    "INCONCLUSIVE",
    "DRIFT",
    "DIVERGENT",
    "NON_DETERMINISTIC",
    "NOT_COMPARABLE",
]
#: Best first.
VERDICTS: tuple[Verdict, ...] = (
    "BIT_EXACT",
    "TOKEN_EXACT",
    "EQUIVALENT",
    "INCONCLUSIVE",
    "DRIFT",
    "DIVERGENT",
    "NON_DETERMINISTIC",
    "NOT_COMPARABLE",
)
ALIGNED: frozenset[Verdict] = frozenset({"BIT_EXACT", "TOKEN_EXACT", "EQUIVALENT"})
NO_JUDGEMENT: frozenset[Verdict] = frozenset({"INCONCLUSIVE", "NOT_COMPARABLE"})

Status = Literal["PASS", "WARN", "FAIL", "INCONCLUSIVE", "NOT_RUN"]
PointClass = Literal["EXACT", "TIE", "NEAR-TIE", "SILENT-DRIFT", "DIVERGENT", "NONFINITE"]
#: The classes that fail the point guard.
FAILING: frozenset[PointClass] = frozenset({"SILENT-DRIFT", "DIVERGENT", "NONFINITE"})


def exit_status(verdict: Verdict) -> int:
    """0 aligned, 1 not aligned, 3 no judgement."""
    if verdict in ALIGNED:
        return 0
    return 3 if verdict in NO_JUDGEMENT else 1


class Interval(StrictModel):
    """An estimate with the ends of its 95 % interval; None where there are
    too few prompts for one."""

    value: float | None
    low: float | None
    high: float | None


class Gate(StrictModel):
    """One rule of the judgement.

    ``value``, ``low``, ``high`` and ``threshold`` are in the gate's own unit;
    ``sentence`` says the outcome to an engineer.
    """

    name: str
    status: Status
    value: float | None
    low: float | None = None
    high: float | None = None
    threshold: float | None
    sentence: str


class FieldDifference(StrictModel):
    """One field that should be equal and is not, as short texts."""

    field: str
    candidate: str
    baseline: str


class Comparability(StrictModel):
    """Whether two recordings may be compared at all.

    ``differences`` refuse; ``allowed`` differ too, with the user's leave;
    ``unknown`` are fields that a device could not tell.
    """

    comparable: bool
    differences: Annotated[tuple[FieldDifference, ...], FROM_LIST]
    allowed: Annotated[tuple[FieldDifference, ...], FROM_LIST]
    unknown: Annotated[tuple[str, ...], FROM_LIST]


#: A token id, or NO_TOKEN (-1) where a row has no finite logit to choose by.
Token = Annotated[int, Field(ge=NO_TOKEN, lt=2**31)]

#: (token id, logit) pairs, largest first.
TopTokens = list[Annotated[tuple[Count, float], FROM_LIST]]


class Positions(StrictModel):
    """Per-position figures of one prompt, one list entry per judged position.

    ``reference_token`` is the reference's choice at this position and
    ``candidate_token`` the candidate's, both after the same context. ``margin``
    is the reference's lead of its token over the rival, ``shift`` how the
    candidate changed it, ``tolerance`` the largest shift that is noise, all in
    logits; None where it cannot be told (``class`` too). ``error`` and ``reference_error`` are
    root-mean-square logit errors over the vocabulary against the oracle.
    ``bit_equal`` is None where a side has no whole rows.
    The ``top`` lists hold (token id, logit), largest first.
    """

    class_: list[PointClass | None] = Field(alias="class")
    reference_token: list[Token]
    candidate_token: list[Token]
    margin: list[float | None]
    shift: list[float | None]
    tolerance: list[float | None]
    error: list[float | None]
    reference_error: list[float | None]
    bit_equal: list[bool | None]
    reference_top: list[TopTokens]
    candidate_top: list[TopTokens]

    @model_validator(mode="after")
    def _one_entry_per_position(self) -> Positions:
        lengths = {name: len(getattr(self, name)) for name in type(self).model_fields}
        if len(set(lengths.values())) > 1:
            raise ValueError("the lists differ in length")
        return self


class PromptAlignment(StrictModel):
    """One prompt of the comparison.

    ``class``, ``margin``, ``shift`` and ``tolerance`` are those of ``shown``,
    the position that a reader should look at: the first failing one, else the
    first flip, else the largest shift against its tolerance.
    ``first_divergence`` is the first position where the candidate's own free
    run left the context tokens, None where it did not or there was none.
    ``tokens_compared`` counts judged positions, ``tokens_expected`` those of
    the context.
    """

    id: str
    verdict: Verdict
    text: str
    tokens_compared: int
    tokens_expected: int
    first_divergence: int | None
    shown: int | None
    class_: PointClass | None = Field(alias="class")
    margin: float | None
    shift: float | None
    tolerance: float | None
    context_token_ids: list[Count]
    candidate_token_ids: list[Count]
    context_text: str
    candidate_text: str
    positions: Positions

    @model_validator(mode="after")
    def _counts_fit(self) -> PromptAlignment:
        n = len(self.positions.class_)
        if self.tokens_compared != n or not (self.shown is None or 0 <= self.shown < n):
            raise ValueError("tokens_compared and shown do not fit the positions")
        return self


class Arm(StrictModel):
    """A recording in its role: reference, oracle, control or candidate."""

    role: Literal["reference", "oracle", "control", "candidate"]
    name: str
    file: str
    device: str
    dtype: str
    replay: str
    created: str
    model: ModelFacts
    suite: SuiteFacts
    settings: dict[str, Any]
    overridden: dict[str, Any]
    engine: dict[str, EnvironmentValue]
    environment: dict[str, EnvironmentValue]
    load: dict[str, float]


class Figures(StrictModel):
    """Performance of one arm: medians over its free (or forced-decode) runs.

    Definitions: ``ttft_s`` request handed over to first token; ``itl_s`` the
    gaps between tokens; ``decode_tpot_s`` = (last - first) / (n - 1) of a
    request; ``decode_tok_s`` tokens after the first over their time, summed
    over requests; ``total_tok_s`` output tokens over the requests' time.
    ``samples`` counts requests, ``gaps`` the gaps.
    """

    load_s: float | None
    ttft_s: float | None
    itl_s: float | None
    decode_tpot_s: float | None
    decode_tok_s: float | None
    total_tok_s: float | None
    samples: int
    gaps: int


class Performance(StrictModel):
    """Figures side by side; ``ratio`` is candidate over reference, per figure,
    None where either is missing."""

    candidate: Figures
    reference: Figures
    ratio: dict[str, float | None]


class MatrixCell(StrictModel):
    """The candidate run again with one thing changed.

    ``change`` says what against what. PASS: every bit is the same, or the
    variation holds against the baseline by itself. WARN: bits differ that
    should not (a repeat), or nothing could be shown. FAIL: the variation is
    judged not aligned. NOT_RUN: ``sentence`` says why.
    ``shift`` is the largest change of a margin between the two, in logits;
    ``verdict`` and ``error_ratio`` those of the variation against the baseline,
    where bits differ.
    """

    name: str
    change: str
    status: Status
    rows: int
    rows_equal: int
    shift: float | None
    verdict: Verdict | None
    error_ratio: Interval | None
    sentence: str


class Magnifier(StrictModel):
    """The candidate judged again in a dtype with less noise. It only warns.

    PASS, WARN, or NOT_RUN where it is not applicable or has no baseline;
    ``sentence`` says why. ``limit`` is what the error ratios may reach.
    """

    dtype: str
    status: Status
    sentence: str
    verdict: Verdict | None = None
    error_ratio: Interval | None = None
    top_k_error_ratio: Interval | None = None
    limit: float | None = None
    positions: int = 0
    gates: Annotated[tuple[Gate, ...], FROM_LIST] = ()
    candidate: str = ""
    baseline: str = ""


class DepthPoint(StrictModel):
    """One module of ``harness locate``: the candidate's error against the
    oracle, relative to the size of the module's output, and the largest that
    is noise there."""

    module: str
    candidate: float | None
    noise: float | None


class Located(StrictModel):
    """What ``harness locate`` found, for a report: the curve over depth.

    ``module`` is where the error begins, None where none leaves the noise.
    """

    module: str | None
    sentence: str
    curve: Annotated[tuple[DepthPoint, ...], FROM_LIST]


class Alignment(StrictModel):
    """The result of holding a candidate against a baseline.

    ``doctor`` and ``host`` are what the doctor found on the candidate's host
    before the run, and its facts by section; empty where it did not run.
    """

    schema_: str = Field(default=SCHEMA, alias="schema")
    created: str
    verdict: Verdict
    sentence: str
    error_ratio: Interval
    top_k_error_ratio: Interval
    gates: Annotated[tuple[Gate, ...], FROM_LIST]
    positions: int
    classes: dict[str, int]
    prompts: Annotated[tuple[PromptAlignment, ...], FROM_LIST]
    comparability: Comparability
    candidate: Arm
    baseline: Annotated[tuple[Arm, ...], FROM_LIST]
    performance: Performance
    pieces: dict[str, str]
    warnings: Annotated[tuple[str, ...], FROM_LIST] = ()
    reproduce: Annotated[tuple[str, ...], FROM_LIST] = ()
    matrix: Annotated[tuple[MatrixCell, ...], FROM_LIST] = ()
    magnifier: Magnifier | None = None
    locate: Located | None = None
    doctor: Annotated[tuple[Finding, ...], FROM_LIST] = ()
    host: dict[str, dict[str, str]] = Field(default_factory=dict)

    @property
    def reference(self) -> Arm | None:
        """The reference arm."""
        return next((arm for arm in self.baseline if arm.role == "reference"), None)

    def piece(self, token_id: int) -> str:
        """The text of one token, for a reader; ``<id>`` where it is not kept."""
        return self.pieces.get(str(token_id), f"<{token_id}>")

    def to_frame(self) -> pd.DataFrame:
        """One row per judged position; the columns are ``harness.table.COLUMNS``."""
        from harness.table import to_frame

        return to_frame(self)


def save_alignment(alignment: Alignment, path: Path) -> None:
    """Write atomically, sealed with checksums; errors of ``jsonfile.write``."""
    jsonfile.write_bytes(path, alignment_bytes(alignment))


def alignment_bytes(alignment: Alignment) -> bytes:
    """What :func:`save_alignment` writes."""
    return jsonfile.encoded(alignment.model_dump(mode="json", by_alias=True))


def load_alignment(path: str | Path) -> Alignment:
    """Read an alignment; errors as of ``recording.load_recording``."""
    path = Path(path)
    return validated(Alignment, jsonfile.read(path, SCHEMA), path)
