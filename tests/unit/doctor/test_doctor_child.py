"""The file that the doctor runs in a child process."""

from __future__ import annotations

import getpass
import os

import pytest

from harness.doctor.child import name_the_user


@pytest.mark.parametrize("error", [KeyError("getpwuid(): uid not found"), OSError("no user")])
def test_a_user_without_a_name_gets_one(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise error

    monkeypatch.setenv("USER", "")
    monkeypatch.setattr(getpass, "getuser", nameless)
    name_the_user()
    assert os.environ["USER"] == f"user-{os.getuid()}"


def test_a_user_with_a_name_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USER", "somebody")
    monkeypatch.setattr(getpass, "getuser", lambda: "somebody")
    name_the_user()
    assert os.environ["USER"] == "somebody"
