from __future__ import annotations

import pytest
from plugin_project import HELD, PluginProject, usage_error

OWNER = """
def pytest_addoption(parser):
    parser.getgroup("accelerator-lab").addoption("{option}")
"""


def test_without_device_the_checks_are_not_collected(empty_project: PluginProject) -> None:
    empty_project.pytester.makepyfile(test_own="def test_one(): pass\ndef test_two(): pass")
    result = empty_project.plain("-v")
    result.assert_outcomes(passed=2)
    result.stdout.no_fnmatch_line("*harness:*")
    assert not (empty_project.path / "reports").exists()


def test_without_device_the_fixtures_skip(empty_project: PluginProject) -> None:
    empty_project.pytester.makepyfile("def test_one(alignment): assert False")
    empty_project.plain().assert_outcomes(skipped=1)


def test_without_device_a_warning_still_is_what_the_project_made_it(
    empty_project: PluginProject,
) -> None:
    empty_project.pytester.makeini("[pytest]\nfilterwarnings = error")
    empty_project.pytester.makepyfile(
        "import warnings\ndef test_one(): warnings.warn('x', UserWarning)"
    )
    empty_project.plain().assert_outcomes(failed=1)


def test_with_device_the_checks_run_instead_of_the_projects_tests(
    project: PluginProject,
) -> None:
    project.pytester.makepyfile("def test_own(): assert False")
    result = project.run("fake")
    result.assert_outcomes(**HELD)
    result.stdout.fnmatch_lines(["harness: fake, smollm2, s"])


def test_a_named_test_of_the_project_can_use_the_alignment(project: PluginProject) -> None:
    file = project.pytester.makepyfile(
        "def test_own(alignment, recording):\n"
        "    assert alignment.verdict == 'BIT_EXACT'\n"
        "    assert recording.device == 'fake'\n"
    )
    project.run("fake", file).assert_outcomes(passed=1)


def test_an_unknown_device_names_those_there_are(empty_project: PluginProject) -> None:
    line = usage_error(empty_project.run("tpu"))
    assert "unknown device 'tpu'" in line
    for name in ("hf-cpu", "hf-gpu", "hf-npu", "fake"):
        assert name in line


@pytest.mark.parametrize("option", ["--device", "--model", "--report"])
def test_another_owner_of_an_option_is_named(empty_project: PluginProject, option: str) -> None:
    empty_project.pytester.makepyfile(owner=OWNER.format(option=option))
    empty_project.pytester.syspathinsert()
    line = usage_error(
        empty_project.pytester.runpytest_inprocess("-p", "owner", "-p", "harness.plugin")
    )
    assert f"another plugin already owns {option}" in line
    assert "accelerator-lab" in line
    assert "-p no:" in line


def test_the_help_lists_every_option_in_a_group_of_its_own(empty_project: PluginProject) -> None:
    text = empty_project.plain("--help").stdout.str()
    _, _, group = text.partition("harness: hold a device against a baseline:")
    group, _, _ = group.partition("\n\n")
    options = (
        *("--device", "--model", "--suite", "--dtype", "--max-new-tokens", "--engine-arg"),
        *("--baseline-dir", "--context", "--allow-weights", "--allow-dtype", "--report"),
        *("--update-baselines", "--trust-remote-code"),
    )
    assert [option for option in options if f"  {option}" not in group] == []
    assert "hf-cpu, hf-gpu, hf-npu" in " ".join(group.split())


@pytest.mark.parametrize(
    "spread",
    [("-n", "2"), ("--dist=load", "--tx=2*popen"), ("-d", "--tx=popen")],
)
def test_the_processes_of_xdist_are_refused(
    project: PluginProject, spread: tuple[str, ...]
) -> None:
    pytest.importorskip("xdist")
    line = usage_error(project.run("fake", "-p", "xdist.plugin", *spread))
    assert "--device" in line
    assert "leave out -n" in line


def test_no_processes_of_xdist_are_accepted(project: PluginProject) -> None:
    pytest.importorskip("xdist")
    project.run("fake", "-p", "xdist.plugin", "-n", "0").assert_outcomes(**HELD)


def test_collecting_only_runs_nothing(empty_project: PluginProject) -> None:
    result = empty_project.run("fake", "--collect-only", "-q")
    assert result.ret == 0
    result.stdout.fnmatch_lines(["*test_gate[[]error_ratio[]]", "*test_prompt[[]beta[]]"])
    assert not (empty_project.path / "reports").exists()
