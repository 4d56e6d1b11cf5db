"""An engine that dies on an Ascend host, and an NPU that goes first: on the emulated one."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from npu_commands import ROOT, run, well

from harness.recording.format import load_recording

pytestmark = [pytest.mark.ascend, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def model(npu: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import make_tiny

    folder = tmp_path_factory.mktemp("tiny") / "model"
    make_tiny("llama", folder)
    return folder


def asked(model: Path, out: Path) -> list[str]:
    return [
        "harness", "record", "--device", "npu", "--model", str(model), "--suite", "port",
        "--max-new-tokens", "24", "--out", str(out),
    ]  # fmt: skip


def engine_of(session: int) -> int | None:
    """The engine's process in a session that the harness leads."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            same = (entry / "stat").read_text().rpartition(")")[2].split()[3] == str(session)
            if same and b"EngineCore" in (entry / "cmdline").read_bytes():
                return int(entry.name)
        except OSError:
            continue  # gone meanwhile
    return None


def finished_prompts(out: Path) -> int:
    journal = out.with_name(f"{out.name}.partial")
    return max(0, journal.read_bytes().count(b"\n") - 1) if journal.exists() else 0


@pytest.mark.slow
def test_a_killed_engine_is_one_line_and_the_next_run_goes_on(model: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed.json"
    with subprocess.Popen(
        asked(model, out), cwd=ROOT, text=True, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        end = time.monotonic() + 800
        while finished_prompts(out) < 2:
            assert process.poll() is None, "it ended before two prompts were finished"
            assert time.monotonic() < end
            time.sleep(0.02)
        engine = engine_of(process.pid)
        assert engine is not None
        os.kill(engine, signal.SIGKILL)
        _, said = process.communicate(timeout=120)
    kept = finished_prompts(out)
    [line] = [line for line in said.splitlines() if line.startswith("harness: error: ")]
    assert process.returncode == 2
    assert "was ended by SIGKILL" in line
    assert kept >= 2
    assert not out.exists()

    again = well(run(*asked(model, out)))
    assert f"killed.json: going on after {kept} finished runs" in again.stdout + again.stderr
    whole = tmp_path / "whole.json"
    well(run(*asked(model, whole)))
    assert numbers(out) == numbers(whole)


def numbers(recording: Path) -> list[Any]:
    """All of each prompt but how long it took."""
    return [
        prompt.model_dump(mode="json", exclude={"free": {"timings"}})
        for prompt in load_recording(recording).prompts
    ]


@pytest.mark.slow
def test_the_npu_goes_first_and_the_baseline_follows_its_tokens(
    model: Path, tmp_path: Path
) -> None:
    out = tmp_path / "first.json"
    well(run(*asked(model, out)))
    made = run(
        "harness", "baseline", "make", "--device", "hf-cpu", "--model", model, "--suite", "port",
        "--max-new-tokens", "24", "--context", out, "--baseline-dir", tmp_path / "baselines",
    )  # fmt: skip
    well(made)
    [baseline] = (tmp_path / "baselines").glob("*/port/bfloat16")
    done = well(run("harness", "compare", out, baseline))
    assert "EQUIVALENT" in done.stdout
