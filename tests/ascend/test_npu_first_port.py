"""The first port, end to end, with the small shape: `first_port.py` says what it runs.

The exact shape of BitCPM4-CANN-1B is run by hand: benchmarks/results/first_port.txt.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import first_port
import pytest
from first_port import Step

pytestmark = pytest.mark.ascend
SCRIPT = Path(first_port.__file__)


def content(path: Path) -> Any:
    return json.loads(path.read_text("utf-8"))


@pytest.mark.slow
def test_the_first_port_is_right_and_weights_that_nobody_fused_are_told(
    npu: Any, tmp_path: Path
) -> None:
    work = tmp_path / "work"
    done = subprocess.run(
        [sys.executable, SCRIPT, "--small", "--work", work],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
    assert "WRONG" not in done.stdout
    # What the files say, whatever the script made of what was printed.
    again, latents = (content(work / f"{name}.alignment.json") for name in ("again", "latents"))
    assert again["verdict"] in ("BIT_EXACT", "TOKEN_EXACT", "EQUIVALENT")
    assert latents["verdict"] == "DIVERGENT"
    allowed = latents["comparability"]["allowed"]
    assert "model.weights" in [field["field"] for field in allowed]
    for report in ("npu.html", "again.html", "latents.html"):
        assert (work / report).stat().st_size > 10_000


@pytest.mark.parametrize(
    ("command", "status", "told"),
    [
        ("python -c 'print(1); raise SystemExit(3)'", 0, "1"),  # another status
        ("python -c 'print(1)'", 0, "2"),  # another output
        ("python -c 'import os; os.kill(os.getpid(), 9)'", 0, ""),  # killed
    ],
)
def test_a_command_that_ends_otherwise_ends_the_script(
    tmp_path: Path, command: str, status: int, told: str
) -> None:
    asked = [Step("wrong", command, told, status), Step("never", "python -c 1", "")]
    [done] = first_port.run_all(asked, tmp_path, 1)
    assert not done.well
    assert "WRONG: " in first_port.table([done])


def test_a_run_goes_on_at_a_later_step(tmp_path: Path) -> None:
    asked = [Step(word, f"python -c 'print(\"{word}\")'", word) for word in ("one", "two")]
    earlier = first_port.run_all(asked, tmp_path, 1)
    (tmp_path / "02.json").unlink()
    later = first_port.run_all(asked, tmp_path, 2)
    assert later[0] == earlier[0]
    assert [done.told for done in later] == ["one", "two"]
    assert all(done.well for done in later)


def test_a_long_output_is_shown_by_its_ends_and_without_this_machines_folders() -> None:
    lines = [f"{first_port.ROOT}/build/{number}" for number in range(100)]
    shown = first_port.shortened("\n".join(lines)).splitlines()
    ends = first_port.ENDS
    assert shown[:ends] == [f"build/{number}" for number in range(ends)]
    assert shown[ends] == f"… {100 - 2 * ends} lines …"
    assert shown[ends + 1 :] == [f"build/{number}" for number in range(100 - ends, 100)]
