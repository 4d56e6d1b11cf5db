from __future__ import annotations

import pytest
from plugin_project import HELD, PluginProject, usage_error


def test_a_missing_baseline_is_made_and_said_so(empty_project: PluginProject) -> None:
    result = empty_project.run("fake-reference")
    result.assert_outcomes(**HELD)
    result.stdout.fnmatch_lines(["baseline made: baselines/fake/s/bfloat16; *committing it"])
    result.stderr.fnmatch_lines(["*it does not exist yet, making it*"])
    assert sorted(empty_project.bytes_of_baseline()) == [
        "control-seed-1.json",
        "control-seed-2.json",
        "oracle.json",
        "reference.json",
    ]


def test_a_present_baseline_is_verified_and_not_made_again(project: PluginProject) -> None:
    before = project.bytes_of_baseline()
    result = project.run("fake-reference")
    result.assert_outcomes(**HELD)
    result.stdout.no_fnmatch_line("*baseline made*")
    assert "oracle" not in result.stderr.str()
    assert project.bytes_of_baseline() == before


def test_it_replaces_the_baseline(project: PluginProject) -> None:
    before = project.bytes_of_baseline()
    result = project.run("fake-reference", "--update-baselines", "--max-new-tokens=4")
    result.assert_outcomes(**HELD)
    result.stdout.fnmatch_lines(["baseline made: *"])
    after = project.bytes_of_baseline()
    assert after.keys() == before.keys()
    assert all(after[name] != before[name] for name in after)
    assert [path.name for path in project.baseline.parent.iterdir()] == ["bfloat16"]


def test_it_is_refused_on_a_device_that_is_no_reference(project: PluginProject) -> None:
    before = project.bytes_of_baseline()
    line = usage_error(project.run("fake", "--update-baselines"))
    assert "--update-baselines" in line
    assert "--device=hf-cpu" in line
    assert project.bytes_of_baseline() == before


def test_baseline_dir_says_where_baselines_stand(
    project: PluginProject,
) -> None:
    (project.path / "baselines").rename(project.path / "elsewhere")
    project.run("fake", "--baseline-dir=elsewhere").assert_outcomes(**HELD)
    result = project.run("fake-reference", "--baseline-dir=third/place")
    result.assert_outcomes(**HELD)
    assert (project.path / "third/place/fake/s/bfloat16/reference.json").is_file()


def test_a_baseline_place_that_cannot_be_written_is_one_line(
    empty_project: PluginProject,
) -> None:
    (empty_project.path / "baselines").write_text("a file in the way")
    result = empty_project.run("fake-reference")
    assert result.ret == pytest.ExitCode.INTERRUPTED  # a failed test would say "not aligned"
    result.stdout.fnmatch_lines(["*baselines/fake/s/bfloat16: cannot be written (*); choose*"])
    assert "another exception" not in result.stdout.str()
