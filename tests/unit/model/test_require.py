"""A package that is there and does not load ends in one line, whatever it raises."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

import pytest

from harness.errors import MissingDependency
from harness.model.hub import require


@pytest.mark.parametrize(
    "raised", ["KeyError('getpwuid(): uid not found: 12345')", "AttributeError('x')", "OSError(5)"]
)
def test_a_package_that_does_not_load(
    raised: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken_{abs(hash(raised))}"
    (tmp_path / f"{name}.py").write_text(f"raise {raised}\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependency, match="it is installed but does not load"):
        require(name, "a test")


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found"), OSError("no user")])
def test_a_user_without_a_name_gets_one(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise error

    monkeypatch.setenv("USER", "")
    monkeypatch.setattr(getpass, "getuser", nameless)
    require("json", "a test")
    assert os.environ["USER"] == f"user-{os.getuid()}"
