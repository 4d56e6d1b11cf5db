from __future__ import annotations

import re
import shlex

import pytest
from plugin_project import HELD, TESTS, PluginProject, usage_error

from harness.cli.main import main
from harness.recording.format import load_recording

SEED = ("--engine-arg", "seed=5")


def _outputs(path: object) -> list[tuple[int, ...]]:
    return [p.run.token_ids for p in load_recording(str(path)).prompts]


def test_without_a_baseline_the_recording_is_kept_and_the_run_fails(
    empty_project: PluginProject,
) -> None:
    result = empty_project.run("fake", *SEED)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.assert_outcomes(errors=1, skipped=TESTS - 1)
    assert len(load_recording(empty_project.recording).prompts) == 4
    page = empty_project.recording.with_suffix(".html").read_text("utf-8")
    assert "There is no baseline yet" in page
    assert "harness baseline make" in page
    assert not (empty_project.path / "baselines").exists()
    assert "another exception" not in result.stdout.str()


@pytest.mark.parametrize("options", [(), ("--max-new-tokens=4", "--dtype=float16")])
def test_the_printed_commands_judge_the_kept_recording(
    empty_project: PluginProject, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    result = empty_project.run("fake", *SEED, *options)
    told = re.search(r"Judge it with: (.*)", result.stdout.str())
    assert told is not None
    make, compare = told[1].split(" && ")
    assert make.startswith("harness baseline make --device fake-reference ")
    capsys.readouterr()
    for command in (make, compare):
        with pytest.raises(SystemExit) as ended:
            main(shlex.split(command)[1:])
        assert ended.value.code == 0, capsys.readouterr().err
    assert "EQUIVALENT: " in capsys.readouterr().out


def test_context_builds_the_baseline_around_the_recordings_tokens(
    empty_project: PluginProject,
) -> None:
    empty_project.run("fake", *SEED)
    kept = empty_project.path / "port.json"
    empty_project.recording.rename(kept)

    result = empty_project.run("fake-reference", "--context=port.json")
    result.assert_outcomes(**HELD)
    result.stdout.fnmatch_lines(["baseline made: *"])
    reference = load_recording(empty_project.baseline / "reference.json")
    assert [p.run.token_ids for p in reference.prompts] == _outputs(kept)
    assert {p.run.replay for p in reference.prompts} == {"forced-prefill"}


def test_context_judges_a_recording_against_a_present_baseline(project: PluginProject) -> None:
    project.run("fake", "--engine-arg", "seed=4").assert_outcomes(**HELD)
    kept = project.path / "port.json"
    project.recording.rename(kept)
    result = project.run("fake-reference", "--context=port.json")
    result.stdout.fnmatch_lines(["EQUIVALENT: *", "report: reports/port.html"])
    assert not project.recording.exists()


def test_without_a_baseline_the_given_recording_stays_as_it_is(
    empty_project: PluginProject,
) -> None:
    empty_project.run("fake", *SEED)
    kept = empty_project.path / "port.json"
    empty_project.recording.rename(kept)
    before = kept.read_bytes()
    result = empty_project.run("fake", "--context=port.json")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*Judge it with: harness baseline make * --context port.json *"])
    assert kept.read_bytes() == before
    assert "of 24" not in result.stderr.str()


def test_a_context_of_another_length_makes_no_baseline(empty_project: PluginProject) -> None:
    empty_project.run("fake", *SEED, "--max-new-tokens=4")
    kept = empty_project.path / "port.json"
    empty_project.recording.rename(kept)
    result = empty_project.run("fake-reference", "--context=port.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["*harness: port.json: max_new_tokens is 4, but this run has 6; give --max-new-tokens 4*"]
    )
    assert not (empty_project.path / "baselines").exists()
    result = empty_project.run("fake-reference", "--context=port.json", "--max-new-tokens=4")
    result.assert_outcomes(**HELD)


def test_a_context_that_is_no_recording_ends_the_run(project: PluginProject) -> None:
    result = project.run("fake", "--context=s.yaml")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*harness: s.yaml*is not JSON*"])


def test_a_missing_context_ends_the_run(project: PluginProject) -> None:
    result = project.run("fake", "--context=nowhere.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*harness: nowhere.json*cannot be read*"])


def test_the_default_reference_is_named_for_real_devices(empty_project: PluginProject) -> None:
    line = usage_error(empty_project.run("hf-npu", "--update-baselines"))
    assert "--device=hf-cpu" in line
