"""The same files give the same reports, whatever surrounds the process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.recording.format import load_recording

Command = Callable[..., Any]
RECORD = ("record", "--device", "fake", "--suite")
BASELINE = "baselines/fake/s/bfloat16"


def _run(environment: Mapping[str, str], *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """The command in a process with that environment and the path, nothing else."""
    needed = {k: os.environ[k] for k in ("PATH", "PYTHONPATH") if k in os.environ}
    return subprocess.run(
        [sys.executable, "-m", "harness", *arguments],
        env={**needed, **environment},
        capture_output=True,
        check=False,
    )


@pytest.mark.process
@pytest.mark.parametrize(
    "environment",
    [
        {},  # no HOME, no locale, no terminal
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
        {"TZ": "Asia/Shanghai", "PYTHONHASHSEED": "1"},
        {"TZ": "America/St_Johns", "PYTHONHASHSEED": "4242"},
        {"HOME": "/nowhere", "TMPDIR": "/nowhere", "COLUMNS": "20", "NO_COLOR": "1"},
        {"PYTHONOPTIMIZE": "2"},
    ],
)
def test_the_surroundings_change_no_verdict_and_no_byte_of_a_report(
    command: Command, project_folder: Path, environment: dict[str, str]
) -> None:
    assert command(*RECORD, "s.yaml", "--engine-arg", "seed=9", "--out", "a.json").status == 0
    judged = command("compare", "a.json", BASELINE, "--json", "x.json")
    reports = ("report", "x.json", "--out")
    assert command(*reports, "here.html", "--lang", "en").status == 0
    assert command(*reports, "here.md", "--lang", "en").status == 0

    recorded = _run(environment, *RECORD, "s.yaml", "--engine-arg", "seed=9", "--out", "b.json")
    assert recorded.returncode == 0, recorded.stderr
    rows = [
        load_recording(name).prompts[3].run.rows.digest.tolist() for name in ("a.json", "b.json")
    ]
    assert rows[0] == rows[1]
    ended = _run(environment, "compare", "b.json", BASELINE)
    assert ended.returncode == judged.status
    assert ended.stdout.split(b":")[0].decode() == judged.out.split(":")[0]
    for suffix in (".html", ".md"):
        assert _run(environment, *reports, f"there{suffix}", "--lang", "en").returncode == 0
        assert Path(f"there{suffix}").read_bytes() == Path(f"here{suffix}").read_bytes()


@pytest.mark.parametrize("name", ["mit Leerzeichen", "北京 🧪", "a'b\"c$(d);e", "-x", "%s{0}"])
def test_strange_file_names_are_only_names(
    command: Command, project_folder: Path, name: str
) -> None:
    folder = project_folder / name
    folder.mkdir()
    suite = shutil.copy("s.yaml", folder / "s.yaml")
    recording, page = folder / f"{name}.json", folder / f"{name}.html"
    for _ in range(2):  # the second finds the first's files
        assert command(*RECORD, suite, "--out", recording).status == 0
    other = folder / f"{name} again.json"
    assert command(*RECORD, suite, "--out", other).status == 0
    ended = command(
        "compare", recording, other, "--report", page, "--json", folder / "x.json",
        "--table", folder / "t.csv",
    )  # fmt: skip
    assert ended.status == 0, ended.err
    assert page.stat().st_size > 1000
    assert command("report", folder / "x.json", "--out", folder / "y.md").status == 0


def test_a_clock_that_jumps_makes_no_negative_time(
    command: Command, project_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = time.time, iter(range(10_000))
    monkeypatch.setattr(time, "time", lambda: real() + (-1e9 if next(calls) % 2 else 1e8))
    assert command(*RECORD, "s.yaml", "--out", "a.json").status == 0
    for prompt in load_recording("a.json").prompts:
        timings = prompt.run.timings
        assert 0 <= timings.ttft_s <= timings.e2e_s < 60
        assert all(0 <= gap < 60 for gap in timings.itl_s)


def test_a_suite_of_one_prompt_gives_no_silent_pass(command: Command, project_folder: Path) -> None:
    Path("one.yaml").write_text(
        "generation: {max_new_tokens: 4}\nprompts: [{id: only, text: Hello}]\n", "utf-8"
    )
    made = command("baseline", "make", "--device", "fake-reference", "--suite", "one.yaml")
    assert made.status == 0, made.err
    assert command(*RECORD, "one.yaml", "--engine-arg", "seed=9", "--out", "a.json").status == 0
    ended = command("compare", "a.json", "baselines/fake/one/bfloat16")
    assert ended.status == 3
    assert ended.out.startswith("INCONCLUSIVE: ")


@pytest.mark.slow
def test_a_thousand_prompts_are_recorded_and_judged(command: Command, project_folder: Path) -> None:
    lines = [f"  - {{id: p{i}, token_ids: [{i % 30000 + 1}, 7]}}" for i in range(1000)]
    text = "generation: {max_new_tokens: 1, ignore_eos: true}\nprompts:\n" + "\n".join(lines)
    Path("many.yaml").write_text(text, "utf-8")
    for out in ("a.json", "b.json"):
        assert command(*RECORD, "many.yaml", "--out", out).status == 0
    ended = command("compare", "b.json", "a.json", "--report", "a.html", "--report", "a.md")
    assert ended.status == 0, ended.err
    assert Path("a.html").stat().st_size < 5_000_000
    assert Path("a.md").stat().st_size < 65_536 * 4
