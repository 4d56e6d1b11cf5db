"""``--detail`` of the commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.recording.format import load_recording
from harness.statistics.detail import DETAILS

Command = Callable[..., Any]
RECORD = ("record", "--device", "fake", "--suite", "s.yaml", "--engine-arg", "seed=5")
MAKE = ("baseline", "make", "--device", "fake-reference", "--model", "fake", "--suite", "s.yaml")
FOLDER = Path("baselines/fake/s/bfloat16")


@pytest.mark.parametrize("name", list(DETAILS))
def test_it_is_recorded_and_judged_by_the_same_baseline(command: Command, name: str) -> None:
    ended = command(*RECORD, "--out", "a.json", "--detail", name, "--context", FOLDER)
    assert ended.status == 0
    assert load_recording("a.json").detail == DETAILS[name]
    judged = command("compare", "a.json", FOLDER)
    assert judged.status == 0
    assert ("both were judged by 16 and 10" in judged.out + judged.err) == (name == "small")


@pytest.mark.parametrize("name", ["small", "large"])
def test_every_arm_is_made_in_it(command: Command, name: str) -> None:
    assert command(*MAKE, "--detail", name, "--baseline-dir", "other").status == 0
    for arm in Path("other/fake/s/bfloat16").glob("*.json"):
        assert load_recording(arm).detail == DETAILS[name]
    command(*RECORD, "--out", "a.json", "--detail", name, "--context", "other/fake/s/bfloat16")
    judged = command("compare", "a.json", "other/fake/s/bfloat16")
    assert judged.status == 0
    assert judged.out.startswith("EQUIVALENT")
    shown = command("baseline", "show", "other/fake/s/bfloat16")
    assert shown.status == 0


@pytest.mark.parametrize("verb", [RECORD[:1], ("baseline", "make")])
def test_another_word_is_refused_in_one_line(command: Command, verb: tuple[str, ...]) -> None:
    more = ("--out", "a.json") if verb == RECORD[:1] else ()
    ended = command(*verb, "--device", "fake-reference", "--suite", "s.yaml", *more,
                    "--detail", "64")  # fmt: skip
    assert ended.status == 2
    assert "--detail '64' is not one of small, normal, large" in ended.error


@pytest.mark.parametrize("name", ["small", "large"])
def test_of_a_server_it_is_refused(command: Command, name: str) -> None:
    ended = command("record", "--device", "server", "--server-url", "http://localhost:1/v1",
                    "--out", "a.json", "--suite", "s.yaml", "--detail", name)  # fmt: skip
    assert ended.status == 2
    assert "gives its largest log-probabilities only, and keeps them all" in ended.error


def test_shards_of_two_details_are_not_merged(command: Command) -> None:
    for number, name in ((1, "small"), (2, "normal")):
        out = ("--out", f"{number}.json", "--shard", f"{number}/2", "--detail", name)
        assert command(*RECORD, *out).status == 0
    ended = command("merge", "1.json", "2.json", "--out", "whole.json", "--suite", "s.yaml")
    assert ended.status == 2
    assert "2.json: detail is normal, and small in 1.json" in ended.error
