from __future__ import annotations

import shutil

import pytest
from plugin_project import HELD, PluginProject, usage_error


def test_baselines_may_stand_elsewhere(project: PluginProject) -> None:
    shutil.move(project.path / "baselines", project.path / "approved")
    project.run("fake", "--baseline-dir=approved").assert_outcomes(**HELD)


def test_one_baseline_serves_a_candidate_of_another_dtype(project: PluginProject) -> None:
    """A float16 candidate's own folder would be ``float16``: name the baseline itself."""
    missing = project.run("fake", "--dtype=float16", "--allow-dtype")
    missing.stdout.fnmatch_lines(["*baselines/fake/s/float16: no baseline*"])
    found = project.run(
        "fake", "--dtype=float16", "--allow-dtype", f"--baseline-dir={project.baseline}"
    )
    found.assert_outcomes(**HELD)
    found.stdout.fnmatch_lines(["*warning: dtype differs and was allowed*"])


def test_one_baseline_is_not_replaced_through_its_own_folder(project: PluginProject) -> None:
    result = project.run(
        "fake-reference", "--update-baselines", f"--baseline-dir={project.baseline}"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert "is one baseline" in usage_error(result)
