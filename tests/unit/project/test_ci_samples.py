"""The sample workflows name options and files that there are, and their judging command runs."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.baseline.folder import baseline_folder
from harness.cli.main import main
from harness.model.model import Model
from harness.session.pytest_options import OPTIONS

ROOT = Path(__file__).parents[3]
SAMPLES = sorted((ROOT / "docs/ci").glob("*.yml"))


def commands(path: Path) -> list[str]:
    """Every shell command of a workflow that calls the harness or pytest."""
    text = path.read_text("utf-8").replace("\\\n", " ")
    found = re.findall(r"(?:harness(?:\.doctor)?|-m pytest) [^\n]*", text)
    return [line.strip() for line in found if " --" in line]


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_a_sample_is_yaml_and_has_a_command(path: Path) -> None:
    assert yaml.safe_load(path.read_text("utf-8"))
    assert commands(path)


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_every_option_of_a_sample_is_one_of_ours(path: Path) -> None:
    from harness import cli, plugin

    known = set(re.findall(r'"(--[\w-]+)"', Path(plugin.__file__).read_text("utf-8")))
    for module in Path(cli.__file__).parent.glob("*.py"):
        names = re.findall(r"^    (\w+): ", module.read_text("utf-8"), re.MULTILINE)
        known |= {f"--{name.replace('_', '-')}" for name in names}
    known |= {name for name, _, _ in OPTIONS}
    known |= {"--junit-xml", "--version"}
    for command in commands(path):
        words = shlex.split(re.sub(r"\$\{\{.*?\}\}", "X", command))
        options = {word.split("=")[0] for word in words if word.startswith("--")}
        assert options <= known, command


@pytest.mark.parametrize("name", ["github-ascend.yml", "gitlab.yml"])
def test_a_sample_for_ascend_prepares_the_host_as_the_page_says(name: str) -> None:
    text = (ROOT / "docs/ci" / name).read_text("utf-8")
    page = (ROOT / "docs/ascend.md").read_text("utf-8")
    wanted = re.findall(r"^export (.+)$", page, re.MULTILINE)
    variables = dict(pair.split("=") for line in wanted for pair in line.split())
    assert len(variables) == 5
    assert dict(re.findall(r'^ +(\w+): "([^"]*)"', text, re.MULTILINE)).items() >= variables.items()
    sources = re.findall(r"^source (\S+)", page, re.MULTILINE)
    assert len(sources) == 2
    assert set(re.findall(r"source (\S+)", text)) == set(sources)
    assert "harness.doctor --device npu" in commands(ROOT / "docs/ci" / name)


def test_a_samples_baseline_is_that_of_its_model_and_suite() -> None:
    given = yaml.safe_load((ROOT / "docs/ci/gitlab.yml").read_text("utf-8"))["variables"]
    slug = Model(given["MODEL"], given["MODEL"]).slug
    folder = baseline_folder(Path("baselines"), slug, given["SUITE"], "bfloat16")
    assert Path(given["BASELINE"]) == folder


@pytest.mark.parametrize("name", ["github-rejudge.yml", "gitlab.yml"])
def test_the_judging_command_runs_as_it_stands(
    project_folder: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", "summary.md")
    line = next(c for c in commands(ROOT / "docs/ci" / name) if c.startswith("harness compare"))
    baseline = "baselines/fake/s/bfloat16"
    line = line.replace("$RECORDING", "npu.json").replace("$BASELINE", baseline)
    with pytest.raises(SystemExit):
        main(["record", "--device", "fake", "--suite", "s.yaml", "--out", "npu.json"])
    with pytest.raises(SystemExit) as ended:
        main(shlex.split(line)[1:])
    assert ended.value.code == 0
    for file in ("alignment.json", "report.html", "comment.md", "summary.md"):
        assert Path(file).stat().st_size > 500
    assert "BIT_EXACT" in Path("comment.md").read_text("utf-8")


def jobs(path: Path) -> dict[str, Any]:
    """The jobs of a workflow, GitHub's or GitLab's."""
    content = yaml.safe_load(path.read_text("utf-8"))
    found = content.get("jobs", content)
    return {
        name: job for name, job in found.items() if isinstance(job, dict) and name != "variables"
    }


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_actions_are_named_by_digest(path: Path) -> None:
    used = re.findall(r"uses: (\S+)", path.read_text("utf-8"))
    assert all(re.search(r"@[0-9a-f]{40}$", action) for action in used)
    assert used or path.name.startswith("gitlab")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_the_code_of_a_fork_does_not_reach_an_own_machine(path: Path) -> None:
    for job in jobs(path).values():
        if "self-hosted" in str(job.get("runs-on")):
            assert "head.repo.full_name == github.repository" in job["if"]
        if "ascend" in str(job.get("tags")):
            first = job["rules"][0]
            assert "SOURCE_PROJECT_ID != $CI_PROJECT_ID" in first["if"]
            assert first["when"] == "never"


@pytest.mark.parametrize("path", SAMPLES, ids=lambda p: p.name)
def test_no_token_lies_beside_the_code_of_a_request(path: Path) -> None:
    content = yaml.safe_load(path.read_text("utf-8"))
    if "jobs" in content:
        assert content["permissions"] == {"contents": "read"}
    for job in jobs(path).values():
        text = yaml.safe_dump(job)
        if "checkout" in text:
            assert "persist-credentials: false" in text
            assert "permissions" not in job
        if "checkout" in text or "script" in job:
            assert not re.search(r"TOKEN|SECRET|PASSWORD|github\.token|secrets\.", text)
