"""The alignment: everything that a report shows and a script reads.

One JSON file, complete in itself: a report is rendered from it alone, without
the model, the baseline or the recording.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, model_validator

from harness.alignment.diagnosis import Diagnosis
from harness.alignment.first_schema import from_first
from harness.alignment.frame import frame_of
from harness.alignment.kept_positions import keeper
from harness.alignment.origin import Origin
from harness.alignment.outcomes import Status, Verdict
from harness.alignment.power_facts import Power
from harness.alignment.prompt_result import PromptAlignment
from harness.alignment.scope_facts import Scope
from harness.alignment.token_table import TokenTable
from harness.devices.facts import EngineFacts, EnvironmentValue, LoadFigures
from harness.doctor.finding import Finding
from harness.errors import FormatError
from harness.files import jsonfile
from harness.files.jsonstream import fits_memory, read_items
from harness.files.strict_model import FROM_LIST, StrictModel, validated
from harness.messages.message import Message, message
from harness.messages.statement import Remark, Statement
from harness.model.facts import ModelFacts
from harness.model.settings import SettingsIfKnown
from harness.recording.format import SuiteFacts
from harness.statistics.intervals import Interval

if TYPE_CHECKING:
    import pandas as pd

SCHEMA = "harness.alignment/2"
#: Schemas that are read: /1 holds sentences without messages, and spells two classes
#: with a dash.
SCHEMAS = ("harness.alignment/1", SCHEMA)

#: The field that a file is written by, item by item.
_LIST = "prompts"


class Gate(Statement):
    """One rule of the judgement.

    ``value``, ``low``, ``high`` and ``limit`` (in JSON ``threshold``) are in
    the gate's own unit;
    ``message`` says the outcome, ``sentence`` the same in English.
    """

    name: str
    status: Status
    value: float | None
    low: float | None = None
    high: float | None = None
    # In JSON it keeps the name that scripts read (DESIGN, section 8).
    limit: float | None = Field(alias="threshold")
    sentence: str = ""
    message: Message | None = None


def span(found: Interval, key: Literal["span", "times"] = "span") -> Message:
    """A value with its interval, if it has one; the message around it sets the
    number of digits. ``times`` is of an error ratio: "1.02 times the
    reference's"."""
    if found.low is None:
        return message(f"{key}.point", value=found.value)
    return message(key, value=found.value, low=found.low, high=found.high)


class FieldDifference(StrictModel):
    """One field that should be equal and is not, as short texts."""

    field: str
    candidate: str
    baseline: str


class Comparability(StrictModel):
    """Whether two recordings may be compared at all.

    ``differences`` refuse; ``allowed`` differ too, with the user's leave;
    ``unknown`` are fields that a device did not know.
    """

    comparable: bool
    differences: Annotated[tuple[FieldDifference, ...], FROM_LIST]
    allowed: Annotated[tuple[FieldDifference, ...], FROM_LIST]
    unknown: Annotated[tuple[str, ...], FROM_LIST]


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
    settings: SettingsIfKnown
    overridden: dict[str, Any]
    engine: EngineFacts
    environment: dict[str, EnvironmentValue]
    load: LoadFigures


class Figures(StrictModel):
    """Performance of one arm: medians over its free (or forced-decode) runs.

    Definitions: ``ttft_s`` request handed over to first token; ``itl_s`` the
    gaps between tokens; ``decode_tpot_s`` = (last - first) / (n - 1) of a
    request; ``decode_tok_s`` tokens after the first over their time, summed
    over requests; ``total_tok_s`` output tokens over the requests' time; ``mean_e2e_s``
    the mean time of a request, from its hand-over to its last token.
    ``samples`` counts requests, ``gaps`` the gaps, ``output_tokens`` the tokens.
    """

    load_s: float | None
    ttft_s: float | None
    itl_s: float | None
    decode_tpot_s: float | None
    decode_tok_s: float | None
    total_tok_s: float | None
    samples: int
    gaps: int
    mean_e2e_s: float | None = None
    output_tokens: int | None = None

    @classmethod
    def measured(cls) -> tuple[str, ...]:
        """Names of the figures, without the counts of what they were taken of."""
        counts = ("samples", "gaps", "output_tokens")
        return tuple(name for name in cls.model_fields if name not in counts)


