"""Progress: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Protocol, TextIO

from harness.errors import printable

if TYPE_CHECKING:
    from harness.process.bar import Bar

#: Seconds between two plain lines of one stage.
LINE_EVERY_S = 10.0
#: Seconds between two drawings of a bar.
_DRAW_EVERY_S = 0.1


class Step(Protocol):
    """Called when steps, or bytes, are done; from any thread."""

    def __call__(self, count: int = 1, /) -> None: ...


class Progress:
    """Says on stderr what is being done and how long it has left.

    Args:
        stream: where to write; stderr by default.
        live: a bar that redraws itself; by default where the stream is a
            terminal.
        clock: seconds, monotonic; for tests.
    """

    _bar: Bar | None = None

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
        self._said: set[str] = set()

    def once(self, text: str) -> None:
        """A line that stays, said the first time only: several runs may find the same."""
        if text not in self._said:
            self._said.add(text)
            self.note(text)

    def note(self, text: str) -> None:
        """One line that stays."""
        if self._bar is not None:
            self._bar.note(printable(text))
        else:
            self._write(printable(text) + "\n")

    @contextmanager
    def stage(self, what: str, total: int, *, in_bytes: bool = False) -> Iterator[Step]:
        """Work of ``total`` steps, or bytes; call the yielded function after each.

        The time left is the mean time of the finished steps, so it is shown
        only once there are some.
        """
        stage = _Stage(what, total, self._clock, in_bytes=in_bytes)
        lock = threading.Lock()

        def step(count: int = 1, /) -> None:
            with lock:
                if stage.advance(count, _DRAW_EVERY_S if self._live else LINE_EVERY_S):
                    self._show(stage)

        if not self._live:
            self.note(f"{what}: {stage.amount(total)} {stage.unit}" if total > 1 else what)
        try:
            with self._drawn(what, total):
                yield step
        finally:
            if stage.done:
                self.note(f"{stage.state()} in {_duration(stage.elapsed())}")

    @contextmanager
    def _drawn(self, what: str, total: int) -> Iterator[None]:
        """A bar for the length of the block, on a terminal; stages within one share it."""
        with ExitStack() as stack:
            if self._live and self._bar is None:
                from harness.process.bar import Bar

                encoding = getattr(self._stream, "encoding", None) or "utf-8"
                bar = Bar(self._write, encoding, printable(what), total)
                self._bar = stack.enter_context(bar)
                stack.push(self._without_bar)
            yield

    def _without_bar(self, *_: object) -> None:
        self._bar = None

    def _show(self, stage: _Stage) -> None:
        left = max(stage.total - stage.done, 0) * stage.elapsed() / stage.done
        line = f"{stage.state()}, {_duration(left)} left"
        if self._bar is not None:
            self._bar.show(printable(line), stage.done)
        else:
            self.note(line)

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


class _Stage:
    """How far one stage has come."""

    def __init__(
        self, what: str, total: int, clock: Callable[[], float], *, in_bytes: bool
    ) -> None:
        self.what, self.total, self.done = what, total, 0
        self.unit = "GiB" if in_bytes else "steps"
        self._clock = clock
        self._start = self._shown = clock()

    def advance(self, count: int, every_s: float) -> bool:
        """Count steps; whether it is time to show them."""
        self.done += count
        now = self._clock()
        if now - self._shown < every_s:
            return False
        self._shown = now
        return True

    def elapsed(self) -> float:
        return self._clock() - self._start

    def amount(self, count: int) -> str:
        return f"{count / 2**30:.2f}" if self.unit == "GiB" else str(count)

    def state(self) -> str:
        unit = " GiB" if self.unit == "GiB" else ""
        return f"{self.what}: {self.amount(self.done)} of {self.amount(self.total)}{unit}"


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
