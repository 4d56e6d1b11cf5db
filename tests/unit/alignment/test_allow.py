from __future__ import annotations

from typing import Any

import pytest
import typer

from harness.alignment.allow import STRICT, Allow
from harness.cli.main import app

EVERY = [Allow(weights, dtype) for weights in (False, True) for dtype in (False, True)]


def test_nothing_is_allowed_unless_it_is_asked_for() -> None:
    assert Allow(weights=False, dtype=False) == STRICT
    assert STRICT.options() == []


@pytest.mark.parametrize("allow", EVERY, ids=lambda allow: " ".join(allow.options()) or "nothing")
def test_its_options_are_read_as_itself(allow: Allow) -> None:
    commands: Any = typer.main.get_command(app)
    arguments = ["candidate.json", "baseline", *allow.options()]
    found = commands.commands["compare"].make_context("compare", arguments).params
    assert Allow(found["allow_weights"], found["allow_dtype"]) == allow
