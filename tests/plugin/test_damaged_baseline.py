from __future__ import annotations

import shutil

import pytest
from plugin_project import HELD, TESTS, PluginProject


def test_a_damaged_arm_ends_the_run_and_is_named(project: PluginProject) -> None:
    oracle = project.baseline / "oracle.json"
    oracle.write_bytes(oracle.read_bytes()[:-200])
    result = project.run("fake")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*harness: baselines/fake/s/bfloat16/oracle.json*"])
    assert not project.recording.exists()


def test_an_edited_arm_is_refused_by_its_checksum(project: PluginProject) -> None:
    control = project.baseline / "control-seed-1.json"
    text = control.read_text("utf-8")
    assert '"fake-reference"' in text
    control.write_text(text.replace('"fake-reference"', '"hf-cpu"'), "utf-8")
    result = project.run("fake")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*control-seed-1.json: device: *checksum*"])


def test_a_missing_oracle_makes_it_incomplete(project: PluginProject) -> None:
    (project.baseline / "oracle.json").unlink()
    result = project.run("fake")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["baselines/fake/s/bfloat16: *incomplete, oracle.json is missing*"])
    result.assert_outcomes(errors=1, skipped=TESTS - 1)


def test_missing_controls_make_it_incomplete(project: PluginProject) -> None:
    for control in project.baseline.glob("control-*.json"):
        control.unlink()
    result = project.run("fake")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["*incomplete, a control-*.json is missing*"])


def test_a_control_equal_to_the_reference_is_refused(project: PluginProject) -> None:
    shutil.copy(project.baseline / "reference.json", project.baseline / "control-seed-2.json")
    result = project.run("fake")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(
        ["baselines/fake/s/bfloat16: control-seed-2: every row is bit-equal to the reference's*"]
    )


def test_the_reference_device_does_not_mend_a_damaged_baseline_by_itself(
    project: PluginProject,
) -> None:
    (project.baseline / "oracle.json").unlink()
    before = project.bytes_of_baseline()
    assert project.run("fake-reference").ret == pytest.ExitCode.TESTS_FAILED
    assert project.bytes_of_baseline() == before
    project.run("fake-reference", "--update-baselines").assert_outcomes(**HELD)
