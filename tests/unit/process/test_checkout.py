"""The commit of an editable install."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.process import checkout
from harness.process.checkout import commit_of, state_of

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


def git(folder: Path, *arguments: str) -> str:
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    command = ["git", *who, "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "a checkout"
    (made / "package").mkdir(parents=True)
    git(made, "init", "-q")
    (made / "package" / "code.py").write_text("a = 1\n", "utf-8")
    git(made, "add", "-A")
    git(made, "commit", "-q", "-m", "first")
    return made


def test_a_commit_and_whether_a_file_differs_from_it(folder: Path) -> None:
    head = git(folder, "rev-parse", "HEAD")[:12]
    assert state_of(folder) == head
    assert state_of(folder / "package") == head
    (folder / "a recording.json").write_text("{}", "utf-8")  # is nobody's code
    assert state_of(folder) == head
    (folder / "package" / "code.py").write_text("a = 2\n", "utf-8")
    assert state_of(folder) == f"{head}, changed"
    git(folder, "add", "-A")
    assert state_of(folder) == f"{head}, changed"


def test_a_folder_without_a_commit_has_none(tmp_path: Path) -> None:
    assert state_of(tmp_path) is None
    assert state_of(tmp_path / "nothing") is None
    git(tmp_path, "init", "-q")
    assert state_of(tmp_path) is None


def test_nothing_is_written_or_run_there(folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "monitor"
    program.write_text(f"#!/bin/sh\ntouch '{tmp_path}/ran'\n", "utf-8")
    program.chmod(0o755)
    git(folder, "config", "core.fsmonitor", str(program))
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert state_of(folder) is not None
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("told", "known"),
    [
        ({"dir_info": {"editable": True}}, True),
        ({"dir_info": {"editable": False}}, False),
        ({"dir_info": {}}, False),
        ({}, False),
        (None, False),
    ],
)
def test_only_an_editable_install_has_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch, told: dict[str, Any] | None, known: bool
) -> None:
    text = None if told is None else json.dumps({**told, "url": folder.as_uri()})
    monkeypatch.setattr(
        checkout.importlib.metadata,
        "distribution",
        lambda _: SimpleNamespace(read_text=lambda _: text),
    )
    assert (commit_of("x") is not None) is known


@pytest.mark.parametrize("text", ["[", "[]", "{}", '{"dir_info": 1}', '{"url": 7}', "null"])
def test_what_is_no_such_file_is_no_error(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(
        checkout.importlib.metadata,
        "distribution",
        lambda _: SimpleNamespace(read_text=lambda _: text),
    )
    assert commit_of("x") is None


def test_a_package_that_is_not_there_has_none() -> None:
    assert commit_of("no-such-package-at-all") is None
