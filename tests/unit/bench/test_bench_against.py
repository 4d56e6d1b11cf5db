"""The two sides of a comparison are processes: what becomes of one that does not end."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from harness.bench import against
from harness.devices.spec import DeviceSpec
from harness.process.progress import Silent

#: A Python that answers as the worker does, and sleeps where it should end.
SLOW = """\
#!{python}
import os, sys, time
asked, told = map(int, sys.argv[-2:])
os.read(asked, 1 << 16)
os.write(told, b"{{}}\\n")
open({mark!r}, "w").write(str(os.getpid()))
time.sleep(600)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a script as an interpreter")
def test_a_side_that_does_not_close_is_ended_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mark, python = tmp_path / "mark", tmp_path / "python"
    python.write_text(SLOW.format(python=sys.executable, mark=str(mark)))
    python.chmod(0o755)
    monkeypatch.setattr(against, "CLOSING_S", 0.1)
    side = against.Configuration(DeviceSpec("fake"), str(python))
    plan = SimpleNamespace(suite="s", baseline_dir=tmp_path, judge=False)
    started = time.monotonic()
    with against._worker(side, cast(Any, plan), Silent()):
        measured = True
    assert measured
    assert time.monotonic() - started < 60
    assert not Path(f"/proc/{mark.read_text()}").exists()
