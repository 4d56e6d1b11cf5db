"""Routes in the file: kept, checked, and only in the schema that knows them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factories import fake_record, fake_suite
from pydantic import ValidationError

from harness.devices.fake import FakeDevice
from harness.recording.format import (
    ROUTED_SCHEMA,
    SCHEMA,
    Recording,
    load_recording,
    save_recording,
)
from harness.statistics.routes import Routes

SUITE = fake_suite(prompts=2, tokens=3)


def routed(margin: bool = True) -> Recording:
    recording = fake_record(FakeDevice(), SUITE)
    chosen = np.arange(6, dtype=np.uint16).reshape(3, 2) + 60_000
    routes = Routes(chosen, np.full((3, 2), 0.25, np.float32) if margin else None)
    prompts = []
    for prompt in recording.prompts:
        assert prompt.free is not None
        run = prompt.free.model_copy(update={"routes": routes})
        prompts.append(prompt.model_copy(update={"free": run}))
    return recording.model_copy(update={"prompts": tuple(prompts), "schema_": ROUTED_SCHEMA})


@pytest.mark.parametrize("margin", [True, False])
def test_they_come_back_as_they_were(tmp_path: Path, margin: bool) -> None:
    save_recording(routed(margin), tmp_path / "a.json")
    [first, _] = load_recording(tmp_path / "a.json").prompts
    assert first.free is not None
    routes = first.free.routes
    assert routes is not None
    np.testing.assert_array_equal(routes.chosen, np.arange(6).reshape(3, 2) + 60_000)
    assert (routes.margin is not None) == margin


def test_a_recording_without_them_is_written_as_before() -> None:
    recording = fake_record(FakeDevice(), SUITE)
    assert recording.schema_ == SCHEMA
    told = recording.model_dump(mode="json", by_alias=True)
    assert "routes" not in told["prompts"][0]["free"]


def document() -> dict[str, Any]:
    told: dict[str, Any] = json.loads(json.dumps(routed().model_dump(mode="json", by_alias=True)))
    return told


def test_an_older_schema_cannot_hold_them() -> None:
    told = document() | {"schema": SCHEMA}
    with pytest.raises(ValidationError, match="cannot hold routes"):
        Recording.model_validate(told)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"count": 2}, "chosen"),
        ({"layers": 0}, "layers must be an integer of 1"),
        ({"layers": True}, "layers must be an integer"),
        ({"count": 9_000_000, "layers": 9_000_000}, "count times layers"),
        ({"chosen": 7}, "chosen must be a string"),
        ({"margin": "f4 AAAA"}, "margin"),
        ({"more": 1}, "must have the fields"),
    ],
)
def test_what_is_wrong_in_a_file_is_told(change: dict[str, Any], problem: str) -> None:
    told = document()
    told["prompts"][0]["free"]["routes"] |= change
    with pytest.raises(ValidationError, match=problem):
        Recording.model_validate(told)


def test_as_many_rows_of_each() -> None:
    told = document()
    routes = told["prompts"][0]["free"]["routes"]
    told["prompts"][0]["free"]["routes"] = routes | {"count": 1, "layers": 6}
    with pytest.raises(ValidationError, match="fewer routes than rows"):
        Recording.model_validate(told)
