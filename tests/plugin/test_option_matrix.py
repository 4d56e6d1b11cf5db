from __future__ import annotations

from plugin_project import PluginProject


def test_without_it_no_cell_is_run_or_tested(project: PluginProject) -> None:
    result = project.run("fake")
    result.stdout.no_fnmatch_line("*matrix*")
    assert project.alignment()["matrix"] == []


def test_it_adds_a_test_for_every_cell(project: PluginProject) -> None:
    result = project.run("fake", "--matrix", "-v")
    outcomes = ["repeat* PASSED", "batch* SKIPPED", "graph* SKIPPED"]
    outcomes += ["prefix_cache* SKIPPED", "chunked_prefill* SKIPPED", "canary* SKIPPED"]
    result.stdout.fnmatch_lines([f"*test_matrix?{line}*" for line in outcomes])
    cells = project.alignment()["matrix"]
    assert [c["status"] for c in cells] == ["PASS"] + ["NOT_RUN"] * 5
    # Every prompt is run twice, not two of them.
    assert cells[0]["rows"] == sum(p["tokens_compared"] for p in project.alignment()["prompts"])


def test_the_summary_shows_the_cells(project: PluginProject) -> None:
    result = project.run("fake", "--matrix")
    result.stdout.fnmatch_lines(
        [
            "  PASS *matrix, first run against second: A repeated run gave the same bits*",
            "  NOT_RUN *matrix, batch 1 against 8: Not run: fake runs one request at a time.",
        ]
    )


def test_a_suite_can_ask_for_it(project: PluginProject) -> None:
    suite = project.path / "s.yaml"
    digest = project_digest(project)
    suite.write_text("matrix: true\n" + suite.read_text("utf-8"), "utf-8")
    result = project.run("fake")
    result.stdout.fnmatch_lines(["*matrix, first run against second*"])
    # It changes nothing that is compared, so the baseline still stands.
    assert project.alignment()["candidate"]["suite"]["digest"] == digest


def project_digest(project: PluginProject) -> str:
    project.run("fake")
    return str(project.alignment()["candidate"]["suite"]["digest"])


def test_a_device_that_does_not_repeat_fails_its_cell(project: PluginProject) -> None:
    result = project.run("fake", "--matrix", "--engine-arg=fault=unsteady", "-v")
    cell = project.alignment()["matrix"][0]
    assert cell["status"] in ("WARN", "FAIL")
    assert cell["rows_equal"] < cell["rows"]
    shown = "FAILED" if cell["status"] == "FAIL" else "PASSED"
    result.stdout.fnmatch_lines([f"*test_matrix?repeat* {shown}*"])


def test_the_command_that_repeats_the_run_says_so(project: PluginProject) -> None:
    project.run("fake", "--matrix", "--magnify")
    assert " --matrix --magnify" in project.alignment()["reproduce"][0]
