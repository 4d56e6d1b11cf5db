"""What long work shows: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

#: Seconds between two plain lines of one stage.
LINE_EVERY_S = 10.0


class Progress:
    """Says on stderr what is being done and how long it has left.

    Args:
        stream: where to write; stderr by default.
        live: a bar that redraws itself; by default where the stream is a
            terminal.
        clock: seconds, monotonic; for tests.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        live: bool | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream if stream is not None else sys.stderr
        self._live = self._stream.isatty() if live is None else live
        self._clock = clock

    def note(self, text: str) -> None:
        """One line that stays."""
        self._write(text + "\n")

    @contextmanager
    def stage(self, what: str, total: int) -> Iterator[Callable[[], None]]:
        """Work of ``total`` steps; call the yielded function after each.

        The time left is the mean time of the finished steps, so it is shown
        only once there are some.
        """
        start = self._clock()
        state = {"done": 0, "shown": start}
        if not self._live:
            self.note(f"{what}: {total} steps" if total > 1 else what)

        def step() -> None:
            state["done"] += 1
            now = self._clock()
            every = 0.1 if self._live else LINE_EVERY_S
            if now - state["shown"] >= every:
                state["shown"] = now
                self._show(what, int(state["done"]), total, now - start)

        try:
            yield step
        finally:
            if self._live:
                self._write("\r\x1b[K")
            elapsed = self._clock() - start
            if state["done"]:
                self.note(f"{what}: {int(state['done'])} of {total} in {_duration(elapsed)}")

    def _show(self, what: str, done: int, total: int, elapsed: float) -> None:
        left = max(total - done, 0) * elapsed / done
        line = f"{what}: {done} of {total}, {_duration(left)} left"
        if self._live:
            filled = min(20, 20 * done // max(total, 1))
            self._write(f"\r\x1b[K{line} [{'#' * filled}{'.' * (20 - filled)}]")
        else:
            self.note(line)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class Silent(Progress):
    """Progress for callers that print nothing."""

    def __init__(self) -> None:
        super().__init__(live=False)

    def _write(self, text: str) -> None:  # noqa: ARG002 - nothing is written
        return


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02d} s"
