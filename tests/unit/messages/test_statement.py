"""A message with its English sentence, written to JSON and read again."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from harness.messages.message import message
from harness.messages.statement import Remark, remark, told

FLIPS = message("part.flips", flips=1, positions=24)


def test_the_english_sentence_stands_beside_the_message() -> None:
    found = remark(FLIPS)
    assert found.sentence == "1 of 24 tokens flips"
    assert told(found, "en") == found.sentence
    assert told(found, "zh") == "24 个词元中有 1 个翻转"
    assert Remark.model_validate(found.model_dump(mode="json")) == found


def test_numbers_come_back_as_the_numbers_that_they_were() -> None:
    found = remark(message("times", value=1.0, low=1.0, high=2.0))
    again = Remark.model_validate(found.model_dump(mode="json")).message
    assert again is not None
    assert [type(v) for v in again.values.values()] == [float, float, float]


def test_a_sentence_without_a_message_is_the_same_in_both_languages() -> None:
    old = Remark(sentence="As it was.")
    assert told(old, "zh") == told(old, "en") == "As it was."


@pytest.mark.parametrize("inner", [False, True])
def test_a_message_of_a_newer_version_shows_its_sentence(inner: bool) -> None:
    new: dict[str, Any] = {"key": "new", "values": {"n": 1}}
    found = new if not inner else {"key": "magnifier.not_run", "values": {"reason": new}}
    read = Remark.model_validate({"sentence": "Something new.", "message": found})
    assert told(read, "zh") == "Something new."


@pytest.mark.parametrize(
    "values",
    [{}, {"flips": 1}, {"flips": (), "positions": []}, {"flips": "x" * 9, "positions": None}],
)
def test_values_that_do_not_fit_are_refused(values: dict[str, Any]) -> None:
    document = {"sentence": "x", "message": {"key": "gate.coverage.open", "values": values}}
    with pytest.raises(ValidationError, match="do not fit the message"):
        Remark.model_validate(document)


@pytest.mark.parametrize("value", [True, {"key": "x"}, [1], [["a"]], {}])
def test_a_value_of_another_kind_is_refused(value: Any) -> None:
    document = {"sentence": "x", "message": {"key": "warning.unknown", "values": {"field": value}}}
    with pytest.raises(ValidationError):
        Remark.model_validate(document)


def test_messages_nested_without_end_are_refused() -> None:
    deep: dict[str, Any] = {"key": "magnifier.infinite", "values": {}}
    for _ in range(2000):
        deep = {"key": "magnifier.not_run", "values": {"reason": deep}}
    with pytest.raises(ValidationError):
        Remark.model_validate({"sentence": "x", "message": deep})


def test_a_remark_of_nothing_is_refused() -> None:
    with pytest.raises(ValidationError, match="neither a message nor a sentence"):
        Remark.model_validate({})
