from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.recording.format import load_recording, save_recording

Command = Callable[..., Any]
FAKE = ("--device", "fake", "--model", "fake")
REFERENCE = "baselines/fake/s/bfloat16/reference.json"


def _plain() -> list[dict[str, list[int]]]:
    return [
        {"prompt_token_ids": list(p.prompt_token_ids), "token_ids": list(p.run.token_ids)}
        for p in load_recording(REFERENCE).prompts
    ]


def _write(content: object) -> str:
    Path("plain.json").write_text(json.dumps(content), "utf-8")
    return "plain.json"


def _record(command: Command, argument: str) -> str:
    ended = command(
        *("record", "--device", "fake", "--suite", "s.yaml", "--out", "c.json"),
        *("--engine-arg", argument),
    )
    assert ended.status == 0
    return "c.json"


def test_a_correct_recording_is_equivalent(command: Command) -> None:
    ended = command("verify", _record(command, "seed=5"), *FAKE)
    assert ended.status == 0
    assert ended.out.startswith("EQUIVALENT: ")


def test_a_recording_with_replays_is_judged_on_its_own_tokens(command: Command) -> None:
    """A free run that left the baseline's tokens was replayed on them; that replay
    follows other tokens than those that are verified."""
    ended = command(
        *("record", "--device", "fake", "--suite", "s.yaml", "--out", "c.json"),
        *("--engine-arg", "seed=9", "--context", Path(REFERENCE).parent.as_posix()),
    )
    assert ended.status == 0
    replayed = [p for p in load_recording("c.json").prompts if p.free and p.forced]
    assert replayed
    ended = command("verify", "c.json", *FAKE)
    assert ended.status == 0, ended.out
    assert ended.out.startswith("EQUIVALENT: ")


def test_the_devices_own_recording_is_bit_exact(command: Command) -> None:
    ended = command("verify", REFERENCE, *FAKE)
    assert ended.status == 0
    assert ended.out.startswith("BIT_EXACT: ")


def test_a_broken_recording_is_divergent(command: Command) -> None:
    ended = command("verify", _record(command, "fault=scale"), *FAKE)
    assert ended.status == 1
    assert ended.out.startswith(("DIVERGENT: ", "DRIFT: "))


def _without_rows(path: str, altered: int = 0) -> str:
    """A recording of a server that gives token ids and no log-probabilities."""
    made = load_recording(path)
    prompts = []
    for p in made.prompts:
        ids = list(p.run.token_ids)
        ids[3] = (ids[3] + altered) % 40_000
        bare = {"text_only": True, "token_ids": tuple(ids), "margins": (), "rows": p.run.rows[:0]}
        prompts.append(p.model_copy(update={"free": p.run.model_copy(update=bare)}))
    save_recording(made.model_copy(update={"prompts": tuple(prompts)}), Path("ids.json"))
    return "ids.json"


def test_tokens_without_rows_are_judged_by_a_forced_pass(command: Command) -> None:
    ended = command("verify", _without_rows(_record(command, "seed=5")), *FAKE)
    assert ended.status == 3
    assert "without logits nothing can be shown to be right" in ended.out
    ended = command("verify", _without_rows("c.json", altered=7), *FAKE)
    assert ended.status == 1
    assert " DIVERGENT at position 3, " in ended.out


def test_the_suite_file_is_not_needed(command: Command) -> None:
    candidate = _record(command, "seed=5")
    Path("s.yaml").unlink()
    assert command("verify", candidate, *FAKE).status == 0


def test_without_controls_nothing_is_shown(command: Command) -> None:
    ended = command("verify", _record(command, "seed=5"), *FAKE, "--no-controls")
    assert ended.status == 3
    assert ended.out.startswith("INCONCLUSIVE: ")
    assert "control-seed" not in ended.err


def test_without_the_oracle_nothing_is_shown(command: Command) -> None:
    ended = command("verify", _record(command, "seed=5"), *FAKE, "--no-oracle")
    assert ended.status == 3
    assert "oracle:" not in ended.err


def test_agreeing_tokens_are_inconclusive(command: Command) -> None:
    ended = command("verify", _write(_plain()), *FAKE, "--json", "a.json", "--report", "r.html")
    assert ended.status == 3
    assert ended.out.startswith("INCONCLUSIVE: ")
    assert "without logits nothing can be shown to be right" in ended.out
    found = json.loads(Path("a.json").read_text("utf-8"))
    assert found["positions"] == 24
    assert "INCONCLUSIVE" in Path("r.html").read_text("utf-8")


def test_altered_tokens_are_divergent(command: Command) -> None:
    plain = _plain()
    plain[1]["token_ids"][3] = (plain[1]["token_ids"][3] + 7) % 40_000
    ended = command("verify", _write(plain), *FAKE)
    assert ended.status == 1
    assert ended.out.startswith("DIVERGENT: ")
    assert "  prompt-2: DIVERGENT at position 3, " in ended.out


