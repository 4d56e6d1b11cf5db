"""The recording: one JSON file, one device, one suite.

Row statistics are packed (``harness.files.packing``); tokens, texts, margins and
environment stay readable in a diff.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
from pydantic import (
    BeforeValidator,
    Field,
    PlainSerializer,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from harness.devices.base import Replay, Stop
from harness.devices.facts import EngineFacts, EnvironmentValue, LoadFigures, Seconds
from harness.errors import FormatError
from harness.files import jsonfile
from harness.files.atomic import write_parts
from harness.files.gzipped import for_path
from harness.files.jsonstream import fits_memory, read_items
from harness.files.packing import pack, unpack
from harness.files.strict_model import FROM_LIST, SparseModel, StrictModel, validated
from harness.model.facts import ModelFacts
from harness.model.settings import GenerationSettings
from harness.recording.shelf import Shelf
from harness.statistics.detail import check_detail, detail_of
from harness.statistics.masks import MASK_BYTES
from harness.statistics.routes import Routes
from harness.statistics.rows import (
    DIGEST_BYTES,
    MASK_COLUMNS,
    NORMAL,
    WHOLE_ONLY,
    Detail,
    RowStatistics,
    untold_masks,
)
from harness.suite.chat import Unsteady
from harness.suite.suite import Suite

if TYPE_CHECKING:
    from typing_extensions import Self

SCHEMA = "harness.recording/3"
#: Of a recording that holds the routes of a mixture of experts; others need no newer reader.
ROUTED_SCHEMA = "harness.recording/4"
#: Of a recording in another detail than the normal one.
DETAILED_SCHEMA = "harness.recording/5"
#: What is read: /2 tells no masks, /1 holds whole rows and no texts without tokens.
SCHEMAS = ("harness.recording/1", "harness.recording/2", SCHEMA, ROUTED_SCHEMA, DETAILED_SCHEMA)

#: How many of the largest logits a report names, so how many need a text.
SHOWN_TOP = 5

#: The field that a file is read and written by, item by item.
_LIST = "prompts"

#: Of one run.
MOST_ROWS = 10_000_000

#: The fields of rows that are not kept in normal detail: logits and buckets of a row.
_DETAIL = ("listed", "buckets")


def _columns(detail: Detail) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of a row's entry in each column."""
    return {
        "top_ids": ("int32", (detail.listed,)),
        "top_logits": ("float32", (detail.listed,)),
        "mean": ("float64", ()),
        "logsumexp": ("float64", ()),
        "nonfinite": ("int32", ()),
        "digest": ("uint8", (DIGEST_BYTES,)),
        "sketch": ("float32", (detail.buckets,)),
        "masked": ("int32", ()),
        "mask": ("uint8", (MASK_BYTES,)),
    }


_COLUMNS = tuple(_columns(NORMAL))
_USUAL = tuple(name for name in _COLUMNS if name not in MASK_COLUMNS)
_PARTIAL = tuple(name for name in _USUAL if name not in WHOLE_ONLY)
#: Rows without masks need no digests of them; rows of before tell no masks.
_SETS = (_PARTIAL, _USUAL, (*_USUAL, "masked"), tuple(_COLUMNS))


def _pack_rows(rows: RowStatistics) -> dict[str, int | str]:
    names = _USUAL if rows.whole else _PARTIAL
    if rows.whole and rows.masks_told:
        names = tuple(_COLUMNS) if rows.masked.any() else (*_USUAL, "masked")
    detail = detail_of(rows) or NORMAL
    kept = {} if detail == NORMAL else {name: getattr(detail, name) for name in _DETAIL}
    return {"count": len(rows)} | kept | {name: pack(getattr(rows, name)) for name in names}


def _unpack_rows(value: Any) -> Any:
    if isinstance(value, RowStatistics):
        return value
    fields = set(value) if isinstance(value, Mapping) else set()
    detailed = [{"count", *_DETAIL, *names} for names in _SETS if "sketch" in names]
    if fields not in [{"count", *names} for names in _SETS] and fields not in detailed:
        raise ValueError(
            f"must have exactly the fields count, {', '.join(_COLUMNS)}; mask only where an id "
            f"is masked, of a server all but {', '.join((*WHOLE_ONLY, *MASK_COLUMNS))}, and in "
            f"another detail than normal {' and '.join(_DETAIL)} too"
        )
    count = value["count"]
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MOST_ROWS:
        raise ValueError(f"count must be a non-negative integer of at most {MOST_ROWS:,}")
    detail = _unpack_detail(value, count) if fields in detailed else NORMAL
    arrays: dict[str, Any] = dict.fromkeys(WHOLE_ONLY)
    for name, (dtype, shape) in _columns(detail).items():
        if name not in fields:
            continue
        if not isinstance(value[name], str):
            raise ValueError(f"{name} must be a string")
        try:
            arrays[name] = unpack(value[name], dtype, (count, *shape))
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    if "masked" in fields:
        none = np.zeros((count, MASK_BYTES), np.uint8)
        if ((arrays["masked"] > 0) != arrays.setdefault("mask", none).any(axis=1)).any():
            raise ValueError("mask must be zeros where masked is 0, and nowhere else")
        if (arrays["masked"] < 0).any():
            raise ValueError("masked must not be negative")
    return RowStatistics(**{**untold_masks(count), **arrays})


