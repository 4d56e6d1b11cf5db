from __future__ import annotations

import pytest
from plugin_project import HELD, PluginProject, usage_error

from harness.recording.format import load_recording


def test_it_reaches_the_device(project: PluginProject) -> None:
    project.run("fake", "--engine-arg", "seed=4", "--engine-arg", "delay=0").assert_outcomes(**HELD)
    assert load_recording(project.recording).engine.facts["seed"] == 4


@pytest.mark.parametrize("pair", ["seed", "=4"])
def test_a_pair_without_key_or_sign_is_refused(project: PluginProject, pair: str) -> None:
    line = usage_error(project.run("fake", f"--engine-arg={pair}"))
    assert "is not of the form K=V" in line


def test_a_key_given_twice_is_refused(project: PluginProject) -> None:
    line = usage_error(project.run("fake", "--engine-arg=seed=1", "--engine-arg=seed=2"))
    assert "seed is given twice" in line


@pytest.mark.parametrize(
    ("pair", "told"),
    [("heat=4", "seed, fault, delay"), ("seed=four", "four"), ("fault=fire", "unsteady")],
)
def test_what_the_device_does_not_know_ends_the_run(
    project: PluginProject, pair: str, told: str
) -> None:
    result = project.run("fake", f"--engine-arg={pair}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*harness: fake*{told}*"])
    assert "Traceback" not in result.stdout.str()