def test_other_keys_of_other_tools_are_ignored(command: Command) -> None:
    plain = [{**p, "finish_reason": "length"} for p in _plain()]
    assert command("verify", _write(plain), *FAKE).status == 3


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ([{"token_ids": [1]}], "plain.json: [0].prompt_token_ids: field required"),
        ([{"prompt_token_ids": [1], "token_ids": ["a"]}], "plain.json: [0].token_ids.0: "),
        ([{"prompt_token_ids": [1], "token_ids": [1.5]}], "plain.json: [0].token_ids.0: "),
        ([{"prompt_token_ids": [1], "token_ids": [True]}], "plain.json: [0].token_ids.0: "),
        ([{"prompt_token_ids": [1], "token_ids": [-1]}], "plain.json: [0].token_ids.0: "),
        ([{"prompt_token_ids": [], "token_ids": [1]}], "plain.json: [0].prompt_token_ids: "),
        ([{"prompt_token_ids": [1], "token_ids": []}], "plain.json: [0].token_ids: "),
        (
            [{"prompt_token_ids": [50000], "token_ids": [1]}],
            "plain.json: prompt prompt-1: token id 50000 is outside",
        ),
        ([3], "plain.json: [0]"),
        ({"tokens": []}, "plain.json: is neither a recording nor a list"),
        ("text", "plain.json: is neither a recording nor a list"),
        ({"schema": "harness.recording/9"}, "plain.json: "),
    ],
)
def test_a_malformed_file_is_named_with_its_field(
    command: Command, content: object, told: str
) -> None:
    ended = command("verify", _write(content), *FAKE)
    assert ended.status == 2
    assert ended.error.startswith(told) or told in ended.error


def test_output_tokens_outside_the_vocabulary_are_refused(command: Command) -> None:
    plain = _plain()
    plain[0]["token_ids"][0] = 50_000
    ended = command("verify", _write(plain), *FAKE)
    assert ended.status == 2
    assert "50000" in ended.error


def test_a_prompt_with_one_output_twice_is_refused(command: Command) -> None:
    plain = _plain()
    ended = command("verify", _write([*plain, plain[1]]), *FAKE)
    assert ended.status == 2
    assert ended.error == (
        "plain.json: [4]: holds the same prompt and output as [1], which counts one prompt twice; "
        "remove one"
    )


def test_a_prompt_may_stand_with_several_outputs(command: Command) -> None:
    plain = _plain()
    other = {**plain[1], "token_ids": plain[1]["token_ids"][:3]}
    assert command("verify", _write([*plain, other]), *FAKE).status == 3


def test_an_empty_list_is_never_a_pass(command: Command) -> None:
    ended = command("verify", _write([]), *FAKE)
    assert ended.status == 3
    assert "nothing to judge" in ended.error


def test_a_longer_output_than_the_model_takes_is_refused(command: Command) -> None:
    ended = command("verify", _write([{"prompt_token_ids": [1], "token_ids": [2] * 5000}]), *FAKE)
    assert ended.status == 2
    assert "4096 positions" in ended.error
    assert "leave long outputs out of the file" in ended.error
    assert "max_new_tokens" not in ended.error


def _texts() -> list[dict[str, object]]:
    return [
        {"prompt": p.text, "token_ids": list(p.run.token_ids)}
        for p in load_recording(REFERENCE).prompts
    ]


def test_texts_of_prompts_are_encoded_by_the_models_own_tokenizer(command: Command) -> None:
    ended = command("verify", _write(_texts()), *FAKE)
    assert ended.status == 3
    assert "the model's own tokenizer encoded them" in ended.out
    assert "equal tokens: 4 of 4 prompts (100.0%)" in ended.out
    wrong = _texts()
    tokens = list(wrong[1]["token_ids"])  # type: ignore[call-overload]
    tokens[3] = (tokens[3] + 7) % 40_000
    wrong[1]["token_ids"] = tokens
    assert command("verify", _write(wrong), *FAKE).status == 1


def test_json_lines_are_verified_too(command: Command) -> None:
    Path("plain.jsonl").write_text("\n".join(map(json.dumps, _plain())), "utf-8")
    assert command("verify", "plain.jsonl", *FAKE).status == 3


def test_prompts_in_front_are_told_and_left_out(command: Command) -> None:
    plain = [{**p, "token_ids": [*p["prompt_token_ids"], *p["token_ids"]]} for p in _plain()]
    ended = command("verify", _write(plain), *FAKE)
    assert ended.status == 3
    assert "every output begins with its own prompt" in ended.out
    assert "equal tokens: 4 of 4 prompts (100.0%)" in ended.out


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"prompt": "Hi", "text": "there"}, "plain.json: [0].token_ids: field required"),
        ({"prompt": "", "token_ids": [1]}, "plain.json: [0].prompt: encodes to no token"),
    ],
)
def test_a_text_alone_cannot_be_verified(
    command: Command, entry: dict[str, object], told: str
) -> None:
    ended = command("verify", _write([entry]), *FAKE)
    assert ended.status == 2
    assert told in ended.error
