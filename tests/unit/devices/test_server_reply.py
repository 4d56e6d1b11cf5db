"""What a server says is read as what it should be, or refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fault_server import chunk

from harness.devices.server.reply import (
    MalformedReply,
    error_text,
    prompt_entries,
    read_chunk,
    told_rows,
)
from harness.statistics.rows import NO_TOKEN, TOP_K


def read(content: Any) -> Any:
    return read_chunk(json.dumps(content))


def logprobs(**changes: Any) -> dict[str, Any]:
    content = chunk(0, [5, 6], "x")
    content["choices"][0]["logprobs"] |= changes
    return content


def test_a_chunk_tells_tokens_and_their_log_probabilities() -> None:
    found = read(chunk(0, [5, 6], " five six", "length"))
    assert found.field_ids == found.told_ids == (5, 6)
    assert found.entries == ({5: -0.25, 9: -1.5}, {6: -0.25, 9: -1.5})
    assert (found.text, found.finish, found.prompt_ids) == (" five six", "length", None)


def test_tokens_named_by_their_texts_are_no_ids() -> None:
    content = chunk(0, [5], "x")
    content["choices"][0]["logprobs"] |= {"tokens": [" Paris"], "top_logprobs": [{" Paris": -1.0}]}
    found = read(content)
    assert found.told_ids is None
    assert found.entries is None
    assert found.field_ids == (5,)


def of_content(*tokens: Any) -> Any:
    return read({"choices": [{"text": "x", "logprobs": {"content": list(tokens)}}]})


def test_llama_cpp_tells_ids_in_the_form_of_chat_completions() -> None:
    top = [{"id": 5, "token": "a", "logprob": -0.5}, {"id": 7, "token": "b", "logprob": None}]
    found = of_content({"id": 5, "token": "a", "logprob": -0.5, "top_logprobs": top})
    assert found.told_ids == (5,)
    assert found.entries == ({5: -0.5, 7: None},)
    assert found.field_ids is None
    # Some builds leave the list out, and it may be empty.
    assert of_content({"id": 5, "logprob": -0.5}).entries == ({},)
    assert of_content({"id": 5, "logprob": -0.5, "top_logprobs": []}).entries == ({},)


@pytest.mark.parametrize(
    "content",
    [
        [{"token": "x", "logprob": -0.5, "top_logprobs": [{"token": "x", "logprob": -0.5}]}],
        [{"id": 5, "logprob": -0.5}, {"token": "x", "logprob": -0.5}],
        ["x"],
        "x",
        None,
    ],
)
def test_log_probabilities_of_another_form_are_passed_over(content: Any) -> None:
    """OpenAI's own, for one, has texts only."""
    found = read({"choices": [{"text": "x", "logprobs": {"content": content}}]})
    assert (found.text, found.told_ids, found.entries) == ("x", None, None)


@pytest.mark.parametrize(
    "token",
    [
        {"id": -1},
        {"id": 2**31},
        {"id": "5"},
        {"id": True},
        {"id": 5, "top_logprobs": {"5": -0.5}},
        {"id": 5, "top_logprobs": [{"token": "a", "logprob": -0.5}]},
        {"id": 5, "top_logprobs": [{"id": 5, "logprob": "-0.5"}]},
    ],
)
def test_entries_that_are_not_what_they_should_be_are_refused(token: Any) -> None:
    with pytest.raises(MalformedReply):
        of_content(token)


def test_a_chunk_without_choices_is_passed_over() -> None:
    assert read({"choices": [], "usage": {"total_tokens": 3}}) is None


