"""A bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io

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


def test_a_terminal_gets_a_bar_that_is_wiped() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, live=True, clock=clock).stage("x", 4) as step:
        for _ in range(4):
            clock.now += 1
            step()
    text = stream.getvalue()
    assert "x: 2 of 4, 2.0 s left [##########..........]" in text
    assert text.endswith("\r\x1b[Kx: 4 of 4 in 4.0 s\n")


def test_more_steps_than_expected_leave_no_negative_time() -> None:
    stream, clock = io.StringIO(), Clock()
    with Progress(stream, live=True, clock=clock).stage("x", 1) as step:
        for _ in range(3):
            clock.now += 1
            step()
    assert "3 of 1, 0.0 s left [####################]" in stream.getvalue()


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
