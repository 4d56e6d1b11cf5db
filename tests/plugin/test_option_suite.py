from __future__ import annotations

import json

import pytest
from plugin_project import HELD, TESTS, PluginProject, usage_error


def test_a_mistake_in_the_suite_is_named_with_file_and_line(empty_project: PluginProject) -> None:
    file = empty_project.path / "s.yaml"
    file.write_text(file.read_text("utf-8").replace("id: gamma", "id: beta"), "utf-8")
    line = usage_error(empty_project.run("fake"))
    assert "s.yaml:7: " in line
    assert "beta" in line


def test_an_unknown_suite_is_named(empty_project: PluginProject) -> None:
    line = usage_error(empty_project.plain("--device=fake", "--suite=mixd"))
    assert "mixd" in line
    assert "did you mean mixed?" in line


def test_a_suite_is_found_by_name_in_the_projects_prompts(project: PluginProject) -> None:
    (project.path / "prompts").mkdir()
    (project.path / "s.yaml").rename(project.path / "prompts/s.yaml")
    project.plain("--device=fake", "--suite=s").assert_outcomes(**HELD)


def test_max_new_tokens_stands_in_for_the_suites_own(empty_project: PluginProject) -> None:
    empty_project.run("fake-reference", "--max-new-tokens=2").assert_outcomes(**HELD)
    reference = json.loads((empty_project.baseline / "reference.json").read_text("utf-8"))
    assert [len(p["free"]["token_ids"]) for p in reference["prompts"]] == [2, 2, 2, 2]
    assert reference["settings"]["max_new_tokens"] == 2


@pytest.mark.parametrize("value", ["0", "-3", "many"])
def test_a_senseless_number_of_tokens_is_refused(empty_project: PluginProject, value: str) -> None:
    result = empty_project.run("fake", f"--max-new-tokens={value}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*{value}*"])
    assert "Traceback" not in result.stderr.str()


def test_a_changed_suite_makes_the_baseline_stale_before_anything_runs(
    project: PluginProject,
) -> None:
    file = project.path / "s.yaml"
    file.write_text(file.read_text("utf-8").replace("Hello there", "Hello where"), "utf-8")
    result = project.run("fake")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(failed=2, skipped=TESTS - 2)
    result.stdout.fnmatch_lines(
        [
            "NOT_COMPARABLE: *suite.digest*",
            "*suite.digest: * against *",
            "stale baseline: *: pytest -p harness.plugin --device=fake-reference *",
        ]
    )
    result.stderr.fnmatch_lines(["*the baseline is stale, so nothing is run*"])
    assert not project.recording.exists()


def test_a_run_that_did_not_happen_has_no_recording_and_no_figures(project: PluginProject) -> None:
    project.run("fake")
    kept = project.recording.read_bytes()
    file = project.path / "s.yaml"
    file.write_text(file.read_text("utf-8").replace("Hello there", "Hello where"), "utf-8")
    project.run("fake")
    assert project.recording.read_bytes() == kept  # of the earlier run
    found = project.alignment()
    assert found["verdict"] == "NOT_COMPARABLE"
    assert found["candidate"]["file"] == ""
    measured = found["performance"]["candidate"]
    assert (measured.pop("samples"), measured.pop("gaps")) == (0, 0)
    assert set(measured.values()) == {None}
    page = (project.path / "reports/fake-s-bfloat16-fake.html").read_text("utf-8")
    assert "reports/fake-s-bfloat16-fake.json" not in page


def test_the_printed_command_makes_that_baseline_again_and_no_other(
    project: PluginProject,
) -> None:
    elsewhere = project.path / "elsewhere"
    (project.path / "baselines").rename(elsewhere)
    named = ("--baseline-dir=elsewhere/fake/s/bfloat16", "--max-new-tokens=3")
    result = project.run("fake", *named)
    [told] = [x for x in result.stdout.lines if x.startswith("stale baseline: ")]
    _, _, command = told.partition("make it again with: pytest -p harness.plugin ")
    assert project.plain(*command.split()).ret == pytest.ExitCode.OK
    assert not (project.path / "baselines").exists()
    project.run("fake", *named).assert_outcomes(**HELD)


def test_a_stale_baseline_is_not_replaced_by_the_reference_device(project: PluginProject) -> None:
    before = project.bytes_of_baseline()
    result = project.run("fake-reference", "--max-new-tokens=3")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["NOT_COMPARABLE: *"])
    assert project.bytes_of_baseline() == before
