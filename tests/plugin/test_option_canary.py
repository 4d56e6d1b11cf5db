from __future__ import annotations

from plugin_project import PluginProject


def test_without_it_no_canary_is_run(project: PluginProject) -> None:
    project.run("fake").stdout.no_fnmatch_line("*test_canary*")


def test_a_device_without_a_checkpoint_is_refused(project: PluginProject) -> None:
    result = project.run("fake", "--canary")
    assert result.ret != 0
    result.stderr.fnmatch_lines(["*--canary needs a device that runs a checkpoint, not fake*"])