def _unpack_detail(value: Mapping[str, Any], count: int) -> Detail:
    """What rows hold that say so."""
    if any(type(value[name]) is not int for name in _DETAIL):
        raise ValueError(f"{' and '.join(_DETAIL)} must be integers")
    detail = Detail(value["listed"], value["buckets"])
    check_detail(detail)
    if detail == NORMAL:
        raise ValueError(f"{' and '.join(_DETAIL)} stand only where the detail is not the normal")
    if count * detail.buckets > MOST_ROWS * NORMAL.buckets:
        raise ValueError(f"count times buckets must be at most {MOST_ROWS * NORMAL.buckets:,}")
    return detail


def _pack_routes(routes: Routes | None) -> dict[str, int | str] | None:
    if routes is None:
        return None
    told: dict[str, int | str] = {"count": len(routes), "layers": routes.layers}
    told["chosen"] = pack(routes.chosen)
    if routes.margin is not None:
        told["margin"] = pack(routes.margin)
    return told


def _unpack_routes(value: Any) -> Any:
    if value is None or isinstance(value, Routes):
        return value
    fields = set(value) if isinstance(value, Mapping) else set()
    if not {"count", "layers", "chosen"} <= fields <= {"count", "layers", "chosen", "margin"}:
        raise ValueError("must have the fields count, layers, chosen, and margin where it is told")
    for name, least in (("count", 0), ("layers", 1)):
        number = value[name]
        if type(number) is not int or not least <= number <= MOST_ROWS:
            raise ValueError(f"{name} must be an integer of {least} to {MOST_ROWS:,}")
    shape = (value["count"], value["layers"])
    if shape[0] * shape[1] > MOST_ROWS:
        raise ValueError(f"count times layers must be at most {MOST_ROWS:,}")
    columns: dict[str, Any] = {}
    for name, dtype in (("chosen", "uint16"), ("margin", "float32")):
        if name in value and not isinstance(value[name], str):
            raise ValueError(f"{name} must be a string")
        try:
            columns[name] = unpack(value[name], dtype, shape) if name in value else None
        except ValueError as error:
            raise ValueError(f"{name} {error}") from None
    return Routes(columns["chosen"], columns["margin"])


PackedRoutes = Annotated[
    Routes | None, BeforeValidator(_unpack_routes), PlainSerializer(_pack_routes)
]
PackedRows = Annotated[RowStatistics, BeforeValidator(_unpack_rows), PlainSerializer(_pack_rows)]


#: A list in JSON, a tuple here.
Ids = Annotated[tuple[Annotated[int, Field(ge=0, lt=2**31)], ...], FROM_LIST]
Count = Annotated[int, Field(ge=0, lt=2**31)]


class RunTimings(StrictModel):
    """Seconds; see ``devices.base.Timings`` for the definitions."""

    ttft_s: Seconds
    itl_s: Annotated[tuple[Seconds, ...], FROM_LIST]
    e2e_s: Seconds


