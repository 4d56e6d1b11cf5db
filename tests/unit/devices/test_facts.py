"""What a device says of its engine and of its load, and how a file holds it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from harness.devices.facts import EngineFacts, LoadFigures


def test_what_is_not_known_is_left_out_of_the_file() -> None:
    load = LoadFigures(load_s=2.0, weights_s=0.5)
    assert load.model_dump(mode="json") == {"load_s": 2.0, "weights_s": 0.5}
    assert LoadFigures().model_dump(mode="json") == {}
    assert LoadFigures.model_validate({"load_s": 2.0, "weights_s": 0.5}) == load


@pytest.mark.parametrize("name", ["load_weights_s", "load_compile_s", "weights", "tokens"])
def test_a_figure_of_another_name_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValidationError) as caught:
        LoadFigures.model_validate({"load_s": 2.0, name: 1.0})
    assert [error["loc"] for error in caught.value.errors()] == [(name,)]


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 1e10, "1", True])
def test_a_duration_is_a_number_of_seconds(value: object) -> None:
    with pytest.raises(ValidationError):
        LoadFigures.model_validate({"load_s": value})


def test_facts_of_the_device_stand_in_the_same_object() -> None:
    engine = EngineFacts(device="cpu", threads=2).with_facts({"seed": 3, "quantization": None})
    written = engine.model_dump(mode="json")
    assert written == engine.told() == {"device": "cpu", "threads": 2, "seed": 3}
    assert list(written) == ["device", "threads", "seed"]
    assert engine.facts == {"seed": 3}
    assert EngineFacts.model_validate(written) == engine
    assert EngineFacts(device="cpu", threads=2) != engine


def test_facts_are_added_to_those_that_are_there() -> None:
    engine = EngineFacts(threads=2).with_facts({"seed": 3}).with_facts({"url": "http://a"})
    assert engine.told() == {"threads": 2, "seed": 3, "url": "http://a"}


def test_a_field_cannot_be_given_as_a_fact() -> None:
    """It would be read by nobody's type checker."""
    with pytest.raises(ValueError, match="threads is a field of EngineFacts"):
        EngineFacts().with_facts({"threads": 2})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("threads", "2"),
        ("threads", True),
        ("threads", -1),
        ("enforce_eager", 1),
        ("block_size", 16.0),
        ("attention", 3),
        ("a_fact", [1]),
        ("a_fact", {}),
    ],
)
def test_a_field_or_fact_of_another_type_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValidationError) as caught:
        EngineFacts.model_validate({name: value})
    assert caught.value.errors()[0]["loc"][0] == name
