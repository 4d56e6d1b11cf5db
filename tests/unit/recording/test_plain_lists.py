"""Outputs of other tools are read under the names that those tools give them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.errors import EmptyComparison, FormatError
from harness.recording.plain import PlainEntry, load_plain

PROMPT, IDS = "The capital of France is", [42, 7, 42]


def written(tmp_path: Path, content: object, name: str = "a.json") -> Path:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), "utf-8")
    return path


def entries(tmp_path: Path, content: object, name: str = "a.json") -> tuple[PlainEntry, ...]:
    found = load_plain(written(tmp_path, content, name))
    assert found is not None
    return found.entries


@pytest.mark.parametrize(
    "entry",
    [
        {"prompt": PROMPT, "token_ids": IDS},
        {"prompt": PROMPT, "output_token_ids": IDS, "output_tokens": 3},
        {"input": PROMPT, "tokens": IDS},
        {"question": PROMPT, "output": IDS},
        {"prompt": PROMPT, "output_ids": [IDS]},  # a batch of one, as tolist() writes it
        {"prompt": PROMPT, "generated_token_ids": IDS, "generated_text": " Paris"},
        {"prompt": PROMPT, "completion_ids": IDS, "token_ids": None},
        {"prompt": PROMPT, "outputs": [{"index": 0, "text": " Paris", "token_ids": IDS}]},
        {"prompt": PROMPT, "choices": [{"text": " Paris", "token_ids": IDS}], "usage": {}},
        {"prompt": PROMPT, "output": {"token_ids": IDS, "text": " Paris"}},
        {"prompt": {"prompt": PROMPT}, "token_ids": IDS},
    ],
)
def test_token_ids_are_found_under_every_usual_name(tmp_path: Path, entry: dict[str, Any]) -> None:
    (found,) = entries(tmp_path, [entry])
    assert (found.text, found.token_ids) == (PROMPT, tuple(IDS))


@pytest.mark.parametrize(
    "entry",
    [
        {"prompt": PROMPT, "generated_text": " Paris"},
        {"prompt": PROMPT, "output": " Paris"},
        {"prompt": PROMPT, "text": " Paris", "meta_info": {"completion_tokens": 1}},
        {"prompt": PROMPT, "tokens": 1, "completion": " Paris"},
        {"prompt": PROMPT, "choices": [{"message": {"role": "assistant", "content": " Paris"}}]},
        {
            "doc_id": 0,
            "arguments": {"gen_args_0": {"arg_0": PROMPT, "arg_1": {"until": []}}},
            "resps": [[" Paris"]],
            "filtered_resps": ["Paris"],
        },
    ],
)
def test_a_text_is_no_list_of_tokens(tmp_path: Path, entry: dict[str, Any]) -> None:
    (found,) = entries(tmp_path, [entry])
    assert (found.text, found.token_ids, found.output) == (PROMPT, None, " Paris")


@pytest.mark.parametrize(
    "entry",
    [
        {"prompt_token_ids": [1, 2], "token_ids": IDS},
        {"input_ids": [1, 2], "output_ids": IDS, "prompt_tokens": 2},
        {"prompt": [1, 2], "token_ids": IDS},
        {"prompt": {"prompt_token_ids": [1, 2]}, "token_ids": IDS},
        {"prompt_token_ids": [1, 2], "token_ids": [1, 2, *IDS], "output_token_ids": IDS},
    ],
)
def test_prompts_may_be_token_ids(tmp_path: Path, entry: dict[str, Any]) -> None:
    (found,) = entries(tmp_path, [entry])
    assert (found.prompt_token_ids, found.token_ids) == ((1, 2), tuple(IDS))


def test_a_chat_reads_as_a_recording_writes_it(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"}]
    for key in ("messages", "prompt"):
        (found,) = entries(tmp_path, [{key: turns, "token_ids": IDS}])
        assert found.text == "system: Be brief.\nuser: Hi"
        assert found.messages is not None
        assert [turn.role for turn in found.messages] == ["system", "user"]


@pytest.mark.parametrize(
    ("content", "name", "places"),
    [
        ([{"token_ids": IDS}] * 2, "a.json", ["[0]", "[1]"]),
        ({"model": "m", "results": [{"token_ids": IDS}]}, "a.json", ["results[0]"]),
        ({"outputs": [{"token_ids": IDS}]}, "a.json", ["outputs[0]"]),
        ({"results": {"p7": {"token_ids": IDS}}}, "a.json", ["results.p7"]),
        ({"p7": {"token_ids": IDS}, "p8": {"token_ids": IDS}}, "a.json", ["p7", "p8"]),
        ({"prompt": PROMPT, "token_ids": IDS}, "a.json", ["[0]"]),
        ('{"token_ids": [1]}\n\n{"token_ids": [2]}\n', "a.jsonl", [":1", ":3"]),
        ('{"token_ids": [1]}\n{"token_ids": [2]}', "a.json", [":1", ":2"]),
        ('\ufeff[{"token_ids": [1], "logprob": -Infinity, "time": NaN}]', "a.json", ["[0]"]),
        ([IDS, IDS], "a.json", ["[0]", "[1]"]),
    ],
)
def test_a_file_holds_its_entries_in_several_ways(
    tmp_path: Path, content: object, name: str, places: list[str]
) -> None:
    found = entries(tmp_path, content, name)
    assert [entry.where for entry in found] == places
    assert all(entry.token_ids for entry in found)


def test_ids_and_seconds_are_taken_where_they_are(tmp_path: Path) -> None:
    found = entries(
        tmp_path,
        [
            {"id": "a", "token_ids": IDS, "time": 1.5},
            {"index": 0, "token_ids": IDS, "latency": 2},
            {"token_ids": IDS, "time": "2026-01-01"},
            {"token_ids": IDS, "time": 1767225600.0},  # a moment
        ],
    )
    assert [e.id for e in found] == ["a", "0", None, None]
    assert [e.seconds for e in found] == [1.5, 2.0, None, None]


@pytest.mark.parametrize(
    ("content", "name", "told"),
    [
        ([{"token_ids": IDS}, {"token_ids": [1, "x"]}], "a.json", "a.json: [1].token_ids.1: 'x'"),
        ([{"token_ids": [1, -2]}], "a.json", "a.json: [0].token_ids.1: -2 is not a token id"),
        ([{"token_ids": [1, 2**31]}], "a.json", "a.json: [0].token_ids.1: 2147483648"),
        ([{"token_ids": [True]}], "a.json", "a.json: [0].token_ids.0: True"),
        ([{"token_ids": "1 2"}], "a.json", "a.json: [0].token_ids: is not a list"),
        ([{"prompt": PROMPT}], "a.json", "a.json: [0].token_ids: field required"),
        ([{"prompt": PROMPT, "tokens": ["Pa", "ris"]}], "a.json", "tokens holds no token ids"),
        ([{"prompt_token_ids": [], "token_ids": IDS}], "a.json", "[0].prompt_token_ids: is empty"),
        ([{"token_ids": [1], "output_ids": [2]}], "a.json", "holds other tokens than"),
        (
            [{"outputs": [{"token_ids": [1]}, {"token_ids": [2]}]}],
            "a.json",
            "[0].outputs: holds 2 outputs of one prompt",
        ),
        ([{"outputs": [{"token_ids": [None]}]}], "a.json", "[0].outputs[0].token_ids.0: None"),
        ('{"token_ids": [1]}\n{"token_ids": [x]}', "a.jsonl", "a.jsonl:2: is not JSON"),
        ('{"token_ids": [1]}\n{"token_ids": ["x"]}', "a.jsonl", "a.jsonl:2: token_ids.0: 'x'"),
        ([3], "a.json", "a.json: [0]: is not an object"),
        ('[{"token_ids": [1]}', "a.json", "a.json:1: is not JSON"),
    ],
)
def test_what_cannot_be_understood_is_named_with_file_entry_and_field(
    tmp_path: Path, content: object, name: str, told: str
) -> None:
    with pytest.raises(FormatError) as error:
        load_plain(written(tmp_path, content, name))
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_an_empty_list_is_an_empty_comparison(tmp_path: Path) -> None:
    for content in ([], {"results": []}):
        with pytest.raises(EmptyComparison, match="nothing to judge"):
            load_plain(written(tmp_path, content))


@pytest.mark.parametrize("content", [{}, {"schema": "x"}, "3", {"a": 1}, {"tokens": []}, '"text"'])
def test_other_json_is_no_plain_list(tmp_path: Path, content: object) -> None:
    assert load_plain(written(tmp_path, content)) is None
