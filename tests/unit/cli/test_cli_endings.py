"""A crash, a full disk and a reader that went away never look like a verdict."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError

Command = Callable[..., Any]
BASELINE = "baselines/fake/s/bfloat16"
DIFF = ("baseline", "diff", BASELINE, BASELINE)
COMPARE = ("compare", f"{BASELINE}/reference.json", BASELINE)


def _raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def compare(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("harness.api.compare", compare)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("a defect\nover lines \x1b[31m"),
        ZeroDivisionError(),
        RecursionError("too deep"),
        AssertionError(),
        KeyError("a"),
        OSError(errno.EIO, "Input/output error", "some file"),
        SystemExit(1),
        SystemExit("of a library"),
        BaseException("a panic in a library's Rust"),
        GeneratorExit(),
    ],
)
def test_a_defect_has_a_status_of_its_own(
    command: Command, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising(error, monkeypatch)
    ended = command(*COMPARE)
    assert ended.status == 70
    assert ended.err.count("\n") == 1
    assert ended.err.startswith("harness: internal error: ")
    assert "--debug" in ended.err
    assert "\x1b" not in ended.err


LONG = "x/" * 3000


@pytest.mark.parametrize(
    "arguments",
    [
        ("baseline", "list", "--baseline-dir", LONG),
        ("baseline", "diff", LONG, BASELINE),
        ("compare", LONG, BASELINE),
        ("compare", COMPARE[1], "y" * 300),
        ("report", LONG, "--out", "r.md"),
        ("checkpoint", "inspect", LONG),
        ("doctor", "--log", "/proc/self/mem"),  # its reading fails, not its opening
        ("verify", LONG, "--device", "fake", "--model", "fake"),
    ],
)
def test_a_name_that_leads_nowhere_is_one_line(
    command: Command, arguments: tuple[str, ...]
) -> None:
    ended = command(*arguments)
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert ended.err.startswith("harness: error: ")


def test_a_folder_that_may_not_be_looked_into_is_one_line(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising(PermissionError(errno.EACCES, "Permission denied", "closed/a"), monkeypatch)
    ended = command(*COMPARE)
    assert ended.status == 2
    assert ended.error.startswith("closed/a: Permission denied")


def test_a_lack_of_memory_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    _raising(MemoryError(), monkeypatch)
    ended = command(*COMPARE)
    assert (ended.status, ended.err.count("\n")) == (70, 1)
    assert "not enough memory" in ended.error


@pytest.mark.parametrize(("error", "status"), [(HarnessError("x"), 2), (ValueError("x"), 70)])
def test_debug_shows_a_traceback_and_the_same_status(
    command: Command, error: Exception, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    _raising(error, monkeypatch)
    ended = command(*COMPARE, "--debug")
    assert ended.status == status
    assert "Traceback (most recent call last)" in ended.err


@pytest.mark.parametrize(
    ("code", "status", "said"),
    [(errno.EPIPE, 141, ""), (errno.ENOSPC, 70, "the output cannot be written")],
)
@pytest.mark.parametrize("arguments", [DIFF, ("--help",), ("baseline", "list")])
def test_output_that_does_not_arrive(
    command: Command,
    arguments: tuple[str, ...],
    code: int,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(_text: str) -> int:
        raise OSError(code, os.strerror(code))

    command("--version")
    monkeypatch.setattr(sys.stdout, "write", broken)
    ended = command(*arguments)
    assert ended.status == status
    assert said in ended.err
    assert ended.err.count("\n") <= 1


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="shells of POSIX")
@pytest.mark.parametrize("arguments", [DIFF, ("--help",), ("baseline", "list")])
@pytest.mark.parametrize(
    ("shell", "statuses"),
    [
        ('( "$@"; echo $? >status ) 2>err | true', {141}),
        ('"$@" >/dev/full 2>err; echo $? >status', {70}),
        ('"$@" >&- 2>err; echo $? >status', {0}),
        ('"$@" >out 2>&-; echo $? >status', {0}),
        ('"$@" >&- 2>&- <&-; echo $? >status', {0}),
    ],
)
def test_streams_of_a_shell(
    project_folder: Path, arguments: tuple[str, ...], shell: str, statuses: set[int]
) -> None:
    command = [sys.executable, "-m", "harness", *arguments]
    subprocess.run(["bash", "-c", shell, "bash", *command], check=True)
    said = Path("err").read_text() if Path("err").exists() else ""
    assert "Traceback" not in said
    assert "Exception ignored" not in said
    assert int(Path("status").read_text()) in statuses


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="shells of POSIX")
@pytest.mark.parametrize(
    ("shell", "status"),
    [("| true", 141), (">/dev/full", 70)],
)
def test_the_doctor_ends_alike(project_folder: Path, shell: str, status: int) -> None:
    line = f'( "$@" --log /dev/null 2>err; echo $? >status ) {shell}'
    if "|" not in shell:
        line = f'"$@" --log /dev/null 2>err {shell}; echo $? >status'
    command = [sys.executable, "-m", "harness", "doctor"]
    subprocess.run(["bash", "-c", line, "bash", *command], check=True)
    assert int(Path("status").read_text()) == status
    assert "Traceback" not in Path("err").read_text()


@pytest.mark.process
@pytest.mark.skipif(sys.platform == "win32", reason="shells of POSIX")
def test_a_closed_stream_does_not_end_in_a_file(project_folder: Path) -> None:
    """The first file that is opened gets the lowest number that is free."""
    code = (
        "import os\nfrom harness.cli import main\n"
        "main.open_standard_streams()\nprint(os.open('f', os.O_CREAT | os.O_WRONLY), flush=True)"
    )
    for closed in (">&-", "2>&-", "<&-", ">&- 2>&- <&-"):
        command = ["bash", "-c", f'"$@" {closed}', "bash", sys.executable, "-c", code]
        subprocess.run(command, check=False)
        assert Path("f").read_bytes() == b""


def test_ctrl_c_during_the_imports_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("import os\nos.kill(os.getpid(), 2)\n")
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    ended = subprocess.run(
        [sys.executable, "-m", "harness", "--help"],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
        # As in a terminal: a background job of a shell would ignore Ctrl-C.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (ended.returncode, ended.stderr) == (130, "harness: interrupted\n")