class Performance(StrictModel):
    """Figures side by side; ``ratio`` is candidate over reference, per figure,
    None where either is missing."""

    candidate: Figures
    reference: Figures
    ratio: dict[str, float | None]


class MatrixCell(Statement):
    """The candidate run again with one thing changed.

    ``change`` names the two settings. PASS: every bit is the same, or the
    variation holds against the baseline by itself. WARN: bits differ that
    should not (a repeat), or nothing could be shown. FAIL: the variation is
    judged not aligned. INCONCLUSIVE: it was asked for and ended with an error.
    NOT_RUN: it does not apply; ``sentence`` says why.
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
    sentence: str = ""
    message: Message | None = None


class Magnifier(Statement):
    """The candidate judged again in a dtype with less noise. It only warns.

    PASS, WARN, INCONCLUSIVE if the device could not run it in any dtype, or NOT_RUN
    if it is not applicable or has no baseline; ``sentence`` says why. ``limit`` is
    what the error ratios may reach.
    """

    dtype: str
    status: Status
    sentence: str = ""
    message: Message | None = None
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
    is noise there. ``ratio`` is the candidate's over the reference's, ``limit``
    what it may reach, ``status`` as in ``harness.locate.result``; None in older files."""

    module: str
    candidate: float | None
    noise: float | None
    ratio: float | None = None
    limit: float | None = None
    status: Literal["EQUAL", "WITHIN", "BEYOND", "NONFINITE", "UNJUDGED"] | None = None


class Located(StrictModel):
    """The result of ``harness locate``, for a report: the curve over depth.

    ``module`` is where the error begins, None where every error stays in the noise;
    ``place`` is the part of it that leaves the noise. ``prompt_id`` and ``position``
    are where it shows first, or most.
    """

    module: str | None
    sentence: str
    curve: Annotated[tuple[DepthPoint, ...], FROM_LIST]
    place: str | None = None
    prompt_id: str | None = None
    position: int | None = None
    warnings: Annotated[tuple[str, ...], FROM_LIST] = ()


class RouteSplit(StrictModel):
    """A mixture of experts by its routes; a row is another one where a router chose other
    experts than the oracle's.

    Attributes:
        layers, rows: routed layers, and rows that were compared.
        candidate_flips, reference_flips: rows of each that are other ones.
        same_rows: rows in which both kept the oracle's routes.
        same_ratio, other_ratio: candidate's over reference's root-mean-square error in those
            rows, and in all others; None without such rows.
        failing, failing_other: positions that fail, and those of them in other rows.
        candidate_margin, reference_margin: the widest margin of the oracle's routers, in
            logits, at which a route flipped; 0 without a flip, None where margins are not told.
        median_margin: of all routers and rows.
        judged: rows whose errors and margins are judged, see ``baseline.routing``; None in
            older files.
    """

    layers: int
    rows: int
    candidate_flips: int
    reference_flips: int
    same_rows: int
    same_ratio: float | None
    other_ratio: float | None
    failing: int
    failing_other: int
    candidate_margin: float | None
    reference_margin: float | None
    median_margin: float | None
    judged: int | None = None


