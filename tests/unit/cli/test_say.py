"""Text of a file is never obeyed by a terminal or a CI's log."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.say import say, say_json
from harness.errors import log_line, printable
from harness.recording.format import load_recording, save_recording

Command = Callable[..., Any]
FOLDER = Path("baselines/fake/s/bfloat16")
HOSTILE = (
    "k\x1b]0;OWNED\x07\x9b2J\u202e\r\nBIT_EXACT: equal\n::error file=x.py::forged\u2028##[error]x"
)
OBEYED = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\u2028]|^\s*::|##\[|##vso\[", re.MULTILINE)


@pytest.mark.parametrize(
    "text",
    ["::error::x", "  ::set-output name=a::b", "a ##[error]b", "##vso[task.complete]", HOSTILE],
)
def test_a_line_is_no_command(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    say(text)
    shown = capsys.readouterr().out
    assert shown.count("\n") == 1
    assert not OBEYED.search(shown)
    assert log_line(shown[:-1]) == shown[:-1]


def test_usual_text_stays_as_it_is() -> None:
    for text in ("a: b::c -> ::1 # [x] ##", "  12 % 四 é", r"C:\new", "a\\x3ab", "http://[::1]:80"):
        assert log_line(text) == text == printable(text)


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    value = {HOSTILE: [HOSTILE, "\U000e0001 \ud800 四", 1.5, None]}
    say_json(value)
    shown = capsys.readouterr().out
    assert json.loads(shown) == value
    assert not OBEYED.search(shown)
    assert "四" in shown


@pytest.mark.parametrize("where", ["environment", "device", "dtype", "id", "created", "suite"])
def test_a_recordings_strings_are_only_text(command: Command, where: str) -> None:
    made = load_recording(FOLDER / "reference.json")
    prompt = made.prompts[0]
    changes: dict[str, Any] = {
        "environment": {**made.environment, HOSTILE: HOSTILE},
        "suite": made.suite.model_copy(update={"name": HOSTILE}),
        "id": (prompt.model_copy(update={"id": HOSTILE}), *made.prompts[1:]),
    }
    field = "prompts" if where == "id" else where
    forged = made.model_copy(update={field: changes.get(where, HOSTILE)})
    save_recording(forged, Path("forged.json"))
    for arguments in (
        ("compare", "forged.json", FOLDER),
        ("compare", FOLDER / "control-seed-1.json", "forged.json"),
        ("baseline", "diff", "forged.json", FOLDER),
        ("baseline", "show", "forged.json"),
    ):
        ended = command(*arguments)
        assert not OBEYED.search(ended.out + ended.err)
        assert not re.search(r"^BIT_EXACT: equal", ended.out, re.MULTILINE)


def test_names_of_folders_are_only_text(command: Command) -> None:
    FOLDER.parents[1].rename(FOLDER.parents[2] / "m\x1b[2K\n::error::x")
    for action in ("list", "prune"):
        ended = command("baseline", action)
        assert not OBEYED.search(ended.out + ended.err)


def test_a_log_that_the_doctor_explains_is_only_text(command: Command) -> None:
    log = f"NPU out of memory {HOSTILE}\nRuntimeError: {HOSTILE} NPU out of memory. Tried\n"
    Path("log").write_text(log, "utf-8")
    for more in ((), ("--json",)):
        assert not OBEYED.search(command("doctor", "--log", "log", *more).out)
