"""How a command ends that did not come to its own end: never with the status of a verdict.

A script reads 1 as "not aligned" and 3 as "no judgement". A reader that went
away, a full disk under the output and an error that nobody expected are
neither.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from typing import TextIO

from harness.errors import printable
from harness.process import signals

#: An error that nobody expected, as EX_SOFTWARE of sysexits.h.
CRASHED = 70
#: Nobody reads the output any more, as SIGPIPE ends a program.
UNREAD = 141
_LONGEST = 500
#: Errors that tell of a file's name or rights, not of what was done with it.
_OF_A_NAME = (errno.ENAMETOOLONG, errno.EACCES, errno.EPERM, errno.ELOOP, errno.EROFS)


def open_standard_streams() -> None:
    """Give closed standard streams a place.

    Else the next file that is opened, a journal perhaps, would take the
    number of the standard output, and what a library prints would go into it.
    """
    with contextlib.suppress(OSError):
        while True:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle > 2:
                os.close(handle)
                break
            os.set_inheritable(handle, True)
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # as Python leaves a closed one, and libraries print
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w", encoding="utf-8"))  # noqa: SIM115


def crash(error: BaseException, *, debug: bool) -> int:
    """Tell an error that nobody expected on one line; the exit status."""
    if debug:
        _complain("".join(traceback.format_exception(error)).rstrip("\n"))
        return CRASHED
    if isinstance(error, MemoryError):
        _complain("harness: error: not enough memory; close other programs, or take less at a time")
        return CRASHED
    what = printable(" ".join(f"{type(error).__name__}: {error}".split()))[:_LONGEST]
    _complain(
        f"harness: internal error: {what}; this is a defect of the harness, and no judgement: "
        "add --debug for a traceback, and report it"
    )
    return CRASHED


def interrupted() -> int:
    """Tell a signal on one line; the exit status."""
    with signals.held():
        _complain(
            "harness: interrupted; repeat the command to continue: record and baseline make "
            "keep finished prompts"
        )
        signals.told()
    return signals.exit_status()


def finish(status: int) -> int:
    """Bring the output to its reader; the exit status, another where it did not arrive."""
    for stream in (sys.stdout, sys.stderr):
        if stream is None:
            continue
        try:
            stream.flush()
        except OSError as error:
            _silence(stream)
            if stream is sys.stdout:
                return unwritten(error)
        except ValueError:  # a stream that a library has closed
            _silence(stream)
    return status


def unwritten(error: OSError) -> int:
    """The output did not arrive; the exit status."""
    _silence(sys.stdout)
    if error.errno == errno.EPIPE:
        return UNREAD
    _complain(f"harness: error: the output cannot be written ({error.strerror or error})")
    return CRASHED


def unwritten_by(error: BaseException | None) -> OSError | None:
    """The error, if it is that of a stream: a file would have its name in it."""
    if not isinstance(error, OSError):
        return None
    full = error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO)
    return error if full or error.errno == errno.EPIPE else None


def refused_by_name(error: BaseException) -> str | None:
    """What to tell of a name that the user gave and the system refuses, in whatever call."""
    if not isinstance(error, OSError) or error.errno not in _OF_A_NAME or error.filename is None:
        return None
    name = os.fsdecode(error.filename) if isinstance(error.filename, bytes) else error.filename
    name = str(name)
    shown = name if len(name) <= _LONGEST else f"{name[: _LONGEST // 2]}...{name[-40:]}"
    return f"{shown}: {error.strerror}; name another file, or mend its rights"


def _complain(text: str) -> None:
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr is not None:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def _silence(stream: TextIO) -> None:
    """Let what is left in a stream go nowhere: Python writes it again when it ends."""
    if stream is not sys.__stdout__ and stream is not sys.__stderr__:
        return  # a caller's own
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(nowhere, stream.fileno())
        finally:
            os.close(nowhere)