class Alignment(Statement):
    """The result of comparing a candidate with a baseline.

    ``remarks`` are the warnings as messages, and ``warnings`` the same as
    English sentences, for whoever reads the JSON. ``doctor`` and ``host`` are
    what the doctor found on the candidate's host before the run, and its facts
    by section; empty where it did not run. ``tokens`` are the equal tokens
    per prompt, where there are no logits to judge. ``scope`` is what could have
    been seen; None for texts, plain lists and older files. ``routes``: of a mixture of
    experts, where candidate and baseline tell them. ``origin``: the run of CI that
    judged, None elsewhere.
    """

    schema_: str = Field(default=SCHEMA, alias="schema")
    created: str
    verdict: Verdict
    sentence: str = ""
    message: Message | None = None
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
    remarks: Annotated[tuple[Remark, ...], FROM_LIST] = ()
    reproduce: Annotated[tuple[str, ...], FROM_LIST] = ()
    matrix: Annotated[tuple[MatrixCell, ...], FROM_LIST] = ()
    magnifier: Magnifier | None = None
    locate: Located | None = None
    diagnosis: Diagnosis | None = None
    tokens: TokenTable | None = None
    scope: Scope | None = None
    power: Power | None = None
    routes: RouteSplit | None = None
    origin: Origin | None = None
    doctor: Annotated[tuple[Finding, ...], FROM_LIST] = ()
    host: dict[str, dict[str, str]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _warnings_are_the_remarks(cls, fields: Any) -> Any:
        """Each is made from the other where it is not given; both must say the same."""
        if not isinstance(fields, dict):
            return fields
        given = fields.get("warnings")
        if "remarks" not in fields and isinstance(given, list | tuple):
            if not all(isinstance(said, str) for said in given):
                return fields  # the field's own check says so
            return {**fields, "remarks": [{"sentence": said} for said in given]}
        if "warnings" not in fields:
            said = tuple(r.sentence for r in fields.get("remarks", ()) if isinstance(r, Remark))
            return {**fields, "warnings": said}
        return fields

    @model_validator(mode="after")
    def _warnings_fit(self) -> Alignment:
        if self.warnings != tuple(r.sentence for r in self.remarks):
            raise ValueError("warnings and remarks do not say the same")
        return self

    def with_remarks(self, *more: Remark) -> Alignment:
        """With further warnings."""
        remarks = (*self.remarks, *more)
        said = tuple(r.sentence for r in remarks)
        return self.model_copy(update={"remarks": remarks, "warnings": said})

    @property
    def reference(self) -> Arm | None:
        """The reference arm."""
        return next((arm for arm in self.baseline if arm.role == "reference"), None)

    def piece(self, token_id: int) -> str:
        """The text of one token, for a reader; ``<id>`` where it is not kept."""
        return self.pieces.get(str(token_id), f"<{token_id}>")

    def to_frame(self) -> pd.DataFrame:
        """One row per judged position; the columns are ``harness.alignment.frame.COLUMNS``."""
        return frame_of(self.candidate.device, self.prompts, self.piece)


def save_alignment(alignment: Alignment, path: Path) -> None:
    """Write atomically, sealed with checksums, and compressed where the name ends in ``.gz``;
    errors of ``jsonfile.write``."""
    jsonfile.write(path, _document(alignment))


def alignment_bytes(alignment: Alignment) -> bytes:
    """The text that :func:`save_alignment` writes."""
    return jsonfile.encoded(_document(alignment))


def _document(alignment: Alignment) -> dict[str, Any]:
    """What a file holds, its prompts one by one."""
    names = [field.alias or name for name, field in Alignment.model_fields.items()]
    rest = alignment.model_dump(mode="json", by_alias=True, exclude={_LIST})
    dumped = (prompt.model_dump(mode="json", by_alias=True) for prompt in alignment.prompts)
    return {name: dumped if name == _LIST else rest[name] for name in names}


def load_alignment(path: str | Path) -> Alignment:
    """Read an alignment, prompt by prompt; errors as of ``recording.load_recording``."""
    path, keep = Path(path), keeper()

    def prompt(index: int, value: Any) -> PromptAlignment:
        return keep(validated(PromptAlignment, value, path, f"{_LIST}[{index}]"))

    try:
        head, prompts = read_items(path, (SCHEMA,), _LIST, prompt)
        return validated(Alignment, {**head, _LIST: prompts}, path)
    except FormatError:
        if not fits_memory(path):
            raise
    # Read as a whole it says better what is wrong, or is of the first schema.
    document = jsonfile.read(path, *SCHEMAS)
    if document["schema"] != SCHEMA:
        document = from_first(document)
    return validated(Alignment, document, path)
