"""A recording that SIGKILL ends goes on where it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.process

Command = Callable[..., Any]
SUITE = ("--suite", "s.yaml")
BASELINE = "baselines/fake/s/bfloat16"


def _killed_after_two_prompts(folder: Path, arguments: list[str]) -> None:
    """Start the command, and SIGKILL it once its journal holds two runs."""
    process = subprocess.Popen(
        arguments, cwd=folder, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    journal = folder / "a.json.partial"
    until = time.monotonic() + 60
    try:
        while not journal.exists() or journal.read_bytes().count(b"\n") < 3:
            assert process.poll() is None, "ended before it could be killed"
            assert time.monotonic() < until
            time.sleep(0.01)
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert not (folder / "a.json").exists()


def test_a_killed_recording_goes_on_to_the_same_file(
    command: Command, project_folder: Path
) -> None:
    arguments = [
        *("record", "--device", "fake", *SUITE, "--out", "a.json"),
        *("--engine-arg", "delay=0.03", "--context", BASELINE, "--engine-arg", "seed=4"),
    ]
    _killed_after_two_prompts(project_folder, [sys.executable, "-m", "harness", *arguments])
    ended = command(*arguments)
    assert ended.status == 0
    assert "a.json: going on after 2 finished runs" in ended.err
    assert not (project_folder / "a.json.partial").exists()
    arguments[arguments.index("a.json")] = "whole.json"
    assert command(*arguments).status == 0
    files = [project_folder / name for name in ("a.json", "whole.json")]
    first, second = (_without_times(json.loads(f.read_text("utf-8"))) for f in files)
    assert first == second


def test_a_killed_recording_is_not_continued_by_another_command(
    command: Command, project_folder: Path
) -> None:
    arguments = ["record", "--device", "fake", *SUITE, "--out", "a.json"]
    slow = [*arguments, "--engine-arg", "delay=0.03"]
    _killed_after_two_prompts(project_folder, [sys.executable, "-m", "harness", *slow])
    ended = command(*arguments, "--engine-arg", "seed=3")
    assert ended.status == 0
    assert "going on" not in ended.err


def _without_times(value: Any) -> Any:
    """A recording apart from when and how long."""
    if isinstance(value, dict):
        volatile = {"created", "load", "timings", "checksum", "checksums"}
        return {k: _without_times(v) for k, v in value.items() if k not in volatile}
    return [_without_times(v) for v in value] if isinstance(value, list) else value
