"""-k, -x and --junitxml behave as pytest users expect."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from plugin_project import TESTS, PluginProject

from harness.recording.format import load_recording


def test_one_prompt_runs_alone(project: PluginProject) -> None:
    result = project.run("fake", "-k", "test_prompt[beta]", "--engine-arg=seed=4")
    result.assert_outcomes(passed=1, deselected=TESTS - 1)
    selected = project.recording.with_name("fake-s-bfloat16-fake-selected.json")
    assert [p.id for p in load_recording(selected).prompts] == ["beta"]
    assert not project.recording.exists()  # a whole run's recording is never replaced by a part


def test_a_gate_needs_all_prompts(project: PluginProject) -> None:
    project.run("fake", "-k", "coverage or (test_prompt and beta)").assert_outcomes(
        passed=2, deselected=TESTS - 2
    )
    assert len(load_recording(project.recording).prompts) == 4


def test_one_prompt_of_the_reference_device_still_makes_a_whole_baseline(
    empty_project: PluginProject,
) -> None:
    empty_project.run("fake-reference", "-k", "test_prompt and beta").assert_outcomes(
        passed=1, deselected=TESTS - 1
    )
    reference = load_recording(empty_project.baseline / "reference.json")
    assert len(reference.prompts) == 4


def test_nothing_selected_runs_nothing(project: PluginProject) -> None:
    result = project.run("fake", "-k", "no_such_prompt")
    assert result.ret == pytest.ExitCode.NO_TESTS_COLLECTED
    assert not project.recording.exists()


def test_x_stops_at_the_first_failure(project: PluginProject) -> None:
    result = project.run("fake", "--engine-arg=fault=scale", "-x")
    assert result.parseoutcomes() == {"failed": 1}
    result.stdout.fnmatch_lines(["report: *", "*stopping after 1 failures*"])


def test_junit_holds_a_testcase_per_prompt_and_gate_with_figures(project: PluginProject) -> None:
    result = project.run(
        "fake", "--engine-arg=fault=scale", "--junitxml=j.xml", "-o", "junit_family=xunit2"
    )
    assert "warning" not in result.parseoutcomes()
    result.stdout.no_fnmatch_line("*PytestWarning*")
    cases = {case.get("name"): case for case in ElementTree.parse("j.xml").iter("testcase")}
    for name in ("alpha", "beta", "gamma", "delta"):
        assert f"test_prompt[{name}]" in cases
    for gate in ("error_ratio", "top_k_error_ratio", "point_guard", "nonfinite", "coverage"):
        assert f"test_gate[{gate}]" in cases
    failed = {name for name, case in cases.items() if case.find("failure") is not None}
    assert "test_gate[error_ratio]" in failed
    assert "test_gate[coverage]" not in failed
    found_by_name = {
        found.get("name"): found.get("value", "")
        for name in ("test_performance[throughput]", "test_gate[error_ratio]")
        for found in cases[name].iter("property")
    }
    assert float(found_by_name["harness.error_ratio"]) > 3
    assert float(found_by_name["harness.decode_tok_s"]) > 0
    assert float(found_by_name["harness.decode_tok_s.samples"]) > 0


def test_junit_counts_a_run_without_baseline_as_errors(empty_project: PluginProject) -> None:
    empty_project.run("fake", "--junitxml=j.xml")
    suite = next(ElementTree.parse("j.xml").iter("testsuite"))
    assert (suite.get("errors"), suite.get("tests")) == (str(TESTS), str(TESTS))
