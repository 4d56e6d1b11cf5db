"""``-m smoke``: the sampling smoke test, on the fake."""

from __future__ import annotations

from plugin_project import PluginProject

from harness.plugin import _CHECKS

SHORT = "--max-new-tokens=12"


def test_it_is_left_out_unless_asked_for(project: PluginProject) -> None:
    result = project.run("fake")
    assert result.parseoutcomes().get("deselected", 0) == 0
    assert "smoke" not in result.stdout.str()


def test_its_file_asks_for_it_too(project: PluginProject) -> None:
    project.run("fake", SHORT, _CHECKS / "test_smoke.py").assert_outcomes(passed=7, deselected=0)


def test_it_samples_every_prompt_and_judges_nothing_else(project: PluginProject) -> None:
    result = project.run("fake", "-m", "smoke", SHORT, "-v")
    assert result.parseoutcomes()["passed"] == 7
    result.stdout.fnmatch_lines(["*test_smoke*repeated*PASSED*"])
    assert not project.recording.exists()


def test_it_needs_no_baseline(empty_project: PluginProject) -> None:
    assert empty_project.run("fake", "-m", "smoke", SHORT).parseoutcomes()["passed"] == 7


def test_rows_that_are_not_finite_fail(project: PluginProject) -> None:
    result = project.run("fake", "-m", "smoke", SHORT, "--engine-arg=fault=nan")
    assert result.parseoutcomes()["failed"] == 7
    result.stdout.fnmatch_lines(["*introduction: a row with logits that are not finite*"])


def test_a_seed_that_does_not_repeat_fails(project: PluginProject) -> None:
    result = project.run("fake", "-m", "smoke", SHORT, "--engine-arg=fault=unsteady")
    assert result.parseoutcomes()["failed"] == 7
    result.stdout.fnmatch_lines(["*the same seed gave other tokens from position 0 on*"])
