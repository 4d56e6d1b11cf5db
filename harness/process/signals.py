"""SIGINT and SIGTERM, in one place.

A signal arrives at any moment: between two imports, inside a library that takes
the exception for an error of its own, while a device is being closed. So the first
one is remembered. What is raised only brings the work to its end; the status of
the process is the signal's, whatever comes out of that.

    nothing is open yet, or any more    one line, and the process ends
    ``working()``                       KeyboardInterrupt, in the main thread, once
    ``held()``                          not now: it is raised when the block has ended
    a module is being imported          it is raised when that is done, or after 2 seconds

What is closed after the first signal is not disturbed by a second one. A second
one after a second or more ends the process at once: files are whole or absent
even then, and guards end the children.

The standard library alone, and little of it: the command begins here.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

NUMBERS = (signal.SIGINT, signal.SIGTERM)
#: Seconds within which a second signal is the first again: ``timeout`` and terminals send two.
_SAME_S = 1.0
#: How long a signal waits for an import, in seconds.
_IMPORT_S = 2.0
_AGAIN_S = 0.02
_IMPORTING = "<frozen importlib._bootstrap>"


class _State:
    """What this process knows of its signals.

    Attributes:
        first: the first signal, None before it; ``at`` is when, on the monotonic clock.
        status: what the process ends with; None for 128 and the number, as shells count.
        at_once: nothing is open, so nothing needs to be closed.
        held: how many blocks of ``held`` are open.
        poked: the next SIGINT is the watchdog's.
        again: the next signal is the first one, told again.
        raised: it was raised, and nothing is known to have swallowed that.
        told: a line about it was printed.
    """

    installed = False
    first: int | None = None
    at = 0.0
    status: int | None = None
    at_once = True
    held = 0
    poked = again = raised = told = False

    def reset(self) -> None:
        self.__dict__.clear()


_state = _State()


def install(status: int | None = None) -> dict[int, Any]:
    """Handle both signals from here on, in the main thread; elsewhere nothing changes.

    A program's own handler and a signal that is ignored stay.

    Args:
        status: what an interrupted process ends with; by default 130 or 143.

    Returns:
        The handlers before, of the signals that are handled now.
    """
    before: dict[int, Any] = {}
    if threading.current_thread() is not threading.main_thread() or _state.installed:
        return before
    _state.reset()
    _state.status, _state.installed = status, True
    for number in NUMBERS:
        found = signal.getsignal(number)
        if found in (signal.SIG_DFL, signal.default_int_handler):
            before[number] = found
            signal.signal(number, _arrived)
    return before


@contextmanager
def handling(status: int | None = None) -> Iterator[None]:
    """:func:`install` for the length of a block, unless it was done before."""
    before = install(status)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if before:
            _state.reset()


@contextmanager
def working() -> Iterator[None]:
    """A block that a signal interrupts, so that it can close what it has opened."""
    _state.at_once = False
    try:
        yield
    finally:
        _state.at_once = True


@contextmanager
def held() -> Iterator[None]:
    """A block that no signal interrupts: it is raised at the end, if the block has not failed."""
    if not _is_handled():
        yield
        return
    _state.held += 1
    try:
        yield
    finally:
        _state.held -= 1
    check()


@contextmanager
def allowed() -> Iterator[None]:
    """The part of the innermost :func:`held` that a signal interrupts after all."""
    if not _is_handled() or not _state.held:
        yield
        return
    _state.held -= 1
    try:
        check()
        yield
    finally:
        _state.held += 1


def hold_to_the_end() -> None:
    """Nothing is interrupted any more: only the end of the process is left."""
    _state.held += 1


def received() -> int | None:
    """The first signal that arrived, None before one."""
    return _state.first if _state.installed else None


def exit_status() -> int:
    """What a process that was interrupted ends with."""
    if _state.status is not None:
        return _state.status
    return 128 + (_state.first or signal.SIGINT)


def check() -> None:
    """Raise again what a library may have swallowed; to be called between two steps.

    Raises:
        KeyboardInterrupt: in the main thread, after a signal, unless it is held.
    """
    if _state.first is not None and not _state.held and not _state.at_once and _is_handled():
        _state.raised = True
        raise KeyboardInterrupt


def told() -> None:
    """A line about the signal was printed: no second one is needed."""
    _state.told = True


def forget() -> None:
    """The signal was the ordinary end, as of a server."""
    _state.first = None


def poke() -> None:
    """Interrupt the main thread from another one; that is not a signal of the user's."""
    _state.poked = _state.installed and signal.getsignal(signal.SIGINT) is _arrived
    # A real signal, which also ends a sleep or a wait.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


@contextmanager
def heeded() -> Iterator[None]:
    """A block that ``poke`` interrupts in a background job of a shell too, which ignores SIGINT;
    outside of the main thread it changes nothing."""
    alone = threading.current_thread() is threading.main_thread()
    ignored = alone and signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    if ignored:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextmanager
def nothing_lost() -> Iterator[None]:
    """A signal that arrives where Python can only print and go on, as in ``__del__``, is
    raised a little later instead."""
    before = sys.unraisablehook

    def hook(error: Any) -> None:
        if issubclass(error.exc_type, KeyboardInterrupt) and received() is not None:
            _state.raised = False
            _tell_again()
        else:
            before(error)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        if sys.unraisablehook is hook:
            sys.unraisablehook = before


def _arrived(number: int, frame: FrameType | None) -> None:
    if _state.poked:
        _state.poked = False
        raise KeyboardInterrupt
    now = time.monotonic()
    if _state.first is None:
        _state.first, _state.at = number, now
    elif _state.again:
        _state.again = False
        if _state.held:
            return  # it is being told, or is raised when the block has ended
    elif now - _state.at < _SAME_S:
        return
    else:
        _leave()
    if _state.at_once:
        _leave()
    if _state.held or _state.raised:
        return
    if now - _state.at < _IMPORT_S and _is_importing(frame):
        _tell_again()
        return
    _state.raised = True
    raise KeyboardInterrupt


def _tell_again() -> None:
    """Let the first signal arrive once more in a moment, from outside of what runs now."""

    def tell() -> None:
        if _state.first is not None:
            _state.again = True
            with suppress(OSError, ValueError):  # the main thread has ended
                signal.pthread_kill(threading.main_thread().ident or 0, _state.first)

    timer = threading.Timer(_AGAIN_S, tell)
    timer.daemon = True
    timer.start()


def _leave() -> None:
    """End now. Nothing is flushed: another write may be going on."""
    if not _state.told:
        with suppress(OSError):
            os.write(2, b"harness: interrupted\n")
    os._exit(exit_status())


def _is_handled() -> bool:
    return _state.installed and threading.current_thread() is threading.main_thread()


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename == _IMPORTING:
            return True
        frame = frame.f_back
    return False
