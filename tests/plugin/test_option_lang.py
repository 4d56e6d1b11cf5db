from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest
from plugin_project import PluginProject, usage_error


def test_reports_are_in_the_language_asked_for(project: PluginProject) -> None:
    project.run("fake", "--lang=zh", "--report=r.md")
    assert "所有判据" in (project.path / "r.md").read_text("utf-8")
    page = (project.path / "reports/fake-s-bfloat16-fake.html").read_text("utf-8")
    assert '<html lang="zh">' in page


def test_the_locale_decides_where_nothing_is_asked(
    project: PluginProject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LC_ALL", "zh_CN.UTF-8")
    project.run("fake", "--report=r.md")
    assert "所有判据" in (project.path / "r.md").read_text("utf-8")


def test_an_unknown_language_is_refused_before_anything_runs(project: PluginProject) -> None:
    assert "--lang fr: a report is in en" in usage_error(project.run("fake", "--lang=fr"))


def test_a_step_summary_is_written_where_the_runner_asks(
    project: PluginProject, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "summary.md"))
    project.run("fake", "--lang=en")
    assert "## ✓ BIT_EXACT" in (tmp_path / "summary.md").read_text("utf-8")


def test_junit_holds_gates_prompts_and_the_verdict_as_properties(project: PluginProject) -> None:
    project.run("fake", "--junit-xml=j.xml")
    root = ElementTree.parse(project.path / "j.xml").getroot()
    found: dict[str, str] = {}
    for case in root.iter("testcase"):
        for one in case.iter("property"):
            found[f"{case.get('name')}/{one.get('name')}"] = one.get("value") or ""
    assert found["test_verdict/harness.verdict"] == "BIT_EXACT"
    assert found["test_gate[point_guard]/harness.point_guard.status"] == "PASS"
    assert found["test_gate[coverage]/harness.coverage"] == "1.0"
    assert found["test_prompt[alpha]/harness.prompt.verdict"] == "BIT_EXACT"
