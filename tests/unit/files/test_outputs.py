"""Outputs: no input is lost by one, and no outcome by one that cannot be written."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.cli.outputs import tell_and_write
from harness.errors import HarnessError, UsageError
from harness.files.outputs import check_outputs, refuse_inputs

Command = Callable[..., Any]
BASELINE = "baselines/fake/s/bfloat16"
REFERENCE = f"{BASELINE}/reference.json"


@pytest.fixture
def recording(command: Command) -> Path:
    ended = command("record", "--device", "fake", "--suite", "s.yaml", "--out", "a.json")
    assert ended.status == 0
    return Path("a.json")


@pytest.mark.parametrize(
    "arguments",
    [
        ("compare", "a.json", BASELINE, "--json", "a.json"),
        ("compare", "a.json", BASELINE, "--json", "baselines/../a.json"),
        ("compare", "a.json", BASELINE, "--json", "link.json"),
        ("compare", "link.json", BASELINE, "--json", "a.json"),
        ("compare", "a.json", BASELINE, "--report", "a.json"),
        ("compare", "a.csv", BASELINE, "--table", "a.csv"),
        ("compare", REFERENCE, BASELINE, "--magnify", "a.json", "--json", "a.json"),
        ("compare", "a.json", BASELINE, "--json", REFERENCE),
        ("compare", "a.json", BASELINE, "--report", f"{BASELINE}/new/r.html"),
        ("verify", "a.json", "--device", "fake", "--json", "a.json"),
        ("report", "a.json", "--out", "a.json"),
        ("record", "--device", "fake", "--suite", "s.yaml", "--out", "s.yaml"),
        (
            "record",
            "--device",
            "fake",
            "--suite",
            "s.yaml",
            "--context",
            "a.json",
            "--out",
            "a.json",
        ),
        (
            *("record", "--device", "fake", "--suite", "s.yaml"),
            *("--context", BASELINE, "--out", REFERENCE),
        ),
        ("locate", "--device", "fake", "--suite", "s.yaml", "--json", "s.yaml"),
    ],
)
def test_an_output_in_the_place_of_an_input_is_refused(
    command: Command, recording: Path, arguments: tuple[str, ...]
) -> None:
    Path("link.json").symlink_to("a.json")
    Path("a.csv").write_bytes(recording.read_bytes())
    kept = {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}
    ended = command(*arguments)
    assert ended.status == 2
    assert "name another output" in ended.error
    assert {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()} == kept


def test_outputs_that_replace_each_other_are_refused(command: Command) -> None:
    ended = command("compare", REFERENCE, BASELINE, "--json", "r.md", "--report", "./r.md")
    assert ended.status == 2
    assert ended.error == "r.md: two outputs go to this file; give each its own name"
    assert not Path("r.md").exists()


@pytest.mark.parametrize(
    ("output", "problem"),
    [
        (".", "Is a directory"),
        ("s.yaml/a.json", "Not a directory"),
        ("/proc/x.json", "cannot be written ("),
        ("/proc/new/x.json", "cannot be written ("),
        ("/dev/null", "not a regular file"),
        ("a" * 300, "File name too long"),
    ],
)
def test_a_place_that_takes_no_file_is_said_before_the_work(
    command: Command, output: str, problem: str
) -> None:
    with pytest.raises(UsageError, match="cannot be written") as caught:
        check_outputs([Path(output)])
    assert problem in str(caught.value)
    ended = command("compare", "missing.json", BASELINE, "--json", output)
    assert ended.error.startswith(f"{output}: cannot be written (")


def test_a_folder_that_is_not_there_yet_is_not_made_by_the_check(tmp_path: Path) -> None:
    check_outputs([tmp_path / "new" / "deep" / "a.json", None], [tmp_path / "missing.json", None])
    assert not list(tmp_path.iterdir())


def test_a_loop_of_links_is_no_input(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    refuse_inputs([tmp_path / "loop"], [tmp_path / "other"])
    check_outputs([tmp_path / "loop"], [tmp_path / "loop"])


def test_the_outcome_is_told_although_a_file_cannot_be_written(
    command: Command, recording: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(source: Any, target: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("harness.files.atomic.os.replace", full)
    ended = command("compare", recording, BASELINE, "--json", "j.json")
    assert ended.status == 2
    assert ended.out.startswith("BIT_EXACT: ")
    assert "written: " not in ended.out
    assert ended.error.startswith("j.json: cannot be written (No space left on device)")


def test_a_closed_pipe_takes_no_file_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(_: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("typer.echo", closed)
    with pytest.raises(BrokenPipeError):
        tell_and_write(["a", "b"], {tmp_path / "x": lambda path: path.touch()})
    assert (tmp_path / "x").exists()


def test_files_are_named_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def fail(_: Path) -> None:
        raise HarnessError("no room")

    tell_and_write(["said"], {Path("b"): lambda _: None}, also=[Path("a")])
    assert capsys.readouterr().out == "said\nwritten: a\nwritten: b\n"
    with pytest.raises(HarnessError, match="no room"):
        tell_and_write(["said"], {tmp_path / "b": fail})
    assert capsys.readouterr().out == "said\n"
