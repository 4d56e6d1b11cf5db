from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from plugin_project import PluginProject


@pytest.fixture
def empty_project(
    pytester: pytest.Pytester, made_project: Path, monkeypatch: pytest.MonkeyPatch
) -> PluginProject:
    """Another project's folder with the suite ``s.yaml`` and no baseline."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    # Other plugins of this machine would be imported again for every run.
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    # However this run of the tests was started, the commands that are printed are the same.
    monkeypatch.setattr("sys.argv", ["pytest"])
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    shutil.copy(made_project / "s.yaml", pytester.path)
    return PluginProject(pytester)


@pytest.fixture
def project(empty_project: PluginProject, made_project: Path) -> PluginProject:
    """The same with a baseline made by ``fake-reference``."""
    shutil.copytree(made_project / "baselines", empty_project.path / "baselines")
    return empty_project
