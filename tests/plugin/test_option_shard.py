"""Parts of a suite on several jobs, and the verdict over all of them."""

from __future__ import annotations

import re
import shlex

import pytest
from plugin_project import PluginProject, usage_error

from harness.cli.main import main
from harness.recording.format import load_recording

SEED = "--engine-arg=seed=4"


def test_parts_pass_by_themselves_and_are_judged_together(
    project: PluginProject, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2):
        result = project.run("fake", SEED, f"--shard={number}/2")
        assert result.ret == pytest.ExitCode.OK
        assert result.parseoutcomes()["passed"] >= 4
    told = re.search(r"judge the whole: (.*)", result.stdout.str())
    assert told is not None
    words = shlex.split(told[1])
    parts = sorted(path.as_posix() for path in project.path.glob("reports/*-shard-*-of-2.json"))
    place = words.index("reports/fake-s-bfloat16-fake-shard-*-of-2.json")
    words[place : place + 1] = parts
    with pytest.raises(SystemExit) as ended:
        main(words[1:])
    assert ended.value.code == 0, capsys.readouterr().err
    whole = load_recording(project.recording)
    assert [p.id for p in whole.prompts] == ["alpha", "beta", "gamma", "delta"]
    with pytest.raises(SystemExit) as ended:
        main(["compare", str(project.recording), str(project.baseline)])
    assert ended.value.code == 0
    assert "coverage: All 24 positions" in capsys.readouterr().out


def test_each_part_has_its_own_prompts_and_file(project: PluginProject) -> None:
    result = project.run("fake", "--shard=2/3", "-v")
    assert re.findall(r"test_prompt\[(\w+)\]", result.stdout.str()) == ["beta"]
    made = load_recording(project.path / "reports/fake-s-bfloat16-fake-shard-2-of-3.json")
    assert [prompt.id for prompt in made.prompts] == ["beta"]


def test_a_broken_part_fails(project: PluginProject) -> None:
    for selection in ((), ("-k", "performance")):
        result = project.run("fake", "--engine-arg=fault=scale", "--shard=2/2", *selection)
        assert result.ret == pytest.ExitCode.TESTS_FAILED


def test_a_selection_of_a_part_does_not_replace_it(project: PluginProject) -> None:
    project.run("fake", SEED, "--shard=1/2")
    before = (project.path / "reports/fake-s-bfloat16-fake-shard-1-of-2.json").read_bytes()
    selected = project.run("fake", SEED, "--shard=1/2", "-k", "test_prompt and alpha")
    selected.stdout.no_fnmatch_line("*judge the whole*")
    after = (project.path / "reports/fake-s-bfloat16-fake-shard-1-of-2.json").read_bytes()
    assert before == after
    assert (project.path / "reports/fake-s-bfloat16-fake-shard-1-of-2-selected.json").exists()


@pytest.mark.parametrize("more", ["--matrix", "--magnify", "--diagnose"])
def test_what_needs_the_whole_is_refused(project: PluginProject, more: str) -> None:
    assert "need the whole" in usage_error(project.run("fake", "--shard=1/2", more))


def test_more_parts_than_prompts_are_refused(project: PluginProject) -> None:
    assert "has 4 prompts" in usage_error(project.run("fake", "--shard=1/5"))