class Run(StrictModel):
    """One pass of one prompt: what was chosen or forced, and the row of each token.

    ``margins`` are the largest minus the second logit, rounded for reading;
    judgement takes the exact figures of ``rows``. ``text_only``: the device
    gave no log-probabilities, so the run has its text but no rows; it has token
    ids if the device named them.
    ``finish``: with the stop ``other``, what the server called it. ``routes``: of a
    mixture of experts, where the device tells them: one for each row, and before them those
    of the prompt's earlier tokens, all or none.
    """

    replay: Replay
    token_ids: Ids
    text: str
    stop: Annotated[Stop, BeforeValidator(lambda v: "none" if v is None else v)]
    margins: Annotated[tuple[float | None, ...], FROM_LIST]
    timings: RunTimings
    rows: PackedRows
    text_only: bool = False
    finish: Annotated[str, Field(max_length=80)] | None = None
    routes: PackedRoutes = None

    @model_validator(mode="before")
    @classmethod
    def _rows_do_not_outgrow_the_tokens(cls, value: Any) -> Any:
        """Before rows are unpacked: a few bytes can claim gigabytes, a list of ids cannot."""
        rows = value.get("rows") if isinstance(value, Mapping) else None
        count = rows.get("count") if isinstance(rows, Mapping) else None
        ids = value.get("token_ids") if isinstance(value, Mapping) else None
        tokens = len(ids) if isinstance(ids, list | tuple) else 0
        if isinstance(count, int) and tokens < count <= MOST_ROWS:
            raise ValueError("token_ids, margins and rows differ in length")
        return value

    @model_validator(mode="after")
    def _one_row_per_token(self) -> Run:
        if self.text_only and (len(self.rows) or self.margins):
            raise ValueError("a text_only run must not have margins or rows")
        if not self.text_only and not len(self.token_ids) == len(self.rows) == len(self.margins):
            raise ValueError("token_ids, margins and rows differ in length")
        if self.routes is not None and len(self.routes) < len(self.rows):
            raise ValueError("fewer routes than rows")
        return self

    @model_serializer(mode="wrap")
    def _without_the_usual(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        if not self.text_only:
            del content["text_only"]
        if self.finish is None:
            del content["finish"]
        if self.routes is None:
            del content["routes"]
        return content

    @property
    def seconds(self) -> float | None:
        """From the request to its last token; None for one pass over given tokens."""
        return None if self.replay == "forced-prefill" else self.timings.e2e_s

    def choices(self) -> tuple[int, ...]:
        """What the device would have taken at each position: its own tokens
        in a free run, the row's arg-max where tokens were forced."""
        if self.replay == "free":
            return self.token_ids
        return tuple(int(i) for i in self.rows.top_ids[:, 0])


class PromptRecord(StrictModel):
    """A prompt with its free run and, where it was replayed, its forced run."""

    id: str
    text: str
    prompt_token_ids: Ids
    free: Run | None = None
    forced: Run | None = None

    @model_validator(mode="after")
    def _runs_are_in_place(self) -> PromptRecord:
        if self.free is None and self.forced is None:
            raise ValueError("must have a free or a forced run")
        if self.free is not None and self.free.replay != "free":
            raise ValueError("free must hold a free run")
        if self.forced is not None and self.forced.replay == "free":
            raise ValueError("forced must hold a forced run")
        return self

    @model_validator(mode="after")
    def _routes_are_of_all_or_no_prompt_tokens(self) -> PromptRecord:
        known = (0, max(len(self.prompt_token_ids) - 1, 0))
        for run in (self.free, self.forced):
            if run is None or run.routes is None:
                continue
            if len(run.routes) - len(run.rows) not in known:
                raise ValueError("routes are neither of the rows nor of prompt and rows")
        return self

    @property
    def run(self) -> Run:
        """The free run, or the forced one where there is no free run."""
        run = self.free or self.forced
        assert run is not None  # validated above
        return run

    def on(self, context: Sequence[int]) -> Run:
        """The run whose rows follow ``context`` furthest."""
        if self.forced is not None and self.forced.token_ids == tuple(context):
            return self.forced
        return self.run


def schema_for(prompts: Sequence[PromptRecord]) -> str:
    """The oldest schema that can hold what is recorded today."""
    runs = [run for p in prompts for run in (p.free, p.forced) if run is not None]
    if any(detail_of(run.rows) not in (None, NORMAL) for run in runs):
        return DETAILED_SCHEMA
    return ROUTED_SCHEMA if any(run.routes is not None for run in runs) else SCHEMA


class SuiteFacts(SparseModel):
    """Which suite it is. ``digest`` is of the prompts that were run, of which there
    are fewer than in the file where ``left_out`` names some: chat messages, where
    the model has no chat template. ``unsteady``: why the chat template makes other
    token ids of a prompt in another run, by the prompt's id."""

    name: str
    digest: str
    left_out: Annotated[tuple[str, ...], FROM_LIST] | None = None
    unsteady: dict[str, Unsteady] | None = None

    @classmethod
    def of(cls, suite: Suite, unsteady: Mapping[str, Unsteady] | None = None) -> SuiteFacts:
        """What a recording keeps of a suite."""
        return cls(
            name=suite.name,
            digest=suite.digest,
            left_out=suite.left_out or None,
            unsteady=dict(unsteady or {}) or None,
        )


class Difference(StrictModel):
    """A position at which a repeated run differs: by other bits, and ``shift``
    is that of the first run's margin, in logits; or by what noise cannot
    explain, and ``shift`` is null.

    ``cause`` says what that is: ``token`` where the second run chose another
    token than the first, and not the largest of its own row (rows with equal
    bits are the plainest case); ``ended`` where one of the two runs ended and
    the other did not, or gave another reason. Without a cause one of the two
    rows holds NaN or infinities, or the two mask other ids (in older files also:
    one run ended earlier).
    """

    position: Count
    shift: float | None
    cause: Literal["token", "ended"] | None = None

    @model_validator(mode="after")
    def _noise_has_no_cause(self) -> Difference:
        if self.cause is not None and self.shift is not None:
            raise ValueError("a difference with a cause must not have a shift")
        return self

    @model_serializer(mode="wrap")
    def _without_the_usual(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = write(self)
        if self.cause is None:
            del content["cause"]
        return content


class Repeat(StrictModel):
    """A prompt that was run twice in one session, to see whether it repeats."""

    prompt_id: str
    rows_compared: Count
    rows_equal: Count
    differences: Annotated[tuple[Difference, ...], FROM_LIST]

    @model_validator(mode="after")
    def _every_row_is_accounted_for(self) -> Repeat:
        if self.rows_equal + len(self.differences) != self.rows_compared:
            raise ValueError("rows_equal and differences do not add up to rows_compared")
        return self


#: Fields of a recording that a copy may be given as mappings.
_RECORDS: Mapping[str, type[StrictModel]] = {
    "settings": GenerationSettings,
    "engine": EngineFacts,
    "load": LoadFigures,
}


class Recording(StrictModel):
    """Everything that one device said about one suite."""

    schema_: str = Field(default=SCHEMA, alias="schema")
    device: str
    dtype: str
    created: str
    model: ModelFacts
    suite: SuiteFacts
    settings: GenerationSettings
    overridden: dict[str, Any]
    engine: EngineFacts
    environment: dict[str, EnvironmentValue]
    load: LoadFigures
    prompts: Annotated[tuple[PromptRecord, ...], FROM_LIST, Field(min_length=1)]
    repeats: Annotated[tuple[Repeat, ...], FROM_LIST] = ()
    pieces: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Recording:
        seen: set[str] = set()
        for prompt in self.prompts:
            if prompt.id in seen:
                raise ValueError(f"duplicate prompt id {prompt.id}")
            seen.add(prompt.id)
        return self

    @model_validator(mode="after")
    def _schema_knows_its_content(self) -> Recording:
        if self.schema_ not in SCHEMAS:
            raise ValueError(f"schema must be one of {', '.join(SCHEMAS)}")
        if self.schema_ == SCHEMAS[0] and not (self.whole and not self.text_only):
            raise ValueError(f"{self.schema_} can hold whole rows and tokens only")
        version = SCHEMAS.index(self.schema_)
        if version < SCHEMAS.index(SCHEMA) and any(
            len(run.rows) and run.rows.masks_told for run in self.runs
        ):
            raise ValueError(f"{self.schema_} cannot hold masks")
        needed = schema_for(self.prompts)
        if needed != SCHEMA and version < SCHEMAS.index(needed):
            newer = "routes" if needed == ROUTED_SCHEMA else "another detail than the normal one"
            raise ValueError(f"{self.schema_} cannot hold {newer}")
        return self

    @model_validator(mode="after")
    def _rows_have_one_detail(self) -> Recording:
        found = {detail_of(run.rows) for run in self.runs if run.rows.whole and not run.text_only}
        if len(found) > 1:
            raise ValueError("rows of one recording must all have the same listed and buckets")
        return self

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, but settings, engine and load may be given as mappings."""
        records = {
            name: _RECORDS[name].model_validate(value)
            for name, value in (update or {}).items()
            if name in _RECORDS and isinstance(value, Mapping)
        }
        copied = super().model_copy(update={**(update or {}), **records}, deep=deep)
        copied.__dict__.pop("_by_id", None)  # of the prompts before
        return copied

    @cached_property
    def _by_id(self) -> dict[str, PromptRecord]:
        return {prompt.id: prompt for prompt in self.prompts}

    def prompt(self, prompt_id: str) -> PromptRecord | None:
        """The prompt with that id, or None."""
        return self._by_id.get(prompt_id)

    def piece(self, token_id: int) -> str:
        """The text of one token, for a reader; ``<id>`` where it is not kept."""
        return self.pieces.get(str(token_id), f"<{token_id}>")

    @property
    def runs(self) -> tuple[Run, ...]:
        """Every run, free and forced."""
        return tuple(run for p in self.prompts for run in (p.free, p.forced) if run is not None)

    @property
    def positions(self) -> int:
        """How many rows the file holds, free and forced."""
        return sum(len(run.rows) for run in self.runs)

    @property
    def whole(self) -> bool:
        """Whether its rows are whole, not a server's largest log-probabilities."""
        return all(run.rows.whole for run in self.runs)

    @property
    def detail(self) -> Detail | None:
        """What its rows hold; None where none of them is whole."""
        told = (run.rows for run in self.runs if run.rows.whole and len(run.rows))
        return next((detail_of(rows) for rows in told), None)

    @property
    def text_only(self) -> bool:
        """Whether a run of it has no rows."""
        return any(run.text_only for run in self.runs)


def margins_of(rows: RowStatistics) -> tuple[float | None, ...]:
    """Largest minus second logit of each row, four digits, None where a row
    has no second."""
    gaps = rows.top_logits[:, 0].astype(np.float64) - rows.top_logits[:, 1].astype(np.float64)
    return tuple(
        float(f"{gap:.4g}") if ids[1] >= 0 else None
        for gap, ids in zip(gaps, rows.top_ids, strict=True)
    )


def save_recording(
    recording: Recording, path: Path, before: Callable[[bytes], None] | None = None
) -> None:
    """Write atomically, sealed with checksums, and compressed where the name ends in ``.gz``;
    errors of ``jsonfile.write``.

    Args:
        before: called with the file's bytes before it is there.
    """
    parts = for_path(path, jsonfile.sealed_parts(_document(recording)))
    if before is not None:
        data = b"".join(parts)
        before(data)
        parts = (data,)
    write_parts(path, parts)


def _document(recording: Recording) -> dict[str, Any]:
    """What a file holds, its prompts one by one."""
    names = [field.alias or name for name, field in Recording.model_fields.items()]
    rest = recording.model_dump(mode="json", by_alias=True, exclude={_LIST})
    dumped = (prompt.model_dump(mode="json", by_alias=True) for prompt in recording.prompts)
    return {name: dumped if name == _LIST else rest[name] for name in names}


def load_recording(path: str | Path, shelf: Shelf | None = None) -> Recording:
    """Read a recording and check it, prompt by prompt; the rows of a large one stay on the
    disk, but for the first (``harness.recording.shelf``).

    Args:
        shelf: shared with other recordings that are held at the same time.

    Raises:
        FormatError: if the file is unreadable or is not a recording of this schema.
        ChecksumError: if it was edited after it was written.
        HarnessError: if the disk does not take the rows of a large one.
    """
    path, shelf = Path(path), shelf or new_shelf()

    def prompt(index: int, value: Any) -> PromptRecord:
        return _shelved(validated(PromptRecord, value, path, f"{_LIST}[{index}]"), shelf)

    try:
        head, prompts = read_items(path, SCHEMAS, _LIST, prompt)
        return validated(Recording, {**head, _LIST: prompts}, path)
    except FormatError:
        if not fits_memory(path):
            raise
        # Read as a whole it says better what is wrong.
        return validated(Recording, jsonfile.read(path, *SCHEMAS), path)


def new_shelf() -> Shelf:
    """For the rows of recordings that are held at the same time."""
    return Shelf()


def _shelved(prompt: PromptRecord, shelf: Shelf) -> PromptRecord:
    found = {"text": shelf.once(prompt.text), "id": shelf.once(prompt.id)}
    ids = shelf.once(prompt.prompt_token_ids)
    runs = {
        name: None if run is None else shelved_run(run, shelf)
        for name, run in (("free", prompt.free), ("forced", prompt.forced))
    }
    return prompt.model_copy(update={**found, "prompt_token_ids": ids, **runs})


def shelved_run(run: Run, shelf: Shelf) -> Run:
    """The same run, with its rows on the shelf.

    Raises:
        HarnessError: if the disk does not take them.
    """
    gaps = shelf.numbers(run.timings.itl_s)
    return run.model_copy(
        update={
            "token_ids": shelf.once(run.token_ids),
            "text": shelf.once(run.text),
            "margins": shelf.numbers(run.margins),
            "timings": run.timings.model_copy(update={"itl_s": gaps}),
            "rows": shelf.rows(run.rows),
        }
    )
