"""What goes wrong with a real engine: one clear line, finished prompts kept, nothing left."""

from __future__ import annotations

import importlib.util
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from harness.model.model import Model
from harness.recording.format import load_recording

pytestmark = pytest.mark.engine
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)

SUITE = """\
generation: {max_new_tokens: 48, ignore_eos: true}
prompts:
""" + "".join(
    f"  - {{id: p{i}, text: 'Count from {i} to ten, one after another:'}}\n" for i in range(8)
)


#: Bytes of address space: enough for vLLM and the model, not for the cache on top.
ADDRESSES = 6 << 30


def until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


@dataclass
class Run:
    """``harness record`` in a session of its own, which all its descendants share."""

    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def processes(self) -> list[int]:
        """Every living process of this run, orphans included."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # gone meanwhile
                # After the name in brackets: state, parent, group, session.
                state, _, _, session = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if int(session) == self.process.pid and state != "Z":
                    found.append(int(entry.name))
        return found

    def engine_process(self) -> int:
        """The process that vLLM started for its engine."""
        for pid in self.processes:
            if b"EngineCore" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        raise AssertionError("the engine has no process of its own")

    def finished_prompts(self) -> int:
        journal = self.folder / "a.json.partial"
        return journal.read_bytes().count(b"\n") - 1 if journal.exists() else 0

    def rows(self) -> list[Path]:
        return list((self.folder / "tmp").glob("harness-rows-*"))

    def wait(self, seconds: float = 180) -> tuple[int, str]:
        """The exit status and the standard error."""
        status = self.process.wait(seconds)
        return status, (self.folder / "stderr").read_text("utf-8", "replace")

    def error(self, seconds: float = 180) -> str:
        """The one line of a failed command; a warning about a killed engine may follow."""
        status, text = self.wait(seconds)
        lines = [line for line in text.splitlines() if line.startswith("harness: error: ")]
        assert (status, len(lines)) == (2, 1), text
        assert "Traceback (most recent call last)" not in text.partition(lines[0])[2]
        assert until(lambda: not self.processes, 15), self.processes
        assert not self.rows()
        return lines[0].removeprefix("harness: error: ")


@pytest.fixture
def start(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[..., Run]:
    """Start ``harness record --device vllm-cpu ARGUMENTS`` in the test's folder."""
    (tmp_path / "s.yaml").write_text(SUITE, "utf-8")
    (tmp_path / "tmp").mkdir()

    def make(*arguments: str, own_process: bool = False) -> Run:
        environment = {
            **os.environ,
            "TMPDIR": str(tmp_path / "tmp"),
            "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if own_process else "0",
        }
        command = [sys.executable, "-m", "harness", "record", "--device", "vllm-cpu"]
        with open(tmp_path / "stderr", "wb") as errors:
            process = subprocess.Popen(
                [*command, "--suite", "s.yaml", "--out", "a.json", *arguments],
                cwd=tmp_path,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        run = Run(tmp_path, process)
        request.addfinalizer(lambda: [os.kill(pid, signal.SIGKILL) for pid in run.processes])
        return run

    return make


@pytest.mark.slow
def test_death_of_harness_or_engine_loses_no_finished_prompt(start: Callable[..., Run]) -> None:
    """SIGKILL for the harness, then for the engine's process; the third run finishes."""
    first = start(own_process=True)
    assert until(lambda: first.finished_prompts() >= 2, 180), first.wait(1)
    engine = first.engine_process()
    os.kill(first.process.pid, signal.SIGKILL)
    first.process.wait()
    assert until(lambda: not Path(f"/proc/{engine}").exists(), 15)
    assert until(lambda: not first.processes, 15)
    [left] = first.rows()

    second = start(own_process=True)
    assert until(lambda: second.finished_prompts() >= 4, 180), second.wait(1)
    assert not left.exists()
    os.kill(second.engine_process(), signal.SIGKILL)
    told = second.error(60)
    assert re.match(r"vllm-cpu: (the engine failed on p\d|prompt 'p\d' was refused: )", told)
    assert "was ended by SIGKILL" in told
    kept = second.finished_prompts()
    assert 4 <= kept < 8

    third = start(own_process=True)
    status, text = third.wait()
    assert status == 0, text
    assert f"a.json: going on after {kept} finished runs" in text
    recording = load_recording(third.folder / "a.json")
    assert [len(p.run.token_ids) for p in recording.prompts] == [48] * 8
    assert not third.processes
    assert not third.rows()


@pytest.mark.slow
@pytest.mark.parametrize("own_process", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_a_cache_larger_than_memory_is_refused_in_one_line(
    start: Callable[..., Run], own_process: bool
) -> None:
    run = start("--engine-arg", "kv_cache_memory_bytes=100T", own_process=own_process)
    told = run.error()
    assert "does not start with the model 'smollm2' in bfloat16" in told
    assert "GiB" in told
    assert "memory" in told


@pytest.mark.slow
@pytest.mark.parametrize("own_process", [False, pytest.param(True, marks=pytest.mark.nightly)])
def test_memory_that_the_system_refuses_is_told_in_one_line(
    start: Callable[..., Run], own_process: bool
) -> None:
    """vLLM finds that the host has room; the allocation itself fails."""
    run = start("--engine-arg", "kv_cache_memory_bytes=8G", own_process=own_process)
    resource.prlimit(run.process.pid, resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    told = run.error()
    assert "does not start with the model 'smollm2' in bfloat16" in told
    assert "memory" in told


@pytest.mark.slow
def test_a_length_below_the_prompts_is_told_in_one_line(start: Callable[..., Run]) -> None:
    told = start("--engine-arg", "max_model_len=16").error()
    assert "s.yaml:3: prompt p0" in told
    assert "the 16 positions" in told


def test_a_model_without_a_tokenizer_is_told_in_one_line(
    start: Callable[..., Run], embedded_model: Model, tmp_path: Path
) -> None:
    bare = tmp_path / "bare"
    shutil.copytree(
        embedded_model.path,
        bare,
        ignore=shutil.ignore_patterns("token*", "*vocab*", "merges*", "*token*"),
    )
    told = start("--model", str(bare)).error()
    assert "bare" in told
    assert "tokenizer" in told
