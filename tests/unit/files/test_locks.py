"""Two harnesses never write to one place."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.files.locks import locked_folder

Command = Callable[..., Any]
SLOW = ("--engine-arg", "delay=0.3")


@contextmanager
def _running(*arguments: str, until: Path) -> Iterator[None]:
    """Another process with that command, once ``until`` exists."""
    command = [sys.executable, "-m", "harness", *arguments]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as child:
        try:
            while not until.exists():
                assert child.poll() is None, "ended before it wrote anything"
            yield
        finally:
            child.kill()


@pytest.mark.process
def test_a_second_recording_to_one_file_is_refused_and_harms_nothing(
    command: Command, project_folder: Path
) -> None:
    arguments = ("record", "--device", "fake", "--suite", "s.yaml", "--out", "a.json")
    journal = project_folder / "a.json.partial"
    with _running(*arguments, *SLOW, until=journal):
        before = journal.read_bytes()
        ended = command(*arguments)
        assert ended.status == 2
        assert "a.json.partial: another harness is writing there" in ended.error
        assert journal.read_bytes().startswith(before)
    assert command(*arguments).status == 0  # a killed writer holds no lock


@pytest.mark.process
def test_a_second_making_of_one_baseline_is_refused(command: Command, project_folder: Path) -> None:
    folder = project_folder / "baselines/fake/s/.bfloat16.making"
    folder.mkdir()
    with locked_folder(folder):
        other = subprocess.run(
            [
                *(sys.executable, "-m", "harness", "baseline", "make"),
                *("--device", "fake-reference", "--suite", "s.yaml"),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
    assert other.returncode == 2
    assert "another harness is writing there" in other.stderr
    assert command("baseline", "list").status == 0
    made = command("baseline", "make", "--device", "fake-reference", "--suite", "s.yaml")
    assert made.status == 0, made.err


def test_a_lock_ends_with_its_block(tmp_path: Path) -> None:
    with (
        locked_folder(tmp_path),
        pytest.raises(HarnessError, match="another harness"),
        locked_folder(tmp_path),
    ):
        pass
    with locked_folder(tmp_path):
        pass
