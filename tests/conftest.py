"""What tests of the plugin and of the command share: a small suite with its baseline."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

# Workers take the cores; BLAS threads of two of them wait for each other longer than they
# compute. Before numpy is imported, and so for the workers that start after this one.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
# Where it is set the plugin makes no baseline; tests of that set it themselves.
os.environ.pop("CI", None)

import pytest

from harness.baseline.make import Plan, make_baseline
from harness.cli.main import main
from harness.devices.spec import DeviceSpec
from harness.process.progress import Silent
from harness.suite.read import load_suite

SUITE = """\
generation:
  max_new_tokens: 6
  ignore_eos: true
prompts:
  - {id: alpha, text: Hello there}
  - {id: beta, text: The capital of France is}
  - {id: gamma, text: One two three}
  - {id: delta, text: 四}
"""


@pytest.fixture(scope="session")
def made_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``s.yaml`` and its baseline by the fake reference; copy it."""
    root = tmp_path_factory.mktemp("made")
    (root / "s.yaml").write_text(SUITE, "utf-8")
    suite = load_suite(root / "s.yaml")
    make_baseline(
        Plan(
            DeviceSpec("fake-reference", "fake"), suite, root / "baselines", suite_source="s.yaml"
        ),
        Silent(),
    )
    return root


@pytest.fixture
def project_folder(made_project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the made project as the working directory."""
    folder = tmp_path / "project"
    shutil.copytree(made_project, folder)
    monkeypatch.chdir(folder)
    # The child processes of a test find the harness of this checkout.
    root = str(Path(__file__).parents[1])
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]))
    return folder


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line that a refused command says."""
        lines = [line for line in self.err.splitlines() if line.startswith("harness: error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err
        return lines[0].removeprefix("harness: error: ")


@pytest.fixture
def command(project_folder: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run ``harness ARGUMENTS`` in the project folder, in this process."""

    def run(*arguments: object) -> Ended:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        said = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Ended(ended.value.code, said.out, said.err)

    return run
