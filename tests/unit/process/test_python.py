"""What lies in the working directory is never imported by a process of the harness."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harness.process.child import Child
from harness.process.python import module_command, program_command, with_this_harness

NAMES = ("torch", "numpy", "yaml", "json", "runpy", "typing_extensions", "vllm", "harness")


@pytest.fixture
def trap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose modules leave a mark when they are imported."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text("open('RAN', 'a').write(__name__)\n")
    (tmp_path / "multiprocessing.py").write_text("open('RAN', 'a').write(__name__)\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_module_is_not_taken_from_the_working_directory(trap: Path) -> None:
    command = module_command(sys.executable, "json.tool", "--help")
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "usage" in done.stdout
    assert not (trap / "RAN").exists()


def test_a_program_is_not_either_nor_what_it_starts(trap: Path) -> None:
    source = (
        "import json, subprocess, sys\n"
        "assert sys.argv[1:] == ['a']\n"
        "subprocess.run([sys.executable, '-c', 'import json'], check=True)\n"
    )
    with Child(program_command([sys.executable], source, "a")) as child:
        assert child.process.wait() == 0
    below = sys.version_info >= (3, 11)  # older ones have no variable for it
    assert (trap / "RAN").exists() != below


def test_a_program_may_begin_with_what_must_stand_first() -> None:
    source = '"""A \'program\' of its own."""\nfrom __future__ import annotations\nprint(__doc__)\n'
    done = subprocess.run(
        program_command([sys.executable], source), capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("A 'program' of its own.\n", "")


def test_the_harness_of_a_checkout_is_found(trap: Path) -> None:
    command = module_command(sys.executable, "harness", "--version")
    env = with_this_harness({**os.environ, "PYTHONPATH": ""})
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("harness ")
    assert not (trap / "RAN").exists()


@pytest.mark.process
@pytest.mark.parametrize(
    "arguments",
    [
        ("--version",),
        ("doctor",),
        ("doctor", "--device", "hf-cpu"),
        ("doctor", "--device", "vllm-cpu"),
        ("bench-load", "--server-url", "http://127.0.0.1:9", "--requests", "1"),
        ("record", "--device", "fake", "--suite", "s.yaml", "--out", "r.json"),
        ("baseline", "make", "--device", "fake-reference", "--suite", "s.yaml"),
        ("bench", "--device", "fake", "--no-judge", "--against=--device fake"),
    ],
)
def test_a_command_and_its_children_import_nothing_from_there(
    trap: Path, arguments: tuple[str, ...]
) -> None:
    (trap / "harness.py").unlink()  # the command itself is found by the test's own path
    (trap / "s.yaml").write_text("generation: {max_new_tokens: 2}\nprompts: [{id: a, text: b}]\n")
    start = "import sys; sys.path.remove(''); from harness.cli.main import main"
    command = [sys.executable, "-c", f"{start}; main(sys.argv[1:])", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert "Traceback" not in done.stderr
    assert not (trap / "RAN").exists(), (trap / "RAN").read_text()
