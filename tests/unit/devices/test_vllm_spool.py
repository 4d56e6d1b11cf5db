from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.devices.vllm import spool as spools
from harness.devices.vllm.bring import FileKeeper, bring
from harness.devices.vllm.spool import (
    Spool,
    join_host,
    leave_cause,
    leave_host,
    leave_shared,
    on_another_host,
)

if sys.platform == "win32":
    pytest.skip("vLLM does not run on Windows", allow_module_level=True)

OWNER = """\
import sys, time
from harness.devices.vllm.spool import Spool
print(Spool().folder, flush=True)
time.sleep(60)
"""
ENGINE = """\
import time
from harness.devices.vllm.spool import end_with_owner
end_with_owner()
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _own_temporary_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[3]))
    monkeypatch.setenv("HARNESS_ROWS", "")  # so that what a spool puts there is taken back
    monkeypatch.delenv("HARNESS_ROWS")


def child(code: str, **variables: str) -> tuple[subprocess.Popen[str], str]:
    """A process that runs the code, and the first line that it prints."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **variables},
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.fixture
def owner() -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """Another process with a folder of its own."""
    process, line = child(OWNER)
    yield process, Path(line)
    process.kill()
    process.communicate()


def test_a_folder_is_private_and_goes_with_its_owner(tmp_path: Path) -> None:
    spool = Spool()
    assert spool.folder.parent == tmp_path
    assert spool.folder.stat().st_mode & 0o777 == 0o700
    assert os.environ["HARNESS_ROWS"] == str(spool.folder)
    spool.close()
    assert not spool.folder.exists()


@pytest.mark.process
def test_what_a_killed_run_left_is_removed_at_the_next_start(
    owner: tuple[subprocess.Popen[str], Path],
) -> None:
    process, folder = owner
    mine = Spool()
    assert folder.exists()  # its owner lives
    process.send_signal(signal.SIGKILL)
    process.wait()
    second = Spool()
    assert not folder.exists()
    assert mine.folder.exists()  # of this process, which has two
    mine.close()
    second.close()


@pytest.mark.process
def test_a_living_folder_survives_the_sweeps_of_others(
    owner: tuple[subprocess.Popen[str], Path],
) -> None:
    """A sweep that looked must not have taken the lock away."""
    _, folder = owner
    for _ in range(2):
        Spool().close()
        process, _ = child(OWNER)
        process.kill()
        process.communicate()
    assert folder.exists()


def test_a_folder_that_is_just_being_made_is_left_alone(tmp_path: Path) -> None:
    young, old = tmp_path / "harness-rows-young", tmp_path / "harness-rows-old"
    young.mkdir()
    old.mkdir()
    os.utime(old, (1, 1))
    (tmp_path / "harness-else").mkdir()
    Spool().close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["harness-else", "harness-rows-young"]


@pytest.mark.process
def test_a_process_of_the_engine_ends_with_its_owner(
    owner: tuple[subprocess.Popen[str], Path],
) -> None:
    process, folder = owner
    engine, line = child(ENGINE, HARNESS_ROWS=str(folder))
    assert line == "up"
    time.sleep(1.5)
    assert engine.poll() is None
    process.kill()
    process.wait()
    assert engine.wait(10) == -signal.SIGKILL
    engine.communicate()


@pytest.mark.process
@pytest.mark.parametrize("folder", [None, "own"])
def test_a_process_without_another_owner_goes_on(folder: str | None) -> None:
    code = f"""\
import time
from harness.devices.vllm.spool import Spool, end_with_owner
spool = Spool() if {folder!r} else None
end_with_owner()
time.sleep(1.5)
print("alive")
if spool: spool.close()
"""
    process, line = child(code)
    assert (line, process.wait(10)) == ("alive", 0)
    process.communicate()


def test_the_first_cause_that_a_process_left_counts() -> None:
    spool = Spool()
    assert spool.cause() is None
    leave_cause("MemoryError: no room")
    leave_cause("EngineDeadError: see above")
    assert spool.cause() == "MemoryError: no room"
    spool.close()


def test_shared_memory_of_an_engine_is_removed_with_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = tmp_path / "shm"
    memory.mkdir()
    monkeypatch.setattr(spools, "_MEMORY", memory)
    spool = Spool()
    leave_shared("vllm_dist_1")
    leave_shared("../../other")  # not a name
    leave_shared(None)
    ours = [memory / f"vllm_dist_1-tp:0-[0-1]-cpushm_{rank}" for rank in (0, 1)]
    others = [memory / "vllm_dist_12-tp:0-[0-1]-cpushm_0", memory / "vllm_dist_1-other"]
    for file in (*ours, *others, tmp_path / "vllm_dist_1"):
        file.touch()
    spool.close()
    assert sorted(memory.iterdir()) == sorted(others)
    assert not (tmp_path / "vllm_dist_1").exists()


def test_a_worker_on_another_host_has_a_folder_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "harness-rows-elsewhere"
    monkeypatch.setenv("HARNESS_ROWS", str(folder))
    assert on_another_host()
    join_host()
    join_host()  # by another rank on the same host
    (folder / "0").write_bytes(b"rows")
    leave_host()
    assert not folder.exists()


def test_the_harness_own_folder_is_not_left_by_a_worker(tmp_path: Path) -> None:
    spool = Spool()
    assert not on_another_host()
    leave_host()
    assert spool.folder.exists()
    spool.close()


class Engine:
    """Workers on hosts with other files: each asks its own folder."""

    def __init__(self, here: Path, *hosts: Path) -> None:
        self.asked = 0
        self._here, self._hosts = here, hosts

    def collective_rpc(self, method: str, args: tuple[str]) -> list[bytes | None]:
        assert method == "harness_file"
        self.asked += 1
        name = Path(args[0]).relative_to(self._here)
        return [FileKeeper().harness_file(str(host / name)) for host in self._hosts]


def test_a_file_of_another_host_is_brought_once(tmp_path: Path) -> None:
    here, one, two = (tmp_path / name for name in ("here", "one", "two"))
    for folder in (here, one, two):
        folder.mkdir()
    (two / "0").write_bytes(b"rows of 0")
    engine = Engine(here, one, two)
    bring(engine, here / "0")
    assert (here / "0").read_bytes() == b"rows of 0"
    assert not (two / "0").exists()
    bring(engine, here / "0")  # it is here
    assert engine.asked == 1
    bring(engine, here / "1")  # nobody has it
    assert not (here / "1").exists()
