"""How much recordings keep of a row: as it is asked for, or as the baseline does."""

from __future__ import annotations

from pathlib import Path

import pytest
from plugin_project import HELD, PluginProject, usage_error

from harness.baseline.folder import load_baseline
from harness.recording.format import load_recording
from harness.statistics.detail import DETAILS

SEED = "--engine-arg=seed=4"


def detail_of(path: Path) -> str:
    found = load_recording(path).detail
    return next(name for name, detail in DETAILS.items() if detail == found)


@pytest.mark.parametrize("name", ["small", "large"])
def test_a_baseline_is_made_in_it_and_a_run_records_as_the_baseline_does(
    empty_project: PluginProject, name: str
) -> None:
    empty_project.run("fake-reference", f"--detail={name}").assert_outcomes(**HELD)
    for arm, recording in load_baseline(empty_project.baseline).arms():
        assert recording.detail == DETAILS[name], arm
    empty_project.run("fake", SEED).assert_outcomes(**HELD)
    assert detail_of(empty_project.recording) == name
    assert "warning.detail" not in str(empty_project.alignment())
    broken = empty_project.run("fake", "--engine-arg=fault=scale")
    assert broken.ret == pytest.ExitCode.TESTS_FAILED


@pytest.mark.parametrize("name", ["small", "normal", "large"])
def test_a_normal_baseline_judges_every_one(project: PluginProject, name: str) -> None:
    project.run("fake", SEED, f"--detail={name}").assert_outcomes(**HELD)
    assert detail_of(project.recording) == name
    assert ("warning.detail" in str(project.alignment())) == (name == "small")


def test_a_baseline_that_is_replaced_keeps_its_detail(empty_project: PluginProject) -> None:
    reference = empty_project.baseline / "reference.json"
    empty_project.run("fake-reference", "--detail=small")
    empty_project.run("fake-reference", "--update-baselines")
    assert detail_of(reference) == "small"
    empty_project.run("fake-reference", "--update-baselines", "--detail=normal")
    assert detail_of(reference) == "normal"


def test_other_runs_of_the_device_are_in_it_too(empty_project: PluginProject) -> None:
    empty_project.run("fake-reference", "--detail=small")
    empty_project.run("fake", SEED, "--matrix", "--magnify")
    for file in empty_project.path.glob("reports/*-magnified-*.json"):
        assert detail_of(file) == "small"
    magnified = empty_project.path / "baselines/fake/s/float16/reference.json"
    assert not magnified.exists() or detail_of(magnified) == "small"
    assert empty_project.alignment()["matrix"]


@pytest.mark.parametrize(
    ("device", "name", "told"),
    [
        ("fake", "tiny", "--detail 'tiny' is not one of small, normal, large"),
        ("server", "small", "--detail small: server gives its largest log-probabilities only"),
        ("server", "large", "--detail large: server gives its largest log-probabilities only"),
    ],
)
def test_what_there_is_not_is_refused_before_anything_is_run(
    project: PluginProject, device: str, name: str, told: str
) -> None:
    assert told in usage_error(project.run(device, f"--detail={name}"))
