"""Loads the plugin for this project. Other projects say ``-p harness.plugin``."""

import os

import pytest

#: More spend longer on their imports than on tests.
_MOST_WORKERS = 8


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    # Not `pytest_plugins`, which is an error where this file is not the top
    # conftest: the checks of an editable install are run from other projects.
    pluginmanager.import_plugin("harness.plugin")
    pluginmanager.import_plugin("pytester")  # for the plugin's own tests


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> None:
    """Spread the project's own tests over the cores, as ``-n`` does.

    Not by `addopts`: `-n` is unknown without pytest-xdist, which the base install lacks,
    and a device's checks must not be spread. Whoever chooses tests by file or by marker
    chooses `-n` as well: an engine has threads of its own.
    """
    option = config.option
    every_quick_test = (
        config.args_source is pytest.Config.ArgsSource.TESTPATHS
        and option.markexpr in config.getini("addopts")
    )
    if (
        every_quick_test
        and not hasattr(config, "workerinput")  # a worker has no workers of its own
        and option.device is None
        and config.pluginmanager.hasplugin("xdist")
        and option.numprocesses is None
        and option.dist == "no"
    ):
        option.numprocesses = min(_cores(), _MOST_WORKERS)
        option.dist = "worksteal"


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS
        return os.cpu_count() or 1
