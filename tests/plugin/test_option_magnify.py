from __future__ import annotations

from plugin_project import PluginProject


def test_without_it_nothing_is_magnified(project: PluginProject) -> None:
    project.run("fake").stdout.no_fnmatch_line("*magnifier*")
    assert project.alignment()["magnifier"] is None


def test_a_correct_engine_passes_it(project: PluginProject) -> None:
    result = project.run("fake", "--magnify", "--engine-arg=seed=3", "-v")
    result.stdout.fnmatch_lines(["*test_magnifier PASSED*", "  PASS *magnifier: In float16*"])
    found = project.alignment()["magnifier"]
    assert (found["dtype"], found["status"]) == ("float32", "PASS")
    for dtype in ("float16", "float32"):
        assert (project.path / f"baselines/fake/s/{dtype}/reference.json").is_file()
    assert found["baseline"] == "baselines/fake/s/float32"


def test_it_only_warns(project: PluginProject) -> None:
    """A device that is wrong in both dtypes fails by the verdict, never by this."""
    arguments = ("--magnify", "--engine-arg=fault=scale", "--engine-arg=seed=3", "-v")
    result = project.run("fake", *arguments)
    result.stdout.fnmatch_lines(["*test_magnifier PASSED*", "*In float16, whose noise is lower*"])
    found = project.alignment()
    assert found["magnifier"]["status"] == "WARN"
    assert found["magnifier"]["sentence"] in found["warnings"]


def test_a_run_in_float16_skips_it(project: PluginProject) -> None:
    project.run("fake-reference", "--dtype=float16")
    result = project.run("fake", "--dtype=float16", "--magnify", "-rs")
    result.stdout.fnmatch_lines(["*Not applicable in float16: the run itself is in float16*"])


def test_a_baseline_that_cannot_be_made_is_named_with_its_command(project: PluginProject) -> None:
    """A single baseline under another name: its place says nothing of where another belongs."""
    (project.path / "baselines/fake/s/bfloat16").rename(project.path / "one")
    result = project.run("fake", "--magnify", "--baseline-dir=one", "-rs")
    result.stdout.fnmatch_lines(["*no baseline in float16*harness baseline make*--dtype float16*"])
