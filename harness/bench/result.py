"""The bench: raw samples of one device in nanoseconds, as one JSON file.

Figures are computed from the samples whenever they are shown
(``harness.bench.figures``), so the file holds only measurements, and the accuracy
verdict of the run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from harness.alignment.outcomes import Verdict
from harness.devices.facts import EngineFacts, EnvironmentValue, LoadFigures
from harness.errors import UsageError
from harness.files import jsonfile
from harness.files.reading import read_head
from harness.files.strict_model import FROM_LIST, StrictModel, validated
from harness.messages.message import Message
from harness.messages.statement import Statement
from harness.model.facts import ModelFacts

SCHEMA = "harness.bench/1"
COMPARISON_SCHEMA = "harness.bench-comparison/1"
LOAD_SCHEMA = "harness.bench-load/1"
#: Tokens of a prompt or an answer, and requests at a time, that a cell can name.
MOST_TOKENS = 2**24 - 1
MOST_BATCH = 2**20 - 1

Nanoseconds = Annotated[int, Field(ge=0, lt=2**62)]
Count = Annotated[int, Field(ge=0, lt=2**40)]


class Cell(StrictModel):
    """One point of the grid: requests of equal lengths, handed over together."""

    prompt_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)]
    output_tokens: Annotated[int, Field(ge=1, le=MOST_TOKENS)]
    batch_size: Annotated[int, Field(ge=1, le=MOST_BATCH)]

    @property
    def name(self) -> str:
        """As ``128+32 x 4``: prompt and output tokens, and the batch."""
        return f"{self.prompt_tokens}+{self.output_tokens} x {self.batch_size}"


class RequestTimes(StrictModel):
    """Clock readings of one request: hand-over to first token, every gap
    between tokens, hand-over to last token."""

    ttft_ns: Nanoseconds
    itl_ns: Annotated[tuple[Nanoseconds, ...], FROM_LIST]
    e2e_ns: Nanoseconds


class RepeatTimes(StrictModel):
    """One run of a cell: the batch's wall clock and each of its requests.

    ``tokens`` is a digest of the generated ids, ``counters`` exact counts that
    do not depend on the clock.
    """

    wall_ns: Nanoseconds
    requests: Annotated[tuple[RequestTimes, ...], FROM_LIST, Field(min_length=1)]
    tokens: str
    counters: dict[str, Count] = Field(default_factory=dict)


class CellTimes(StrictModel):
    """A cell with its warm-up (wall clocks only) and its repeats.

    ``stable`` says whether the last warm-up runs agreed within 5 %;
    ``problem`` why a cell could not be run. Peaks are bytes over the repeats.
    """

    cell: Cell
    warmup_ns: Annotated[tuple[Nanoseconds, ...], FROM_LIST] = ()
    stable: bool = False
    repeats: Annotated[tuple[RepeatTimes, ...], FROM_LIST] = ()
    peak_host_bytes: Count | None = None
    peak_device_bytes: Count | None = None
    problem: str | None = None


class Limits(StrictModel):
    """What the device's memory and arithmetic could do at most, as measured.

    ``read_bytes_s`` bytes a second of reading a large array; ``matmul_flop_s``
    floating-point operations a second of a large product in the model's dtype.
    """

    read_bytes_s: Annotated[float, Field(gt=0)]
    matmul_flop_s: Annotated[float, Field(gt=0)]
    weight_bytes: Count
    kv_bytes_per_token: Count
    parameters: Count


class Accuracy(Statement):
    """The verdict on the tokens of this device and model; None if not judged."""

    verdict: Verdict | None
    sentence: str = ""
    message: Message | None = None
    suite: str | None = None


class Bench(StrictModel):
    """All measurements of one device."""

    schema_: str = Field(default=SCHEMA, alias="schema")
    created: str
    complete: bool
    device: str
    dtype: str
    machine: str
    model: ModelFacts
    engine: EngineFacts
    environment: dict[str, EnvironmentValue]
    load: LoadFigures
    first_request_s: Annotated[float, Field(ge=0)] | None = None
    cells: Annotated[tuple[CellTimes, ...], FROM_LIST]
    limits: Limits | None = None
    accuracy: Accuracy
    warnings: Annotated[tuple[str, ...], FROM_LIST] = ()

    @model_validator(mode="after")
    def _cells_are_unique(self) -> Bench:
        if len({c.cell for c in self.cells}) != len(self.cells):
            raise ValueError("duplicate cell")
        return self

    @property
    def aligned(self) -> bool:
        """Whether the figures are of a device that computes the right thing."""
        return self.accuracy.verdict in ("BIT_EXACT", "TOKEN_EXACT", "EQUIVALENT")


class LoadTimes(StrictModel):
    """A server under load: every completed request's times.

    ``rate`` is requests a second, None for all at once; ``server`` what the
    server's own counters say of the same time, empty where it has none.
    """

    rate: Annotated[float, Field(gt=0)] | None
    concurrency: Count
    requests: Count
    completed: Count
    prompt_tokens: Count
    output_tokens: Count
    errors: Count
    first_error: str | None
    wall_ns: Nanoseconds
    ttft_ns: Annotated[tuple[Nanoseconds, ...], FROM_LIST]
    itl_ns: Annotated[
        tuple[Annotated[tuple[Nanoseconds, ...], FROM_LIST], ...],
        FROM_LIST,
    ]
    server: dict[str, int]

    @property
    def counters_agree(self) -> bool | None:
        """Whether the server's counts agree; None where it has no counters.

        The generator's own trial request comes on top of the server's counts.
        """
        if "output_tokens" not in self.server or "requests" not in self.server:
            return None
        trial = self.server["requests"] - self.completed
        each = self.output_tokens / max(self.completed, 1)
        return 0 <= trial <= 1 and self.server["output_tokens"] == round(
            self.output_tokens + trial * each
        )


class LoadBench(StrictModel):
    """A server at several loads."""

    schema_: str = Field(default=LOAD_SCHEMA, alias="schema")
    created: str
    url: str
    model: str
    prompt_tokens: Count
    output_tokens: Count
    loads: Annotated[tuple[LoadTimes, ...], FROM_LIST]


class Side(StrictModel):
    """One of two compared configurations, as the user gave it."""

    device: str
    model: str
    dtype: str
    options: str
    machine: str
    engine: EngineFacts
    environment: dict[str, EnvironmentValue]
    accuracy: Accuracy


class PairedCell(Statement):
    """The blocks of one cell: wall clocks of A B B A, and what was judged.

    ``counters`` are the exact counts of both sides that differ.
    """

    cell: Cell
    blocks_ns: Annotated[
        tuple[Annotated[tuple[Nanoseconds, ...], FROM_LIST], ...],
        FROM_LIST,
    ]
    outcome: Literal["REGRESSED", "EQUIVALENT", "IMPROVED", "INCONCLUSIVE"]
    ratio: float
    low: float
    high: float
    detectable: float
    sentence: str = ""
    message: Message | None = None
    counters: dict[str, Annotated[tuple[Count, Count], FROM_LIST]]


class Comparison(StrictModel):
    """Two configurations on one host, interleaved."""

    schema_: str = Field(default=COMPARISON_SCHEMA, alias="schema")
    created: str
    first: Side
    second: Side
    cells: Annotated[tuple[PairedCell, ...], FROM_LIST]

    @property
    def outcome(self) -> str:
        """The worst over all cells."""
        order = ("REGRESSED", "INCONCLUSIVE", "EQUIVALENT", "IMPROVED")
        found = {cell.outcome for cell in self.cells}
        return next(word for word in order if word in found)


def save_bench(bench: Bench | Comparison | LoadBench, path: Path) -> None:
    """Write atomically, sealed with checksums; errors of ``jsonfile.write``."""
    jsonfile.write(path, bench.model_dump(mode="json", by_alias=True))


def load_bench(path: str | Path) -> Bench:
    """Read a bench; errors as of ``recording.load_recording``."""
    path = Path(path)
    return validated(Bench, jsonfile.read(path, SCHEMA), path)


def load_comparison(path: Path) -> Comparison:
    """Read what ``bench --against`` wrote; errors as of ``load_bench``."""
    return validated(Comparison, jsonfile.read(path, COMPARISON_SCHEMA), path)


def load_load_bench(path: Path) -> LoadBench:
    """Read what ``bench-load`` wrote; errors as of ``load_bench``."""
    return validated(LoadBench, jsonfile.read(path, LOAD_SCHEMA), path)


def bench_schema(path: Path) -> str | None:
    """Which of the three schemas a file names; None for any other."""
    try:
        head = read_head(path, 200)
    except OSError:
        return None  # the reader says what is wrong
    known = (SCHEMA, COMPARISON_SCHEMA, LOAD_SCHEMA)
    return next((name for name in known if f'"schema": "{name}"'.encode() in head), None)


def check_replaces_bench(out: Path) -> None:
    """Check that a bench replaces only another bench: it writes its file
    again and again, by default to one place.

    Raises:
        UsageError: if the file is something else.
    """
    if out.exists() and out.stat().st_size and bench_schema(out) is None:
        raise UsageError(f"--out {out}: is not a bench and would be overwritten; name another file")
