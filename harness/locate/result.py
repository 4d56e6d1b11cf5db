"""Where an error begins: the result of ``harness locate``, as one JSON file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from harness.devices.facts import EngineFacts, EnvironmentValue
from harness.files import jsonfile
from harness.files.strict_model import FROM_LIST, StrictModel, validated
from harness.statistics.intervals import Interval

SCHEMA = "harness.location/1"

#: EQUAL: every bit is the reference's. WITHIN: the noise explains the error.
#: BEYOND: it does not. NONFINITE: NaN or infinite where the oracle is finite.
#: UNJUDGED: the reference itself is not finite there.
PlaceStatus = Literal["EQUAL", "WITHIN", "BEYOND", "NONFINITE", "UNJUDGED"]
FAILING: frozenset[PlaceStatus] = frozenset({"BEYOND", "NONFINITE"})


class Place(StrictModel):
    """The output of one module, over all prompts and positions.

    Attributes:
        name: as in ``harness.devices.trace``.
        layer: the decoder layer, None outside of them.
        error, reference_error: root-mean-square error against the oracle,
            relative to the size of the oracle's output at each position.
        ratio: candidate over reference, with its interval over prompts.
        peak: the same ratio in the one of 64 groups of coordinates where it is
            largest: damage to few coordinates does not show over all of them.
        slope: by how much more than the reference's the output is scaled as a
            whole, 0.01 for 1 %.
        top_k: the ratio among the likeliest tokens; of the head only.
        control: the largest ratio that any control shows here.
        limit, peak_limit, slope_limit: what ``ratio`` and ``top_k``, ``peak``,
            and ``slope`` to either side may reach.
    """

    name: str
    layer: int | None
    status: PlaceStatus
    error: float | None
    reference_error: float | None
    ratio: Interval
    peak: float | None
    slope: Interval
    top_k: Interval | None
    control: float | None
    limit: float
    peak_limit: float
    slope_limit: float


class HandOver(StrictModel):
    """The starting point for another tool.

    Attributes:
        module: the module that the error begins in.
        prompt_id, position: where it shows first, or most; positions count
            from 0 over ``token_ids``.
        step: the decode step that computes this position when the tokens are
            generated; 0 is the prefill of the prompt.
        token_ids: prompt and context tokens; replayed as one prompt, every
            position is computed in step 0.
        msprobe: a config.json for MindStudio's msprobe, for that replay.
    """

    module: str
    prompt_id: str
    position: int
    step: int
    token_ids: list[int]
    msprobe: dict[str, Any]


class Side(StrictModel):
    """One of the two sides: device, model and the settings that decide its bits."""

    device: str
    model: str
    dtype: str
    engine: EngineFacts
    environment: dict[str, EnvironmentValue]


class LocatedPrompt(StrictModel):
    """A prompt that was replayed: how many tokens were its own, and how many in all."""

    id: str
    prompt_tokens: int
    positions: int


class Location(StrictModel):
    """The outcome.

    ``module`` is the block (attention, MLP, norm, layer, embedding, head) whose
    output leaves the noise first in the order of execution, ``place`` the part
    of it that leaves it; both None if every output stays in the noise.
    ``places`` are in that order.
    """

    schema_: str = Field(default=SCHEMA, alias="schema")
    created: str
    module: str | None
    place: str | None
    sentence: str
    places: Annotated[tuple[Place, ...], FROM_LIST]
    hand_over: HandOver | None
    candidate: Side
    reference: Side
    controls: list[str]
    prompts: Annotated[tuple[LocatedPrompt, ...], FROM_LIST]
    warnings: Annotated[tuple[str, ...], FROM_LIST] = ()

    @property
    def positions(self) -> int:
        """How many positions were compared at each place."""
        return sum(p.positions for p in self.prompts)


def save_location(location: Location, path: Path) -> None:
    """Write atomically, sealed with checksums; errors of ``jsonfile.write``."""
    jsonfile.write(path, location.model_dump(mode="json", by_alias=True))


def load_location(path: str | Path) -> Location:
    """Read a location; errors as of ``recording.load_recording``."""
    path = Path(path)
    return validated(Location, jsonfile.read(path, SCHEMA), path)
