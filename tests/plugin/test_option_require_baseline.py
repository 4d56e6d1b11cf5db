"""A missing baseline is never made, and passed, where nobody can commit it."""

from __future__ import annotations

import pytest
from plugin_project import HELD, PluginProject, usage_error

REFUSED = "*/s/bfloat16: no baseline, and none is made here (--require-baseline, *"


@pytest.mark.parametrize(
    ("ci", "options"), [("", ("--require-baseline",)), ("true", ()), ("1", ()), ("woodpecker", ())]
)
def test_none_is_made(
    empty_project: PluginProject,
    monkeypatch: pytest.MonkeyPatch,
    ci: str,
    options: tuple[str, ...],
) -> None:
    monkeypatch.setenv("CI", ci)
    result = empty_project.run("fake-reference", *options)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines([REFUSED])
    result.stdout.fnmatch_lines(["*: pytest -p harness.plugin --device=fake-reference *"])
    assert not (empty_project.path / "baselines").exists()


@pytest.mark.parametrize(
    ("ci", "options"),
    [
        ("", ()),
        ("false", ()),
        ("0", ()),
        ("true", ("--no-require-baseline",)),
        ("true", ("--update-baselines",)),
    ],
)
def test_it_is_made_elsewhere_and_where_it_is_asked_for(
    empty_project: PluginProject,
    monkeypatch: pytest.MonkeyPatch,
    ci: str,
    options: tuple[str, ...],
) -> None:
    monkeypatch.setenv("CI", ci)
    empty_project.run("fake-reference", *options).assert_outcomes(**HELD)


def test_a_recording_that_went_first_gets_its_baseline(
    empty_project: PluginProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty_project.run("fake", "--engine-arg=seed=4")
    monkeypatch.setenv("CI", "true")
    kept = empty_project.recording.rename(empty_project.path / "port.json")
    empty_project.run("fake-reference", f"--context={kept.name}").assert_outcomes(**HELD)


def test_one_that_is_there_is_used(project: PluginProject, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    project.run("fake").assert_outcomes(**HELD)


def test_it_cannot_be_required_and_replaced(project: PluginProject) -> None:
    line = usage_error(project.run("fake-reference", "--require-baseline", "--update-baselines"))
    assert "--update-baselines and --require-baseline cannot go together" in line


@pytest.mark.parametrize("selection", [(), ("-k", "performance"), ("-k", "test_verdict")])
def test_a_selection_does_not_pass_without_it(
    empty_project: PluginProject, selection: tuple[str, ...]
) -> None:
    result = empty_project.run("fake-reference", "--require-baseline", *selection)
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    assert result.parseoutcomes()["errors"] == 1
