"""The checks run from a project that has nothing to do with this one."""

from __future__ import annotations

import pytest
from plugin_project import HELD, PluginProject


def test_its_own_settings_do_not_stop_the_checks(project: PluginProject) -> None:
    project.pytester.makeini(
        "[pytest]\naddopts = --strict-markers --strict-config\ntestpaths = own\n"
        "filterwarnings = error\nxfail_strict = true\n"
    )
    own = project.pytester.mkpydir("own")
    (own / "test_own.py").write_text("def test_own(): assert False")
    project.run("fake").assert_outcomes(**HELD)


@pytest.mark.process
def test_a_fresh_process_needs_only_the_plugins_name(
    project: PluginProject,
) -> None:
    result = project.pytester.runpytest_subprocess(
        "-p", "harness.plugin", "--device=fake", "--suite=s.yaml"
    )
    assert result.ret == pytest.ExitCode.OK
    result.assert_outcomes(**HELD)
    result.stderr.fnmatch_lines(["fake s free: 24 of 24 in *"])


def test_its_conftest_can_load_the_plugin(project: PluginProject) -> None:
    project.pytester.makeconftest('pytest_plugins = ["harness.plugin"]')
    project.pytester.runpytest_inprocess("--device=fake", "--suite=s.yaml").assert_outcomes(**HELD)
