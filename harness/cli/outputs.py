"""Print an outcome, then write its files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path


def tell_and_write(
    lines: Iterable[str],
    writers: Mapping[Path, Callable[[Path], None]],
    *,
    also: Sequence[Path] = (),
) -> None:
    """Print an outcome, then write its files and name them.

    Args:
        writers: what writes each file.
        also: files that were written before, to be named first.

    Raises:
        HarnessError: if a file cannot be written; the outcome was told.
    """
    import typer  # not where pytest loads the plugin

    try:
        for line in lines:
            typer.echo(line)
    finally:  # `| head -1` closes the pipe, and takes no file away by it
        for path, write in writers.items():
            write(path)
    for path in (*also, *writers):
        typer.echo(f"written: {path}")
