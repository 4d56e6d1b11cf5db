from __future__ import annotations

import pytest
from plugin_project import PluginProject, usage_error


def test_it_goes_with_the_server_alone(project: PluginProject) -> None:
    line = usage_error(project.run("fake", "--server-url=http://127.0.0.1:1"))
    assert "--server-url goes with --device=server, not with fake" in line


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "ftp://h", "http://"])
def test_what_is_no_address_is_refused(project: PluginProject, url: str) -> None:
    line = usage_error(project.run("server", f"--server-url={url}"))
    assert "--server-url must be http://HOST:PORT" in line


def test_credentials_in_it_are_refused_and_not_shown(project: PluginProject) -> None:
    result = project.run("server", "--server-url=http://user:secret@127.0.0.1:1")
    assert "HARNESS_API_KEY" in usage_error(result)
    assert "secret" not in usage_error(result)
