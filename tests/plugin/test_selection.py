"""-k, -x and --junitxml behave as pytest users expect."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from plugin_project import TESTS, PluginProject

from harness import checks
from harness.recording.format import Run, load_recording, save_recording

CHECKS = Path(checks.__file__).parent


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


def test_junit_counts_a_run_without_baseline_as_one_error(empty_project: PluginProject) -> None:
    empty_project.run("fake", "--junitxml=j.xml")
    suite = next(ElementTree.parse("j.xml").iter("testsuite"))
    assert suite.get("tests") == str(TESTS)
    assert (suite.get("errors"), suite.get("skipped")) == ("1", str(TESTS - 1))


#: Selections of which no test fails by itself on a device with too much noise.
HIDING = (
    ("-k", "performance"),
    ("-k", "coverage or nonfinite or determinism"),
    ("-k", "performance", "-m", "not smoke"),
    (f"{CHECKS}/test_performance.py",),
    (f"{CHECKS}/test_gates.py::test_determinism",),
)


@pytest.mark.parametrize("selection", HIDING, ids=" ".join)
def test_a_selection_ends_no_better_than_the_verdict(
    project: PluginProject, selection: tuple[str, ...]
) -> None:
    broken = project.run("fake", "--engine-arg=fault=scale", *selection)
    assert broken.ret == pytest.ExitCode.TESTS_FAILED
    assert "failed" not in broken.parseoutcomes()
    broken.stdout.fnmatch_lines(
        ["harness: the selected tests passed, but the verdict * DIVERGENT*"]
    )
    sound = project.run("fake", "--engine-arg=seed=4", *selection)
    assert sound.ret == pytest.ExitCode.OK
    sound.stdout.no_fnmatch_line("*but the verdict*")


def test_a_run_that_held_no_check_is_an_error(project: PluginProject) -> None:
    (project.path / "test_own.py").write_text("def test_a():\n    pass\n", "utf-8")
    result = project.run("fake", "test_own.py")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stdout.fnmatch_lines(["harness: --device=fake was given, and no check *"])
    assert project.run("fake", "test_own.py", "--collect-only").ret == pytest.ExitCode.OK
    assert project.run("fake", "test_own.py", CHECKS).ret == pytest.ExitCode.OK


def test_checks_of_the_projects_own_count(project: PluginProject) -> None:
    own = "def test_a(alignment):\n    assert alignment.verdict == 'BIT_EXACT'\n"
    (project.path / "test_own.py").write_text(own, "utf-8")
    assert project.run("fake", "test_own.py").ret == pytest.ExitCode.OK


RERUNS = """
from _pytest.runner import runtestprotocol

def pytest_runtest_protocol(item, nextitem):
    # As plugins do that run a failed test again.
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if any(report.failed for report in reports):
        reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    return True
"""


def test_a_second_try_runs_no_engine_and_hides_no_error(empty_project: PluginProject) -> None:
    (empty_project.path / "conftest.py").write_text(RERUNS, "utf-8")
    result = empty_project.run("fake")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(errors=1, skipped=TESTS - 1)
    assert result.stderr.str().count("fake: loading the model") == 1


def test_deselecting_what_fails_hides_nothing(project: PluginProject) -> None:
    whole = project.run("fake", "--engine-arg=fault=scale", "-rA")
    failed = [line.split()[1] for line in whole.stdout.lines if line.startswith("FAILED ")]
    assert failed
    hidden = [f"--deselect={name}" for name in failed]
    assert project.run("fake", "--engine-arg=fault=scale", *hidden).ret == 1


def test_a_part_of_a_correct_ports_prompts_passes_and_of_a_broken_ones_does_not(
    project: PluginProject,
) -> None:
    for selection in (
        ("-k", "test_prompt"),
        ("-k", "test_prompt and (alpha or beta)"),
        (f"{CHECKS}/test_parity.py::test_prompt[gamma]",),
        ("-k", "test_prompt", f"--deselect={CHECKS}/test_parity.py::test_prompt[beta]"),
    ):
        assert project.run("fake", "--engine-arg=seed=4", *selection).ret == 0
        assert project.run("fake", "--engine-arg=fault=scale", *selection).ret == 1


def test_a_baseline_that_does_not_fit_is_no_success(project: PluginProject) -> None:
    result = project.run("fake", "--baseline-dir=baselines/fake/s/bfloat16", "--dtype=float16",
                         "-k", "performance")  # fmt: skip
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*but the verdict over what they ran is NOT_COMPARABLE*"])


def test_a_prompt_fails_by_what_speaks_against_it_beside_its_positions(
    project: PluginProject,
) -> None:
    project.run("fake", "--engine-arg=seed=4")
    whole = load_recording(project.recording)
    prompts = tuple(
        p.model_copy(update={"free": _first_two(p.free)}) if p.id == "gamma" and p.free else p
        for p in whole.prompts
    )
    save_recording(whole.model_copy(update={"prompts": prompts}), project.path / "npu.json")
    result = project.run("fake", "--context=npu.json", "-k", "test_prompt")
    result.assert_outcomes(passed=3, failed=1, deselected=TESTS - 4)
    result.stdout.fnmatch_lines(["gamma: DRIFT: 1 run stopped for length too early (* 2 of 6 *"])
    assert project.run("fake", "--context=npu.json", "-k", "test_prompt and beta").ret == 1


def _first_two(run: Run) -> Run:
    update = {"token_ids": run.token_ids[:2], "rows": run.rows[:2], "margins": run.margins[:2]}
    return run.model_copy(update=update)


@pytest.mark.parametrize("arm", ["reference", "control-seed-2"])
def test_an_arm_is_no_candidate(project: PluginProject, arm: str) -> None:
    result = project.run("fake", f"--context=baselines/fake/s/bfloat16/{arm}.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*it is the baseline's own arm {arm} *"])


def test_the_reference_device_is_held_against_the_baseline_that_it_makes(
    empty_project: PluginProject,
) -> None:
    for _ in range(2):
        result = empty_project.run("fake-reference")
        assert result.ret == pytest.ExitCode.OK
        result.stdout.fnmatch_lines(["BIT_EXACT: *"])
