"""Streams and events of a device that has finished before the call returns."""

from __future__ import annotations

import time
from typing import Any

import torch


class Stream:
    """A stream on which nothing ever waits."""

    def __init__(self, device: Any = None, priority: int = 0, **_: Any) -> None:
        self.device = torch.device("npu", 0)
        self.priority = priority
        self.npu_stream = id(self)
        self._entered: list[StreamContext] = []

    def wait_stream(self, _: Stream) -> None:
        """Nothing to wait for."""

    def wait_event(self, _: Event) -> None:
        """Nothing to wait for."""

    def record_event(self, event: Event | None = None) -> Event:
        """An event that has happened."""
        event = event or Event()
        event.record(self)
        return event

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def query(self) -> bool:
        """Whether all is done: always."""
        return True

    def __enter__(self) -> Stream:
        self._entered.append(StreamContext(self))
        self._entered[-1].__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._entered.pop().__exit__(*error)


class Event:
    """A moment on the host's clock."""

    def __init__(
        self,
        enable_timing: bool = False,
        blocking: bool = False,
        interprocess: bool = False,
        **_: Any,
    ) -> None:
        self._at = 0.0

    def record(self, stream: Stream | None = None) -> None:
        """Happen now."""
        self._at = time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        """Nothing to wait for."""

    def reset(self, stream: Stream | None = None) -> None:
        """Nothing to reset."""

    def query(self) -> bool:
        """Whether it has happened: always."""
        return True

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def elapsed_time(self, later: Event) -> float:
        """Milliseconds to a later event."""
        return (later._at - self._at) * 1000


class ExternalEvent(Event):
    """An event that graphs use."""


_default = Stream()
#: The streams that were set, the current one last.
_current = [_default]


def default_stream(device: Any = None) -> Stream:
    """The stream that is there from the beginning."""
    return _default


def current_stream(device: Any = None) -> Stream:
    """The stream that was set last."""
    return _current[-1]


def set_stream(stream: Stream) -> None:
    """Make a stream the current one."""
    _current[-1] = stream


class StreamContext:
    """Makes a stream the current one for a while; None leaves it."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> StreamContext:
        self._before = current_stream()
        if self.stream is not None:
            set_stream(self.stream)
        return self

    def __exit__(self, *_: object) -> None:
        set_stream(self._before)


def stream(stream: Stream | None) -> StreamContext:
    """``with torch.npu.stream(s):``"""
    return StreamContext(stream)
