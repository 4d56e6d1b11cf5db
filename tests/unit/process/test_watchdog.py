"""What hangs is shown and ended; what is slow but alive is left alone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import DeviceError, UsageError
from harness.process.watchdog import STEP_LIMIT_S, Watchdog, step_limit_s

Command = Callable[..., Any]


def test_a_step_that_hangs_is_interrupted_and_its_stack_is_shown(tmp_path: Path) -> None:
    start = time.monotonic()
    with (tmp_path / "stacks").open("w+") as stream:
        with (
            pytest.raises(DeviceError, match=r"npu: no step was finished within 0\.2 seconds"),
            Watchdog(0.2, "npu", stream=stream),
        ):
            time.sleep(60)
        stream.seek(0)
        assert "test_a_step_that_hangs_is_interrupted" in stream.read()
    assert time.monotonic() - start < 30


def test_a_background_job_that_ignores_interrupts_is_interrupted_too() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with pytest.raises(DeviceError), Watchdog(0.2, "npu"):
            time.sleep(60)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.process
def test_steps_that_go_on_are_left_alone() -> None:
    with Watchdog(2.0, "npu") as watched:
        for _ in range(30):
            time.sleep(0.1)
            watched.beat()


def test_an_interrupt_by_the_user_stays_one() -> None:
    with pytest.raises(KeyboardInterrupt), Watchdog(60.0, "npu"):
        raise KeyboardInterrupt


def test_an_error_of_the_device_stays_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError), Watchdog(60.0, "npu"):
        raise ZeroDivisionError


@pytest.mark.process
@pytest.mark.parametrize("limit", [0.0, 0.1])
def test_no_limit_and_other_threads_watch_nothing(limit: float) -> None:
    seen: list[str] = []

    def work() -> None:
        with Watchdog(limit, "npu"):
            time.sleep(0.5)
            seen.append("done")

    if limit:
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    else:
        work()
    assert seen == ["done"]


def test_no_thread_is_left_behind() -> None:
    before = threading.active_count()
    with Watchdog(60.0, "npu"):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


@pytest.mark.parametrize("text", ["soon", "-1", "inf", "nan"])
def test_a_limit_that_is_no_number_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HARNESS_STEP_LIMIT", text)
    with pytest.raises(UsageError, match="HARNESS_STEP_LIMIT"):
        step_limit_s()


def test_the_limit_is_the_variables_or_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HARNESS_STEP_LIMIT", raising=False)
    assert step_limit_s() == STEP_LIMIT_S
    monkeypatch.setenv("HARNESS_STEP_LIMIT", " 2.5 ")
    assert step_limit_s() == 2.5


@pytest.mark.process
@pytest.mark.parametrize("fault", ["hang", "stuck"])
def test_a_device_that_hangs_ends_the_command_and_keeps_finished_prompts(
    project_folder: Path, fault: str
) -> None:
    """``stuck`` is native code that heeds no signal: the process itself ends."""
    code = (
        "from harness.process import watchdog as w\n"
        "w.Watchdog.__init__.__kwdefaults__['grace_s'] = 1.0\n"
        "from harness.devices.fake import FakeDevice as F; wait = F._wait_for_ever\n"
        "F._wait_for_ever = lambda self: wait(self) if self._runs == 3 else None\n"
        "from harness.cli.main import main; main()"
    )
    arguments = ["record", "--device=fake", "--suite=s.yaml", "--out=a.json"]
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments, f"--engine-arg=fault={fault}"],
        env={**os.environ, "HARNESS_STEP_LIMIT": "2"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    lines = [x for x in ended.stderr.splitlines() if x.startswith("harness: error: ")]
    assert len(lines) == 1
    assert "no step was finished within 2 seconds" in lines[0]
    assert "_wait_for_ever" in ended.stderr  # the stack
    assert Path("a.json.partial").read_bytes().count(b"\n") == 3  # the head and two prompts
    assert not Path("a.json").exists()
