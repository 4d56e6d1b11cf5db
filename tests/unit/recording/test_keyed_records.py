"""Settings, engine and load of a recording also read by key, as the JSON that they are."""

from __future__ import annotations

import pytest
from factories import fake_record, fake_suite
from pydantic import ValidationError

from harness.devices.facts import EngineFacts
from harness.devices.fake import FakeDevice
from harness.model.settings import GenerationSettings
from harness.recording.recorder import Options

MADE = fake_record(FakeDevice(), fake_suite(prompts=2, tokens=3), Options())


def test_a_value_is_read_by_its_name_in_the_file() -> None:
    assert MADE.settings["max_new_tokens"] == MADE.settings.max_new_tokens == 3
    assert MADE.load["load_s"] == MADE.load.load_s
    assert MADE.engine.get("no_such_fact", "none") == "none"
    with pytest.raises(KeyError):
        MADE.engine["no_such_fact"]


def test_a_copy_takes_a_mapping_and_keeps_the_record() -> None:
    settings = {**MADE.settings, "max_new_tokens": 2}
    changed = MADE.model_copy(update={"settings": settings, "engine": {"threads": 1, "mine": "x"}})
    assert isinstance(changed.settings, GenerationSettings)
    assert changed.settings.max_new_tokens == 2
    assert changed.settings.eos_token_ids == MADE.settings.eos_token_ids
    assert isinstance(changed.engine, EngineFacts)
    assert (changed.engine.threads, changed.engine["mine"]) == (1, "x")
    assert changed.load == MADE.load


def test_a_copy_takes_no_name_that_a_file_could_not_hold() -> None:
    with pytest.raises(ValidationError, match="max_tokens"):
        MADE.model_copy(update={"settings": {**MADE.settings, "max_tokens": 2}})
