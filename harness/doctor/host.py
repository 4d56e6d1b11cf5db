"""The host as the probes see it: files, environment, commands, child processes.

Everything that a probe asks of the machine goes through a ``Host``, so that a
test can hand over a made-up one: a temporary root, its own environment and PATH.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.process.child import Child
from harness.process.python import program_command

#: Seconds that a command has after SIGTERM at its time limit.
_GRACE_S = 0.5


@dataclass(frozen=True)
class Ran:
    """How a command ended. ``status`` is None if it could not be started, or
    was killed at its time limit."""

    status: int | None
    out: str = ""
    err: str = ""
    timed_out: bool = False


def _interpreter() -> tuple[str, ...]:
    """This interpreter, as it was started: its children see what it sees."""
    flags = sys.flags
    given = (("-I", flags.isolated), ("-S", flags.no_site))
    return (sys.executable or "python3", *(name for name, is_set in given if is_set))


def _may_use(path: Path) -> bool:
    return os.access(path, os.R_OK | os.W_OK)


@dataclass(frozen=True)
class Host:
    """A machine, or a picture of one.

    Attributes:
        root: what stands for ``/`` where files are read: /dev, /proc, /sys,
            /usr/local/Ascend and the folders that variables name.
        environment: variables, PATH among them, for probes and children alike.
        cwd: the working directory, also of the children.
        python: the command of the interpreter that children run.
        python_version: its version, as ``3.11.9``.
        may_use: whether this user may read and write a path.
    """

    root: Path = Path("/")
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: Path = field(default_factory=Path.cwd)
    python: tuple[str, ...] = field(default_factory=_interpreter)
    python_version: str = platform.python_version()
    may_use: Callable[[Path], bool] = _may_use

    def path(self, absolute: str) -> Path:
        """An absolute path of the host, under its root."""
        return self.root / absolute.lstrip("/")

    def read(self, absolute: str) -> str:
        """A text file of the host; empty where there is none to read."""
        return read_text(self.path(absolute))

    def variable(self, name: str) -> str | None:
        """A variable; None where it is not set, empty where it is set to nothing."""
        return self.environment.get(name)

    def which(self, command: str) -> str | None:
        """Where a command is, on the host's own PATH."""
        return shutil.which(command, path=self.environment.get("PATH", os.defpath))

    def run(
        self,
        command: Sequence[str],
        limit_s: float,
        extra: Mapping[str, str] | None = None,
    ) -> Ran:
        """Run a command to its end, or end it and all its children at ``limit_s``."""
        try:
            child = Child(
                command,
                cwd=self.cwd,
                env={**self.environment, **(extra or {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                grace_s=_GRACE_S,
            )
        except OSError as error:
            return Ran(None, err=str(error))
        with child:
            try:
                out, err = child.process.communicate(timeout=limit_s)
            except subprocess.TimeoutExpired:
                child.ask()
                out, err = child.process.communicate()
                return Ran(None, _text(out), _text(err), timed_out=True)
        return Ran(child.process.returncode, _text(out), _text(err))

    def run_python(
        self, source: str, arguments: Sequence[str], limit_s: float, extra: Mapping[str, str]
    ) -> Ran:
        """Run Python source in a child, which imports nothing from the working directory."""
        return self.run(program_command(self.python, source, *arguments), limit_s, extra)


def read_text(path: Path) -> str:
    """A text file; empty where there is none to read."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""


def _text(data: bytes | None) -> str:
    return (data or b"").decode("utf-8", "replace")
