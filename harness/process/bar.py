"""A bar on a terminal, drawn by rich. Imported only where one is drawn: it takes 0.1 s."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn


class _Writer:
    """A stream for rich that writes with one function."""

    def __init__(self, write: Callable[[str], None], encoding: str) -> None:
        self._write = write
        self.encoding = encoding  # rich draws with ASCII where it is not UTF-8

    def write(self, text: str) -> int:
        self._write(text)
        return len(text)

    def flush(self) -> None:
        """Each write is flushed."""


class _Console(Console):
    def show_cursor(self, show: bool = True) -> bool:  # noqa: ARG002 - rich's signature
        """Never hidden: a process that is killed could not show it again."""
        return False

    def line(self, count: int = 1) -> None:
        """No line is begun for a bar that ends: it is wiped where it stands."""


class Bar:
    """One line, redrawn by :meth:`show`, wiped at the end.

    Args:
        write: puts characters on the terminal and flushes.
        encoding: of the terminal.
        what: the text until the first step.
        total: steps, or bytes.
    """

    def __init__(self, write: Callable[[str], None], encoding: str, what: str, total: int) -> None:
        self._write = write
        file: Any = _Writer(write, encoding)
        console = _Console(file=file, force_terminal=True)
        self._rich = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            console=console,
            auto_refresh=False,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._rich.add_task(what, total=total)

    def __enter__(self) -> Bar:
        self._rich.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._rich.stop()
        # rich itself would go up one line, which looks as if a text of a file had done it.
        self._write("\r\x1b[2K")

    def show(self, text: str, done: int) -> None:
        """Redraw with this text."""
        self._rich.update(self._task, description=text, completed=done, refresh=True)

    def note(self, text: str) -> None:
        """A line that stays, above the bar."""
        self._rich.console.print(text, markup=False, highlight=False, soft_wrap=True)
