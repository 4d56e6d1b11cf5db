"""Child processes end with the harness, however it ends. Real processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from harness.process import guard as guard_module
from harness.process.child import Child, end_all

pytestmark = [
    pytest.mark.process,
    pytest.mark.skipif(os.name != "posix", reason="process groups are POSIX"),
]

#: Writes its own id and that of a child of its own, and stays.
STAYS = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
with open(sys.argv[1] + ".part", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(sys.argv[1] + ".part", sys.argv[1])
time.sleep(60)
"""
DEAF = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"


Guard = Callable[[str, Path], "subprocess.Popen[bytes]"]


@pytest.fixture
def guard() -> Iterator[Guard]:
    with ExitStack() as stack:

        def start(script: str, file: Path) -> subprocess.Popen[bytes]:
            command = [sys.executable, "-c", script, str(file)]
            return stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-I", guard_module.__file__, "10", *command],
                    stdin=subprocess.PIPE,
                    start_new_session=True,
                )
            )

        yield start


def started(file: Path) -> list[int]:
    deadline = time.monotonic() + 20
    while not file.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return [int(i) for i in file.read_text().split()]


def lives(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def gone(pids: list[int], seconds: float = 15.0) -> bool:
    deadline = time.monotonic() + seconds
    while any(map(lives, pids)) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not any(map(lives, pids))


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "ids"
    yield path
    for pid in started(path) if path.exists() else []:
        if lives(pid):
            os.kill(pid, signal.SIGKILL)


def test_closing_the_pipe_ends_the_command_and_its_children(guard: Guard, file: Path) -> None:
    process = guard(STAYS, file)
    pids = started(file)
    assert all(map(lives, pids))
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(20) != 0
    assert gone(pids)


def test_a_command_that_ignores_sigterm_is_killed(file: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", DEAF + STAYS, str(file)], start_new_session=True
    )
    pids = started(file)
    guard_module.end_group(process, 0.3)
    assert process.wait(5) == -signal.SIGKILL
    assert gone(pids)


def test_children_that_outlive_the_command_are_ended(guard: Guard, file: Path) -> None:
    leaves = STAYS.replace("time.sleep(60)\n", "sys.exit(3)\n")
    process = guard(leaves, file)
    pids = started(file)
    assert process.wait(20) == 3
    assert gone(pids)


def test_sigterm_to_the_guard_ends_all(guard: Guard, file: Path) -> None:
    process = guard(STAYS, file)
    pids = started(file)
    process.send_signal(signal.SIGTERM)
    process.wait(20)
    assert gone(pids)


@pytest.mark.skipif(sys.platform != "linux", reason="the death signal is Linux's")
def test_killing_the_guard_ends_the_command(guard: Guard, file: Path) -> None:
    process = guard(STAYS, file)
    [command, child] = started(file)
    process.kill()
    process.wait(5)
    assert gone([command])
    os.kill(child, signal.SIGKILL)


def test_killing_the_harness_ends_all(file: Path) -> None:
    """The harness, killed so that it can do nothing about it."""
    starts = f"""
import sys, time
from harness.process.child import Child
child = Child([sys.executable, "-c", {STAYS!r}, sys.argv[1]])
time.sleep(60)
"""
    harness = subprocess.Popen([sys.executable, "-c", starts, str(file)])
    pids = started(file)
    harness.kill()
    harness.wait(5)
    assert gone(pids)


def python(code: str, *arguments: str, **options: Any) -> Child:
    return Child([sys.executable, "-c", code, *arguments], **options)


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("raise SystemExit(7)", 7),
        ("import os; os.abort()", -signal.SIGABRT),
        ("import os; os.kill(os.getpid(), 9)", -signal.SIGKILL),
    ],
)
def test_the_status_and_the_signal_are_those_of_the_command(code: str, status: int) -> None:
    with python(code) as child:
        assert child.process.wait(20) == status
    assert child.end() == status


def test_a_child_has_an_empty_input_and_the_pipes_that_it_was_given() -> None:
    read, write = os.pipe()
    code = f"import os, sys; os.write({write}, sys.stdin.buffer.read() + b'said'); print('out')"
    with python(code, pass_fds=(write,), stdout=subprocess.PIPE) as child:
        os.close(write)
        assert child.process.communicate(timeout=20)[0] == b"out\n"
    with os.fdopen(read, "rb") as stream:
        assert stream.read() == b"said"


def test_the_end_of_the_block_ends_the_command_and_its_children(file: Path) -> None:
    with python(STAYS, str(file)) as child:
        pids = started(file)
    assert child.process.returncode == -signal.SIGTERM
    assert gone(pids, 0)


def test_one_thread_can_end_what_another_waits_for(file: Path) -> None:
    with python(STAYS, str(file), stdout=subprocess.PIPE) as child:
        waits = Thread(target=child.process.communicate)
        waits.start()
        pids = started(file)
        end_all()
        waits.join(20)
        assert not waits.is_alive()
    assert gone(pids)


def test_a_program_that_is_not_there_is_an_error_at_once(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("")
    for program, error in (("no-such-program", FileNotFoundError), (tmp_path, PermissionError)):
        with pytest.raises(error):
            Child([str(program)])
    with pytest.raises(PermissionError):
        Child([str(tmp_path / "text")])
