"""SIGINT and SIGTERM at every moment: the signal's status, one line, nothing half-written."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.process import signals

pytestmark = pytest.mark.process

RECORD = ("record", "--device=fake", "--suite=s.yaml", "--out=a.json")
COMPARE = ("compare", "c.json", "baselines/fake/s/bfloat16")
REPORTS = ("--json=x.json", "--report=x.html", "--report=x.md", "--table=x.csv")
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}
#: More moments than a quick run tries.
MOMENTS = int(os.environ.get("SIGNAL_MOMENTS", "2"))

# As in a terminal: a background job of a shell would ignore Ctrl-C.
_PRELUDE = """\
import os, signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
NUMBER = int(sys.argv.pop(1))
def stop(): os.kill(os.getpid(), NUMBER)
"""
_COMMAND = "from harness.__main__ import main\nmain()\n"
#: Sends the signal at the N-th call of a Python function; prints how many there were without N.
_COUNTED = """\
AT, calls = int(sys.argv.pop(1)), 0
def count(frame, event, argument):
    global calls
    calls += event == "call"
    if calls == AT and event == "call":
        sys.setprofile(None)
        stop()
def begin():
    sys.setprofile(count)
def told():
    sys.setprofile(None)
    open("calls", "w").write(str(calls))
"""


def _run(code: str, number: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", _PRELUDE + code, str(int(number)), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def _device(body: str) -> str:
    """The command over a fake device of which one method was replaced."""
    return f"import harness.devices.fake as t\nD = t.FakeDevice\n{body}\n{_COMMAND}"


def _one_line(ended: subprocess.CompletedProcess[str], status: int) -> None:
    assert ended.returncode == status, ended.stderr
    assert ended.stderr.count("harness: interrupted") == 1, ended.stderr
    assert "Traceback" not in ended.stderr
    assert "error" not in ended.stderr


#: What happens to a signal inside of a library.
FATES = {
    "plain": "stop()",
    "taken for another error": (
        "try:\n  stop()\n except BaseException as e:\n  raise RuntimeError('lost') from e"
    ),
    "its cause is lost too": (
        "try:\n  stop()\n except BaseException:\n  raise ImportError('half a module') from None"
    ),
    "swallowed": "try:\n  stop()\n except BaseException:\n  pass",
    "in a finalizer": "class X:\n  def __del__(self): stop()\n X(); time.sleep(0.2)",
    "from another thread": (
        "t = threading.Thread(target=stop); t.start(); t.join(); time.sleep(9)"
    ),
    "ends the program": "try:\n  stop()\n except BaseException:\n  sys.exit(3)",
}


@pytest.mark.usefixtures("project_folder")
@pytest.mark.parametrize(
    ("inside", "number"),
    [pytest.param(FATES[f], n, id=f) for f, n in zip(FATES, 4 * tuple(STATUS), strict=False)],
)
def test_what_a_library_makes_of_a_signal_changes_nothing(inside: str, number: int) -> None:
    body = f"def opening(self):\n {inside}\n return opened(self)\nopened, D.open = D.open, opening"
    ended = _run(_device(body), number, *RECORD)
    _one_line(ended, STATUS[signal.Signals(number)])
    assert not Path("a.json").exists()


@pytest.mark.usefixtures("project_folder")
def test_a_device_is_closed_whole_where_the_signals_come_while_it_closes() -> None:
    body = (
        "def closing(self):\n stop(); time.sleep(0.3); stop(); time.sleep(0.1)\n"
        " open('closed', 'w').close()\nD.close = closing"
    )
    _one_line(_run(_device(body), signal.SIGINT, *RECORD), 130)
    assert Path("closed").exists()


@pytest.mark.usefixtures("project_folder")
def test_a_device_that_does_not_close_is_left_at_the_second_signal() -> None:
    body = "def closing(self):\n stop(); time.sleep(1.2); stop(); time.sleep(60)\nD.close = closing"
    _one_line(_run(_device(body), signal.SIGTERM, *RECORD), 143)


@pytest.mark.usefixtures("project_folder")
def test_an_import_is_not_cut_in_two() -> None:
    """Half a module is another error, or a traceback that its C code prints."""
    Path("places").mkdir()
    Path("places/slow.py").write_text(
        "import sys, time\ntry:\n sys.stop(); time.sleep(0.2); sys.whole = True\n"
        "except BaseException:\n sys.stderr.write('Traceback of a library\\n'); raise"
    )
    body = (
        "sys.stop = stop; sys.path.append('places')\n"
        "def opening(self):\n import slow\n time.sleep(9)\nD.open = opening\n"
        "D.close = lambda self: open('whole', 'w').close() if sys.whole else None"
    )
    _one_line(_run(_device(body), signal.SIGINT, *RECORD), 130)
    assert Path("whole").exists()


@pytest.mark.usefixtures("project_folder")
@pytest.mark.parametrize("number", STATUS)
def test_the_doctor_alone_is_stopped_in_one_line(number: int) -> None:
    """It is started without the command, where nothing is installed."""
    code = (
        "import runpy, harness.doctor.command as c\nc.diagnose = lambda *a, **k: stop()\n"
        "sys.argv[:] = ['doctor']\nrunpy.run_module('harness.doctor', run_name='__main__')"
    )
    _one_line(_run(code, number), STATUS[signal.Signals(number)])


@pytest.mark.usefixtures("project_folder")
def test_an_ignored_signal_stays_ignored() -> None:
    """As under ``nohup``, or in the background of a shell."""
    code = f"signal.signal(NUMBER, signal.SIG_IGN)\n{_device('stop()')}"
    assert _run(code, signal.SIGINT, *RECORD).returncode == 0


def _moments(code: str, arguments: tuple[str, ...]) -> list[int]:
    """Calls of functions, evenly spread over a command from its first import on."""
    ended = _run(code, signal.SIGINT, "-1", *arguments)
    assert ended.returncode == 0, ended.stderr + ended.stdout
    calls = int(Path("calls").read_text())
    return [calls * (2 * n + 1) // (2 * MOMENTS) for n in range(MOMENTS)]


@pytest.mark.usefixtures("project_folder")
@pytest.mark.parametrize("arguments", [RECORD, (*COMPARE, *REPORTS)], ids=["record", "compare"])
def test_a_command_that_is_stopped_at_any_call(
    arguments: tuple[str, ...], command: Callable[..., Any]
) -> None:
    assert command(*RECORD[:-1], "--out=c.json").status == 0
    code = f"{_COUNTED}from harness.process import signals\nsignals.install()\nbegin()\n"
    code += f"try:\n exec({_COMMAND!r})\nfinally:\n told()\n"
    before = sorted(Path().iterdir())
    for index, moment in enumerate(_moments(code, arguments)):
        for made in set(Path().iterdir()) - set(before):
            made.unlink()
        number = list(STATUS)[index % 2]
        ended = _run(code, number, str(moment), *arguments)
        _one_line(ended, STATUS[number])
        assert not [p.name for p in Path().iterdir() if p.name.startswith(".")]
        again = _run(code, number, "-1", *arguments)
        assert again.returncode == 0, again.stderr


@pytest.mark.usefixtures("project_folder")
def test_pytest_that_is_stopped_at_any_call() -> None:
    code = f"{_COUNTED}import pytest\nbegin()\ntry:\n status = pytest.main(sys.argv[1:])\n"
    code += "finally:\n told()\nsys.exit(status)"
    arguments = (
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "harness.plugin",
        "--device=fake",
        "--suite=s.yaml",
    )
    for index, moment in enumerate(_moments(code, arguments)):
        number = list(STATUS)[index % 2]
        ended = _run(code, number, str(moment), *arguments)
        assert ended.returncode in (2, -number), (moment, ended.stdout, ended.stderr)
        assert "INTERNALERROR" not in ended.stdout + ended.stderr
        assert "harness/process" not in ended.stderr, ended.stderr
        assert _run(code, number, "-1", *arguments).returncode == 0


def test_a_program_keeps_its_own_handlers() -> None:
    def own(*_: object) -> None: ...

    before = signal.signal(signal.SIGTERM, own)
    try:
        with signals.handling():
            assert signal.getsignal(signal.SIGTERM) is own
    finally:
        signal.signal(signal.SIGTERM, before)
