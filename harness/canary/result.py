"""The outcome of a canary, as one JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from harness.canary.layout import Part
from harness.canary.scaling import RopeScaling
from harness.canary.sizes import CanaryFamily, Table
from harness.canary.stages import StageName
from harness.devices.facts import EngineFacts, EnvironmentValue
from harness.files import jsonfile
from harness.files.strict_model import FROM_LIST, StrictModel, validated
from harness.messages.message import Message
from harness.messages.statement import Statement

SCHEMA = "harness.canary/1"

CanaryOutcome = Literal["EXACT", "WRONG"]


class CanarySizes(StrictModel):
    """The shape of the canary; see ``harness.canary.sizes``."""

    context: int
    vocab_size: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    hidden: int
    intermediate: int
    rope_theta: float
    page_size: int
    sliding_window: int | None
    family: CanaryFamily
    original_context: int | None = None
    experts: int = 0
    rope_scaling: RopeScaling | None = None


class CanaryFinding(Statement):
    """One cause of wrong values.

    Attributes:
        cause: a word for programs, as ``kv_exchanged``; ``unknown`` if no pattern fits.
        layer: where it begins; None outside of the layers.
        stage: the first stage that shows it.
        also: later stages that show the same.
    """

    cause: str
    layer: int | None
    stage: StageName
    also: Annotated[tuple[StageName, ...], FROM_LIST] = ()
    sentence: str = ""
    message: Message | None = None


class CanaryProbe(StrictModel):
    """One value that every row reads out.

    Attributes:
        name: as ``layer 2 head 3, 17 back``.
        distance: how far back the head reads; 0 for the others.
    """

    name: str
    part: Part
    layer: int
    index: int
    distance: int


class CanaryStage(StrictModel):
    """What came of one stage.

    Attributes:
        rows, exact: rows of logits, and those with every bit right.
        tokens, right: tokens that were chosen, and those that arithmetic says.
        wrong: how many rows of each probe are wrong, in the order of ``probes``; empty
            where the device gives no whole rows.
        longest: positions of the longest request.
        dropped: requests that were begun and dropped before.
        preemptions: requests that lost their cache to another, by the engine's own count;
            None where it does not count.
        table: of LongRoPE, which the requests needed; None without LongRoPE.
    """

    name: StageName
    requests: int
    longest: int
    rows: int
    exact: int
    tokens: int
    right: int
    wrong: Annotated[tuple[int, ...], FROM_LIST]
    seconds: float
    dropped: int = 0
    preemptions: int | None = None
    table: Table | None = None


class CanarySoak(StrictModel):
    """The stages, repeated for a time.

    Attributes:
        minutes: for how long it was asked.
        rounds: how often every stage was run.
        seconds: how long that took.
        wrong_rounds: rounds with any wrong bit.
        first_wrong: the first of them, counted from 1; None if every bit was right.
        first_wrong_s: when it ended, in seconds from the start.
    """

    minutes: float
    rounds: int
    seconds: float
    wrong_rounds: int
    first_wrong: int | None
    first_wrong_s: float | None


class Canary(Statement):
    """The outcome; ``EXACT`` if every row and token is as arithmetic says.

    ``findings`` are empty then and only then.
    """

    schema_: str = Field(default=SCHEMA, alias="schema")
    created: str
    outcome: CanaryOutcome
    sentence: str = ""
    message: Message | None = None
    device: str
    dtype: str
    sizes: CanarySizes
    findings: Annotated[tuple[CanaryFinding, ...], FROM_LIST]
    stages: Annotated[tuple[CanaryStage, ...], FROM_LIST]
    soak: CanarySoak | None = None
    probes: Annotated[tuple[CanaryProbe, ...], FROM_LIST]
    seconds: float
    load_s: float | None = None
    peak_rss_bytes: int | None = None
    engine: EngineFacts
    environment: dict[str, EnvironmentValue]


def save_canary(canary: Canary, path: Path) -> None:
    """Write atomically, sealed with checksums; errors of ``jsonfile.write``."""
    jsonfile.write(path, canary.model_dump(mode="json", by_alias=True))


def load_canary(path: str | Path) -> Canary:
    """Read an outcome; errors as of ``recording.load_recording``."""
    path = Path(path)
    return validated(Canary, jsonfile.read(path, SCHEMA), path)
