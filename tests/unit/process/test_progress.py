"""A bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from threading import Thread

import pytest

from harness.errors import DeviceError
from harness.process.progress import LINE_EVERY_S, Progress, Silent, _duration


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_plain_output_is_one_line_every_few_seconds() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, clock=clock).stage("hf-cpu free", 100) as step:
        for _ in range(100):
            clock.now += LINE_EVERY_S / 40
            step()
    lines = stream.getvalue().splitlines()
    assert lines[0] == "hf-cpu free: 100 steps"
    assert lines[1] == "hf-cpu free: 40 of 100, 15.0 s left"
    assert lines[2] == "hf-cpu free: 80 of 100, 5.0 s left"
    assert lines[3] == "hf-cpu free: 100 of 100 in 25.0 s"
    assert len(lines) == 4
    assert "\x1b" not in stream.getvalue()


def drawn(stream: io.StringIO) -> str:
    """What was written, without the codes that move the cursor and colour."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())


def test_a_terminal_gets_a_bar_that_is_wiped() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, live=True, clock=clock).stage("x", 4) as step:
        for _ in range(4):
            clock.now += 1
            step()
    assert re.search(r"x: 2 of 4, 2\.0 s left [━╸]{10}", drawn(stream))
    assert "\x1b[2K" in stream.getvalue()
    assert "\x1b[1A" not in stream.getvalue()
    assert drawn(stream).endswith("x: 4 of 4 in 4.0 s\n")
    assert "\x1b[?25l" not in stream.getvalue()  # the cursor, which a kill would leave hidden


def test_a_terminal_without_utf_8_gets_a_bar_of_ascii() -> None:
    stream, clock = io.TextIOWrapper(io.BytesIO(), encoding="ascii"), Clock()
    with Progress(stream, live=True, clock=clock).stage("x", 4) as step:
        clock.now += 1
        step()
    assert b"x: 1 of 4, 3.0 s left" in stream.buffer.getvalue()  # type: ignore[attr-defined]


def test_a_note_in_a_stage_stands_above_the_bar_as_it_is() -> None:
    stream, clock = io.StringIO(), Clock()
    progress = Progress(stream, live=True, clock=clock)
    with progress.stage("[x]", 4) as step, progress.stage("within", 2) as inner:
        clock.now += 1
        step()
        progress.note("[bold]said\x1b[31m " + "word " * 40)
        inner()
    assert "[x]: 1 of 4, 3.0 s left" in drawn(stream)
    assert f"\n[bold]said\\x1b[31m {'word ' * 40}\n" in drawn(stream).replace("\r", "\n")
    assert "\x1b[31m" not in stream.getvalue()


def test_bytes_are_counted_from_any_thread() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, clock=clock).stage("fusing", 2 << 30, in_bytes=True) as step:
        threads = [Thread(target=lambda: [step(1 << 20) for _ in range(256)]) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        clock.now += LINE_EVERY_S
        step(1 << 30)
    assert stream.getvalue().splitlines() == [
        "fusing: 2.00 GiB",
        "fusing: 2.00 of 2.00 GiB, 0.0 s left",
        "fusing: 2.00 of 2.00 GiB in 10.0 s",
    ]


def test_more_steps_than_expected_leave_no_negative_time() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, live=True, clock=clock).stage("x", 1) as step:
        for _ in range(3):
            clock.now += 1
            step()
    assert "3 of 1, 0.0 s left" in drawn(stream)


def test_rich_is_loaded_only_for_a_bar() -> None:
    code = (
        "import sys, io; from harness.process.progress import Progress\n"
        "with Progress(io.StringIO()).stage('x', 1) as step: step()\n"
        "assert 'rich' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_error_in_a_stage_passes_through() -> None:
    stream = io.StringIO()

    def fail() -> None:
        with Progress(stream, live=True).stage("x", 2) as step:
            step()
            raise DeviceError("the power went")

    with pytest.raises(DeviceError, match="power"):
        fail()
    assert "1 of 2" in stream.getvalue()


def test_silence(capsys: pytest.CaptureFixture[str]) -> None:
    silent = Silent()
    silent.note("text")
    with silent.stage("x", 1) as step:
        step()
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (60, "1 min 00 s"), (3599.6, "60 min 00 s")],
)
def test_durations(seconds: float, text: str) -> None:
    assert _duration(seconds) == text
