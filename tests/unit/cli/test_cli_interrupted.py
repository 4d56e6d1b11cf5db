"""SIGTERM, Ctrl-C and SIGKILL at every stage: a clear end, nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.process

SLOW = ("--engine-arg=delay=0.1",)
RECORD = ("record", "--device=fake", "--suite=s.yaml", "--out=a.json")
MAKE = ("baseline", "make", "--device=fake-reference", "--suite=s.yaml", "--baseline-dir=b")


def _stopped(arguments: tuple[str, ...], until: Path, number: int) -> tuple[int, str]:
    """The command in a process of its own, sent a signal once ``until`` is there."""
    # As in a terminal: a background job of a shell would ignore Ctrl-C.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "import harness.devices.fake as t; d = t.FakeDevice.open; "
        "t.FakeDevice.open = lambda self: (setattr(self, 'delay', 0.1), d(self))[1]\n"
        "c = t.FakeDevice.close; t.FakeDevice.close = lambda self: (print('closed'), c(self))[1]\n"
        "from harness.cli.main import main; main()"
    )
    command = [sys.executable, "-c", code, *arguments]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        end = time.monotonic() + 60
        while not until.exists():
            assert child.poll() is None, child.communicate()[1]
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(child.pid, number)
        out, err = child.communicate(timeout=60)
    return child.returncode, out + err


@pytest.mark.usefixtures("project_folder")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_stopped_recording_closes_the_device_and_keeps_what_is_finished(
    number: int, status: int
) -> None:
    ended, said = _stopped(RECORD, Path("a.json.partial"), number)
    assert ended == status
    assert "closed" in said
    assert "Traceback" not in said
    assert said.rstrip().splitlines()[-1].startswith("harness: interrupted; ")
    assert Path("a.json.partial").exists()
    assert not Path("a.json").exists()


@pytest.mark.usefixtures("project_folder")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_a_stopped_making_leaves_no_baseline_and_goes_on(number: int) -> None:
    folder = Path("b/fake/s")
    ended, said = _stopped(MAKE, folder / ".bfloat16.making/reference.json", number)
    assert ended == {signal.SIGTERM: 143, signal.SIGINT: 130, signal.SIGKILL: -9}[number]
    assert "Traceback" not in said
    assert not (folder / "bfloat16").exists()
    again = subprocess.run(
        [sys.executable, "-m", "harness", *MAKE], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    assert "reference.json: finished before" in again.stderr
    assert sorted(p.name for p in folder.iterdir()) == ["bfloat16"]


@pytest.mark.usefixtures("project_folder")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_pytest_closes_the_device_and_goes_on(number: int) -> None:
    run = ("-p", "harness.plugin", "--device=fake", "--suite=s.yaml", *SLOW)
    code = (
        "import sys, signal, pytest, harness.devices.fake as t\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "c = t.FakeDevice.close\n"
        "t.FakeDevice.close = lambda s: (open('closed', 'w').close(), c(s))[1]\n"
        "sys.exit(pytest.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", code, *run]
    journal = Path("reports/fake-s-bfloat16-fake.json.partial")
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        end = time.monotonic() + 60
        while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
            assert child.poll() is None, child.communicate()
            assert time.monotonic() < end
            time.sleep(0.01)
        os.kill(child.pid, number)
        out, err = child.communicate(timeout=60)
    assert child.returncode == 2, out + err
    assert Path("closed").exists()  # pytest captures what is printed
    kept = journal.read_bytes().count(b"\n") - 1
    assert kept >= 1
    again = subprocess.run(
        [sys.executable, "-m", "pytest", *run], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stdout
    assert f"going on after {kept} finished runs" in again.stdout + again.stderr