@pytest.mark.parametrize(
    "content",
    [
        [],
        3,
        {},
        {"choices": {}},
        {"choices": [1]},
        {"choices": [{"text": 3}]},
        {"choices": [{"text": "", "finish_reason": 1}]},
        {"choices": [{"text": ""}, {"text": ""}]},
        {"choices": [{"token_ids": ["5"]}]},
        {"choices": [{"token_ids": [True]}]},
        {"choices": [{"token_ids": [-1]}]},
        {"choices": [{"token_ids": [2**31]}]},
        {"choices": [{"token_ids": 5}]},
        {"choices": [{"prompt_token_ids": [1.5]}]},
        {"choices": [{"logprobs": []}]},
        {"choices": [{"logprobs": {"tokens": [5]}}]},
        logprobs(top_logprobs=[{}]),
        logprobs(top_logprobs=[None, None]),
        logprobs(top_logprobs=[{"token_id:x": -1.0}, {}]),
        logprobs(top_logprobs=[{"token_id:٣": -1.0}, {}]),
        logprobs(top_logprobs=[{" Paris": -1.0}, {}]),
        logprobs(top_logprobs=[{"token_id:1": "-1"}, {}]),
        logprobs(top_logprobs=[{"token_id:1": True}, {}]),
        logprobs(tokens=["token_id:" + "9" * 5000, "token_id:1"]),
        logprobs(tokens=["token_id:-1", "token_id:1"]),
        logprobs(tokens=["token_id:4294967296", "token_id:1"]),
    ],
)
def test_anything_else_is_refused(content: Any) -> None:
    with pytest.raises(MalformedReply):
        read(content)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, '{"choices": ' + "9" * 5000 + "}"])
def test_what_is_no_json_is_refused(text: str) -> None:
    with pytest.raises(MalformedReply):
        read_chunk(text)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"error": {"message": "too long", "type": "x"}}, "too long"),
        ({"error": "too long"}, "too long"),
        ({"object": "error", "message": "too long"}, "too long"),
        ({"detail": [{"msg": "too long"}]}, "too long"),
    ],
)
def test_an_error_of_any_form_is_told(content: dict[str, Any], told: str) -> None:
    assert told in error_text(content)


def test_an_error_inside_a_stream_is_told() -> None:
    with pytest.raises(MalformedReply, match="an error: the engine died"):
        read({"error": {"message": "the engine died"}})


def test_rows_are_sorted_with_ties_to_the_lower_id_and_not_whole() -> None:
    rows = told_rows([{7: -1.0, 3: -1.0, 5: -0.5}, {2: -0.1}], top=20)
    assert rows.top_ids[0, :4].tolist() == [5, 3, 7, NO_TOKEN]
    assert rows.top_logits[0, :4].tolist() == [-0.5, -1.0, -1.0, 0.0]
    assert rows.top_ids[1, :2].tolist() == [2, NO_TOKEN]
    assert not rows.whole
    assert (rows.top_ids.dtype, rows.top_logits.dtype) == (np.int32, np.float32)
    assert rows.logsumexp.tolist() == [0.0, 0.0]


def test_the_chosen_token_beyond_the_ones_asked_for_is_left_out() -> None:
    """It may be of any rank, so it is not the next one."""
    entries = {i: -float(i) for i in range(20)} | {900: -50.0}
    rows = told_rows([entries], top=20)
    assert rows.top_ids[0].tolist() == list(range(20))
    few = told_rows([{1: -1.0, 2: -2.0, 900: -50.0}], top=2)
    assert few.top_ids[0, :3].tolist() == [1, 2, NO_TOKEN]
    assert rows.top_ids.shape == (1, TOP_K)


@pytest.mark.parametrize("value", ["null", "NaN", "-Infinity", "-9999.0", "1e400", "1e39"])
def test_what_is_no_finite_number_counts_as_such(value: str) -> None:
    content = json.dumps(chunk(0, [5], "x")).replace("-1.5", value)
    found = read_chunk(content)
    assert found is not None
    assert found.entries is not None
    rows = told_rows(found.entries, 20)
    assert rows.nonfinite.tolist() == [1]
    assert rows.top_ids[0, :2].tolist() == [5, NO_TOKEN]


def test_the_rows_of_a_prompt_begin_behind_its_first_token() -> None:
    told = {"prompt_logprobs": [None, {"4": {"logprob": -1.0, "rank": 1}, "5": {"logprob": -2.0}}]}
    assert prompt_entries(told, 2) == [{4: -1.0, 5: -2.0}]
    assert prompt_entries({}, 2) is None
    assert prompt_entries(None, 2) is None


@pytest.mark.parametrize(
    "found",
    [
        [None],
        "x",
        [None, 3],
        [None, {"x": {"logprob": -1.0}}],
        [None, {"5": {}}],
        [None, {"5": -1.0}],
        [None, {str(2**31): {"logprob": -1.0}}],
        [None, {"5": {"logprob": "x"}}],
    ],
)
def test_rows_of_a_prompt_of_another_form_are_refused(found: Any) -> None:
    with pytest.raises(MalformedReply):
        prompt_entries({"prompt_logprobs": found}, 2)
