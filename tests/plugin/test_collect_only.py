"""--collect-only says what a run would be able to see, and runs nothing."""

from __future__ import annotations

from plugin_project import PluginProject


def test_the_baselines_scope_is_told_before_the_run(project: PluginProject) -> None:
    result = project.run("fake", "--collect-only")
    result.stdout.fnmatch_lines(
        [
            "what a run against baselines/fake/s/bfloat16 can see:",
            "*longest context*tokens",
            "*prompts  *4",
            "*24: 4 by prefill, 20 by decode",
        ]
    )
    assert not project.recording.exists()


def test_another_length_is_told(project: PluginProject) -> None:
    result = project.run("fake", "--collect-only", "--max-new-tokens=3")
    result.stdout.fnmatch_lines(["*the suite s has changed since, or has another length"])


def test_without_a_baseline_that_is_said(empty_project: PluginProject) -> None:
    result = empty_project.run("fake", "--collect-only")
    result.stdout.fnmatch_lines(["no baseline of fake, *"])


def test_a_list_of_names_stays_one(project: PluginProject) -> None:
    result = project.run("fake", "--collect-only", "-q")
    result.stdout.no_fnmatch_line("*longest context*")
