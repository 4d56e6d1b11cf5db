from __future__ import annotations

import json
import re
from xml.etree import ElementTree

import pytest
from plugin_project import PluginProject, usage_error


def test_the_html_report_is_always_written_and_named_last(project: PluginProject) -> None:
    result = project.run("fake")
    result.stdout.fnmatch_lines(
        ["report: reports/fake-s-bfloat16-fake.html", "=* 27 passed, 2 skipped*"]
    )
    page = (project.path / "reports/fake-s-bfloat16-fake.html").read_text("utf-8")
    assert "BIT_EXACT" in page
    assert not re.search(r"""(src|href)=["']?https?:""", page)


def test_every_asked_for_format_is_written(project: PluginProject) -> None:
    result = project.run("fake", "--report=a/b.html", "--report=c.md", "--report=d.json")
    result.stdout.fnmatch_lines(["report: a/b.html", "report: c.md", "report: d.json"])
    assert "<html" in (project.path / "a/b.html").read_text("utf-8")
    assert "BIT_EXACT" in (project.path / "c.md").read_text("utf-8")
    written = json.loads((project.path / "d.json").read_text("utf-8"))
    assert written["verdict"] == "BIT_EXACT"
    assert written["positions"] == 24
    assert written == project.alignment()


def test_a_report_of_another_suffix_is_refused_before_anything_runs(
    project: PluginProject,
) -> None:
    line = usage_error(project.run("fake", "--report=x.pdf"))
    assert "--report x.pdf: the suffix must be .html, .md or .json" in line
    assert not (project.path / "reports").exists()


def test_a_report_that_cannot_be_written_is_one_line_after_the_summary(
    project: PluginProject,
) -> None:
    result = project.run("fake", "--report=s.yaml/x.html")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(
        ["BIT_EXACT: *", "harness: error: s.yaml/x.html: cannot be written (*)*", "*27 passed*"]
    )
    result.stdout.no_fnmatch_line("report: *")


def test_a_report_in_the_place_of_what_is_judged_is_refused(project: PluginProject) -> None:
    project.run("fake")
    kept = project.path / "port.json"
    project.recording.rename(kept)
    before = kept.read_bytes()
    result = project.run("fake", "--context=port.json", "--report=port.json")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*harness: port.json: is the input port.json, which would be*"])
    assert kept.read_bytes() == before
    inside = f"{project.baseline}/alignment.json"
    result = project.run("fake", f"--report={inside}")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines([f"*harness: {inside}: lies inside the input *"])


def test_a_reports_folder_that_cannot_be_written_is_one_line(project: PluginProject) -> None:
    (project.path / "reports").write_text("a file in the way")
    result = project.run("fake")
    assert result.ret == pytest.ExitCode.INTERRUPTED
    result.stdout.fnmatch_lines(["*harness: reports/*cannot be written (*)*"])
    assert "Traceback" not in result.stdout.str()
    assert "of 24" not in result.stderr.str()  # refused before the work, not after


def test_the_alignment_names_the_commands_that_repeat_the_run(project: PluginProject) -> None:
    project.run("fake", "--engine-arg=seed=4", "--allow-weights")
    (command,) = project.alignment()["reproduce"]
    assert command == (
        "pytest -p harness.plugin --device=fake --model=smollm2 --engine-arg=seed=4 "
        "--suite=s.yaml --allow-weights"
    )


def test_another_folder_holds_what_a_run_leaves(project: PluginProject) -> None:
    result = project.run("fake", "--report-dir=out/of a run")
    assert result.ret == pytest.ExitCode.OK
    left = {path.name for path in (project.path / "out/of a run").iterdir()}
    stem = "fake-s-bfloat16-fake"
    assert left == {f"{stem}.json", f"{stem}.alignment.json", f"{stem}.html"}
    assert not (project.path / "reports").exists()


@pytest.mark.parametrize(("options", "prefix"), [((), "fake"), (("--junitprefix=mine",), "mine")])
def test_junit_names_the_device(
    project: PluginProject, options: tuple[str, ...], prefix: str
) -> None:
    project.run("fake", "--junitxml=j.xml", *options)
    names = {str(case.get("classname")) for case in ElementTree.parse("j.xml").iter("testcase")}
    assert names
    assert all(name.startswith(f"{prefix}.") for name in names)
