"""Forced tokens: nothing is made around those of another length, or of other prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
MAKE = ("baseline", "make", "--device", "fake-reference", "--model", "fake", "--suite", "s.yaml")
RECORD = ("record", "--device", "fake", "--suite", "s.yaml")
AROUND = (*MAKE, "--context", "c.json", "--baseline-dir", "other")


@pytest.fixture
def recorded(command: Command) -> Path:
    assert command(*RECORD, "--max-new-tokens", "4", "--out", "c.json").status == 0
    return Path("c.json")


@pytest.mark.parametrize(
    "arguments",
    [
        AROUND,
        (*RECORD, "--replay", "forced-decode", "--context", "c.json", "--out", "f.json"),
        (*RECORD, "--replay", "forced-prefill", "--context", "c.json", "--out", "f.json"),
    ],
)
@pytest.mark.usefixtures("recorded")
def test_tokens_of_another_length_are_refused_before_the_model_is_loaded(
    command: Command, arguments: tuple[str, ...]
) -> None:
    refused = command(*arguments)
    assert refused.status == 2
    assert refused.error == (
        "c.json: max_new_tokens is 4, but this run has 6; give --max-new-tokens 4"
    )
    assert "loading the model" not in refused.err
    assert command(*arguments, "--max-new-tokens", "4").status == 0


@pytest.mark.usefixtures("recorded")
def test_tokens_of_another_end_are_refused(command: Command) -> None:
    file = Path("s.yaml")
    file.write_text(file.read_text("utf-8").replace("ignore_eos: true", "ignore_eos: false"))
    ended = command(*AROUND, "--max-new-tokens", "4")
    assert ended.status == 2
    assert ended.error == (
        "c.json: ignore_eos is true, but this run has false; set ignore_eos to true in s.yaml"
    )


@pytest.mark.usefixtures("recorded")
def test_a_free_run_may_be_longer_than_what_it_follows(command: Command) -> None:
    assert command(*RECORD, "--context", "c.json", "--out", "f.json").status == 0


@pytest.mark.usefixtures("recorded")
def test_a_suite_of_fewer_prompts_may_follow(command: Command) -> None:
    lines = Path("s.yaml").read_text("utf-8").splitlines(keepends=True)
    Path("few.yaml").write_text("".join(lines[:-1]), "utf-8")
    few = ("--suite", "few.yaml", "--max-new-tokens", "4")
    ended = command(*AROUND, *few)
    assert ended.status == 0
    assert "c.json is of another suite than few.yaml (or of more prompts)" in ended.err
    assert command(*RECORD, *few, "--out", "few.json").status == 0
    assert command("compare", "few.json", "other/fake/few/bfloat16").status == 0


@pytest.mark.usefixtures("recorded")
def test_a_suite_of_more_prompts_lacks_tokens(command: Command) -> None:
    with Path("s.yaml").open("a", encoding="utf-8") as file:
        file.write("  - {id: epsilon, text: More}\n")
    ended = command(*AROUND, "--max-new-tokens", "4")
    assert ended.status == 2
    assert "c.json has no prompt epsilon of suite s, so there are no tokens" in ended.error
