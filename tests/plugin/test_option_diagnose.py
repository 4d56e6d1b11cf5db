from __future__ import annotations

from plugin_project import PluginProject


def test_without_it_nothing_is_diagnosed(project: PluginProject) -> None:
    project.run("fake").stdout.no_fnmatch_line("*test_diagnosis*")
    assert project.alignment()["diagnosis"] is None
    assert "systematic" not in {gate["name"] for gate in project.alignment()["gates"]}


def test_a_model_without_an_oracle_here_is_a_warning(project: PluginProject) -> None:
    """The fake device has no checkpoint that could be asked."""
    result = project.run("fake", "--diagnose", "--model=absent", "--engine-arg=seed=3", "-rs")
    result.stdout.fnmatch_lines(["*nothing was diagnosed*"])
    found = project.alignment()
    assert found["diagnosis"] is None
    (said,) = [w for w in found["warnings"] if w.startswith("No diagnosis: ")]
    assert "\n" not in said
    assert "--diagnose" in found["reproduce"][0]
