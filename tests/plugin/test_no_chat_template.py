"""A suite with chat messages on a model that has no chat template."""

from __future__ import annotations

import json

import pytest
from plugin_project import HELD, TESTS, PluginProject

from harness.devices import fake

CHATS = (
    "  - {id: chat, messages: [{role: user, content: hi}]}\n"
    "  - {id: talk, messages: [{role: user, content: ho}]}\n"
)


@pytest.fixture
def base_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fake.FakeTokenizer, "template", None)


@pytest.fixture
def with_chats(empty_project: PluginProject) -> PluginProject:
    with (empty_project.path / "s.yaml").open("a", encoding="utf-8") as file:
        file.write(CHATS)
    return empty_project


@pytest.mark.usefixtures("base_model")
def test_chats_are_skipped_and_every_arm_holds_the_same_rest(with_chats: PluginProject) -> None:
    made = with_chats.run("fake-reference")
    made.assert_outcomes(passed=HELD["passed"], skipped=HELD["skipped"] + 2)
    made.stderr.fnmatch_lines(
        ["suite s: 2 of 6 prompts are left out, because the model fake has no chat *: chat, talk"]
    )
    result = with_chats.run("fake", "--engine-arg=seed=4", "-rs")
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(passed=HELD["passed"], skipped=HELD["skipped"] + 2)
    result.stdout.fnmatch_lines(
        [
            "  warning: 2 prompts of the suite were not run, because the model has no chat "
            "template: chat, talk.",
            "SKIPPED*chat: chat messages, and the model has no chat template",
        ]
    )
    alignment = with_chats.alignment()
    arms = [alignment["candidate"], *alignment["baseline"]]
    assert [arm["suite"]["left_out"] for arm in arms] == [["chat", "talk"]] * 5
    assert len({arm["suite"]["digest"] for arm in arms}) == 1
    assert [p["id"] for p in alignment["prompts"]] == ["alpha", "beta", "gamma", "delta"]


@pytest.mark.usefixtures("base_model")
def test_a_choice_of_chats_alone_is_an_error_and_no_pass(with_chats: PluginProject) -> None:
    assert with_chats.run("fake-reference").ret == pytest.ExitCode.OK
    result = with_chats.run("fake", "-k", "chat or talk")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["*none of the prompts of suite s that this model can be given is selected*"]
    )


@pytest.mark.usefixtures("base_model")
def test_all_but_the_chats_is_a_whole_run(with_chats: PluginProject) -> None:
    assert with_chats.run("fake-reference").ret == pytest.ExitCode.OK
    result = with_chats.run("fake", "-k", "alpha or beta or gamma or delta")
    result.assert_outcomes(passed=4)
    assert with_chats.recording.exists()


def test_a_template_on_one_side_alone_is_not_comparable(
    with_chats: PluginProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as base:
        base.setattr(fake.FakeTokenizer, "template", None)
        assert with_chats.run("fake-reference").ret == pytest.ExitCode.OK
    result = with_chats.run("fake", "--engine-arg=seed=4")
    assert result.ret == pytest.ExitCode.TESTS_FAILED
    result.stdout.fnmatch_lines(["NOT_COMPARABLE: *suite.digest*"])


def test_with_a_template_the_chats_run_as_ever(with_chats: PluginProject) -> None:
    result = with_chats.run("fake-reference")
    result.assert_outcomes(passed=TESTS + 2 - HELD["skipped"], skipped=HELD["skipped"])
    assert "left out" not in result.stderr.str()
    reference = json.loads((with_chats.baseline / "reference.json").read_text("utf-8"))
    assert reference["suite"].keys() == {"name", "digest"}
    assert len(reference["prompts"]) == 6
