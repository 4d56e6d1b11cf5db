"""The installer's errors, and the host that `run` makes."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.ascend
HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def installer() -> Any:
    spec = importlib.util.spec_from_file_location("ascend_install", HERE / "install.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["ascend_install"] = module  # dataclasses look for their module
    spec.loader.exec_module(module)
    return module


def install(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, HERE / "install.py", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def test_another_python_is_refused_in_one_line(tmp_path: Path) -> None:
    done = install(tmp_path / "made", "--python", "/bin/false")
    assert done.returncode == 1
    told = "/bin/false is not a Python 3.11 with venv and headers: name another --python"
    assert done.stderr == f"install.py: error: {told}\n"


def test_a_folder_that_cannot_be_written_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = install(tmp_path / "file" / "folder")
    assert done.returncode == 1
    assert done.stderr.startswith("install.py: error: ")
    assert done.stderr.endswith(": take another FOLDER\n")
    assert done.stderr.count("\n") == 1


def test_an_unknown_release_is_refused(tmp_path: Path) -> None:
    done = install(tmp_path, "--release", "0.1")
    assert done.returncode == 2
    assert "invalid choice: '0.1' (choose from" in done.stderr


def test_without_root_a_missing_python_is_told_with_the_packages(
    installer: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installer, "find_python", lambda named: None)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(installer.Problem, match=r"apt-get install .*python3\.11-dev"):
        installer.Environment(tmp_path, "0.18.0").make()


def test_a_step_is_done_again_only_for_another_state(installer: Any, tmp_path: Path) -> None:
    environment = installer.Environment(tmp_path, "0.18.0")
    done: list[str] = []
    for state in ("a", "a", "b"):
        environment._once("step", state, lambda state=state: done.append(state))
    assert done == ["a", "b"]

    def fail() -> None:
        raise installer.Problem("no")

    with pytest.raises(installer.Problem):
        environment._once("step", "c", fail)
    environment._once("step", "b", lambda: done.append("after a failure"))
    assert done[-1] == "after a failure"


def test_a_command_that_fails_is_told_by_its_error(installer: Any) -> None:
    program = "print('ERROR: no such version'); print('notice'); raise SystemExit(3)"
    with pytest.raises(installer.Problem, match="status 3: ERROR: no such version"):
        installer._run([sys.executable, "-c", program], {})


def test_every_release_has_its_versions(installer: Any) -> None:
    for release in installer.CANN:
        for path in installer.Environment(HERE, release).locks:
            lines = [line for line in path.read_text("utf-8").splitlines() if line[0] != "#"]
            assert lines
            assert all("==" in line for line in lines)


def outside() -> tuple[set[str], str]:
    """The device files of this process's host, and what its CANN says."""
    told = Path("/usr/local/Ascend/ascend-toolkit/latest/ascend_toolkit_install.info")
    return set(os.listdir("/dev")), told.read_text("utf-8") if told.exists() else ""


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="a mount namespace needs root"
)
def test_a_command_sees_the_host_of_a_card_and_nobody_else_does() -> None:
    program = """
set -e
ls /dev/davinci0 /usr/local/bin/npu-smi
cat "$ASCEND_HOME_PATH/ascend_toolkit_install.info" /usr/local/Ascend/driver/version.info
npu-smi info -t health -i 0
exit 7
"""
    # These tests may run on such a host already.
    before = outside()
    done = subprocess.run(
        ["bash", HERE / "host" / "enter", "bash", "-c", program],
        env={**os.environ, "NPU_EMU_CANN": "9.8.7"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "permission denied" in done.stderr.lower():
        pytest.skip("this machine allows no mount namespace")
    assert done.returncode == 7, done.stderr
    for told in ("/dev/davinci0", "version=9.8.7", "Version=25.5.0", "OK"):
        assert told in done.stdout
    assert outside() == before
