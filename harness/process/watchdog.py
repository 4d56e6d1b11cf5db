"""A time limit for each step of a device: what hangs is shown and ended.

An engine that waits for a lost worker or a hung driver gives no error by
itself. After the limit every thread's stack is printed, the step is
interrupted, and if a native call takes no interrupt the process ends: what was
finished is on disk already.
"""

from __future__ import annotations

import faulthandler
import math
import os
import signal
import sys
import threading
import time
from types import TracebackType
from typing import TextIO

from harness.errors import DeviceError, UsageError
from harness.process import signals

#: The longest time without a token, a pass or the end of a load, in seconds.
STEP_LIMIT_S = 1800.0
#: The variable that sets another limit, for child processes too; 0 for none.
VARIABLE = "HARNESS_STEP_LIMIT"
#: How long an interrupted step has for closing its device.
GRACE_S = 20.0
_REMEDY = (
    "the device hangs; the stacks are above, finished prompts are kept: look at the device "
    f"(harness doctor), or give slow steps more time with {VARIABLE}=SECONDS"
)


def step_limit_s() -> float:
    """The limit that holds here, in seconds.

    Raises:
        UsageError: if ``HARNESS_STEP_LIMIT`` is not a number of seconds.
    """
    text = os.environ.get(VARIABLE, "").strip()
    if not text:
        return STEP_LIMIT_S
    try:
        limit = float(text)
    except ValueError:
        limit = math.nan
    if not 0 <= limit < math.inf:
        raise UsageError(f"{VARIABLE}={text!r} is not a number of seconds; 0 sets no limit")
    return limit


class Watchdog:
    """Between enter and exit, no step may take longer than ``limit_s``.

    Interrupting works in the main thread only, as signals do; elsewhere, and
    with a limit of 0, nothing is watched.

    Args:
        limit_s: seconds between two calls of ``beat``; 0 for no limit.
        what: what is being done, for the message.
        remedy: what is said of a step that takes longer; of a device by default.
        grace_s: how long the interrupted step has to end by itself.
        stream: where stacks go; needs a file descriptor. stderr by default.
    """

    def __init__(
        self,
        limit_s: float,
        what: str,
        *,
        grace_s: float = GRACE_S,
        stream: TextIO | None = None,
        remedy: str = _REMEDY,
    ) -> None:
        self._limit, self._what, self._grace = limit_s, what, grace_s
        self._remedy = remedy
        self._stream = stream
        self._last = time.monotonic()
        self._hung = self._ignored = False
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    def beat(self) -> None:
        """A step is done.

        Raises:
            KeyboardInterrupt: if a library has swallowed one.
        """
        self._last = time.monotonic()
        signals.check()

    def __enter__(self) -> Watchdog:
        self.beat()
        if self._limit > 0 and threading.current_thread() is threading.main_thread():
            if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
                # A background job of a shell ignores SIGINT, which interrupts here.
                signal.signal(signal.SIGINT, signal.default_int_handler)
                self._ignored = True
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
        if self._ignored:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        if self._hung and isinstance(error, KeyboardInterrupt):
            raise DeviceError(self._message()) from error

    def _message(self) -> str:
        return (
            f"{self._what}: no step was finished within {self._limit:g} seconds, so {self._remedy}"
        )

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._limit / 4)):
            if time.monotonic() - self._last > self._limit:
                break
        else:
            return
        self._hung = True
        self._dump()
        signals.poke()
        if not self._ended.wait(self._grace):
            print(f"harness: error: {self._message()}", file=sys.stderr, flush=True)  # noqa: T201
            os._exit(DeviceError.exit_status)

    def _dump(self) -> None:
        # pytest's capture has no descriptor; the original stderr always has one.
        stream = self._stream or sys.__stderr__ or sys.stderr
        print(f"{self._what}: stacks of all threads", file=stream, flush=True)
        faulthandler.dump_traceback(file=stream, all_threads=True)
