"""What a command prints: text of a file is never obeyed by a terminal or a CI's log."""

from __future__ import annotations

import json
from typing import Any

from harness.errors import log_json, log_line


def say(text: str, *, err: bool = False) -> None:
    """Print one line; whatever the text holds, it stays one."""
    import typer  # not when pytest loads the plugin

    if err:
        typer.echo(log_line(text), err=True)
    else:
        typer.echo(log_line(text))


def say_json(value: Any) -> None:
    """Print a value as JSON over lines."""
    import typer

    typer.echo(log_json(json.dumps(value, indent=2, ensure_ascii=False)))
