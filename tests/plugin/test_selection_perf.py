"""``-m perf``: throughput and latency on a grid, on the fake."""

from __future__ import annotations

from plugin_project import PluginProject

from harness.bench.result import load_bench


def test_it_is_left_out_unless_asked_for(project: PluginProject) -> None:
    result = project.run("fake")
    assert "test_bench" not in result.stdout.str()


def test_it_judges_first_and_keeps_every_sample(project: PluginProject) -> None:
    result = project.run("fake", "-m", "perf", "--engine-arg=seed=4")
    assert result.parseoutcomes()["passed"] == 1
    result.stdout.fnmatch_lines(["report: reports/fake-s-bfloat16-fake.bench.html"])
    made = load_bench(project.recording.with_suffix(".bench.json"))
    assert made.complete
    assert made.accuracy.verdict == project.alignment()["verdict"]
    assert [c.cell.prompt_tokens for c in made.cells] == [32, 128, 512]
    assert {len(c.repeats) for c in made.cells} == {5}


def test_figures_of_wrong_tokens_fail(project: PluginProject) -> None:
    result = project.run("fake", "-m", "perf", "--engine-arg=fault=scale")
    assert result.parseoutcomes()["failed"] == 1
    result.stdout.fnmatch_lines(["*the figures are of tokens that were not shown to be right*"])
    page = project.recording.with_suffix(".bench.html").read_text("utf-8")
    assert 'class="crossed"' in page
