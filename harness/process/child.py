"""Child processes that end with the harness. The standard library alone: the doctor uses it."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO
from weakref import WeakSet

from harness.process import guard
from harness.process.python import safe_environment

#: Seconds that an ended child has for closing what it holds.
GRACE_S = 10.0

Stream = int | IO[bytes] | None


class Child:
    """A command that ends, with all that it started, when it is told to or the harness is gone.

    That holds after SIGKILL too: a guard process stands in between
    (:mod:`harness.process.guard`). Its standard input is empty. ``process``
    ends as the command does, by the same status or signal. A context manager:
    the command has ended when the block has.

    Args:
        command: the program and its arguments.
        env, cwd, stdout, stderr, pass_fds: as ``subprocess.Popen`` takes them.
        grace_s: seconds between SIGTERM and SIGKILL.

    Raises:
        OSError: if there is no such program, or it may not be executed.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stdout: Stream = None,
        stderr: Stream = None,
        pass_fds: Sequence[int] = (),
        grace_s: float = GRACE_S,
    ) -> None:
        _check(command[0], os.environ if env is None else env)
        self._grace_s = grace_s
        self._lock = threading.Lock()
        read, self._sign = os.pipe()
        try:
            self.process = subprocess.Popen(
                [*_guarded(grace_s), *command],
                stdin=read,
                env=safe_environment(os.environ if env is None else env),
                cwd=cwd,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                start_new_session=True,  # Ctrl-C is the harness's to handle
            )
        except BaseException:
            os.close(self._sign)
            raise
        finally:
            os.close(read)
        _living.add(self)

    def __enter__(self) -> Child:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def end(self) -> int:
        """End it, and all that it started; its exit status. Twice does no harm."""
        self.ask()
        try:
            status = self.process.wait(self._grace_s + 10)
        except subprocess.TimeoutExpired:
            self.process.kill()  # the command's own death signal does the rest
            status = self.process.wait()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()
        return status

    def ask(self) -> None:
        """Let it end, without waiting; from any thread."""
        with self._lock:
            if self._sign >= 0:
                os.close(self._sign)
                self._sign = -1
        if os.name != "posix":
            self.process.kill()


_living: WeakSet[Child] = WeakSet()


def end_all() -> None:
    """Let all children end, for a thread that is interrupted while others wait for them."""
    for child in list(_living):
        child.ask()


def _guarded(grace_s: float) -> list[str]:
    if os.name != "posix":
        return []  # there are no process groups
    return [sys.executable or "python3", "-I", "-S", guard.__file__, str(grace_s)]


def _check(program: str, env: Mapping[str, str]) -> None:
    """The guard starts the program: whether it is there shows here."""
    if shutil.which(program, path=env.get("PATH", os.defpath)) is None:
        code = errno.EACCES if os.path.exists(program) else errno.ENOENT
        raise OSError(code, os.strerror(code), program)
