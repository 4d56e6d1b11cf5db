from __future__ import annotations

import pytest
from plugin_project import HELD, PluginProject

from harness.recording.format import load_recording, save_recording


def test_each_dtype_has_a_baseline_of_its_own(project: PluginProject) -> None:
    before = project.bytes_of_baseline()
    project.run("fake-reference", "--dtype=float16").assert_outcomes(**HELD)
    made = load_recording(project.baseline.parent / "float16/reference.json")
    assert made.dtype == "float16"
    assert project.bytes_of_baseline() == before


def test_an_unknown_dtype_ends_the_run_with_one_line(project: PluginProject) -> None:
    result = project.run("fake", "--dtype=float7")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*harness: *float7*bfloat16*"])


def test_another_declared_dtype_needs_allow_dtype(project: PluginProject) -> None:
    project.run("fake")
    recording = load_recording(project.recording)
    other = project.path / "other.json"
    save_recording(recording.model_copy(update={"dtype": "float16"}), other)

    refused = project.run("fake", f"--context={other}")
    refused.stdout.fnmatch_lines(["NOT_COMPARABLE: *dtype*", "*dtype: float16 against bfloat16"])
    assert refused.ret == pytest.ExitCode.TESTS_FAILED

    allowed = project.run("fake", f"--context={other}", "--allow-dtype")
    allowed.stdout.fnmatch_lines(["*warning: dtype differs and was allowed*"])
    assert allowed.parseoutcomes().get("failed") is None


def test_other_weights_need_allow_weights(project: PluginProject) -> None:
    project.run("fake")
    recording = load_recording(project.recording)
    facts = recording.model.model_copy(update={"weights": "f" * 64})
    other = project.path / "other.json"
    save_recording(recording.model_copy(update={"model": facts}), other)

    refused = project.run("fake", f"--context={other}")
    refused.stdout.fnmatch_lines(["NOT_COMPARABLE: *model.weights*"])
    assert refused.ret == pytest.ExitCode.TESTS_FAILED

    allowed = project.run("fake", f"--context={other}", "--allow-weights")
    allowed.stdout.fnmatch_lines(["*warning: model.weights differs and was allowed*"])
    assert allowed.parseoutcomes().get("failed") is None
