"""Loads the plugin for this project. Other projects say ``-p harness.plugin``."""

import pytest


def pytest_addoption(pluginmanager: pytest.PytestPluginManager) -> None:
    # Not `pytest_plugins`, which is an error where this file is not the top
    # conftest: the checks of an editable install are run from other projects.
    pluginmanager.import_plugin("harness.plugin")
    pluginmanager.import_plugin("pytester")  # for the plugin's own tests
