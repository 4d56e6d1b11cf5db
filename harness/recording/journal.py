"""Finished runs of a recording in the making, so that a killed one goes on.

``<out>.partial`` holds one JSON line per finished run, after a first line that
says what was being recorded. Each line has a seal of its own, which also covers
the seals before it and which only this user's harness can make: a journal that
somebody else put there is no finished work. A line that a kill cut short is
dropped. What is not a journal is never opened for writing.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import stat
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from pydantic import BaseModel, ValidationError

from harness.errors import HarnessError
from harness.files import jsonfile
from harness.files.atomic import make_folder, mode_of
from harness.files.locks import lock
from harness.files.own import is_sealed, seal
from harness.recording.format import Run, new_shelf, shelved_run
from harness.recording.shelf import Shelf

#: How a journal begins, today's and those of before; and one that was cut off in its first line.
_BEGINS = re.compile(rb'[0-9a-f]{16,32} \{"key".')
_CUT_OFF = re.compile(rb'[0-9a-f]{0,32}( (\{("(k(e(y("(:("[0-9a-f]*("\}?)?)?)?)?)?)?)?)?)?)?')
_LONGEST_CUT = 200
_PURPOSE = b"journal"


class Journal:
    """The journal of ``out``; without ``out`` it keeps nothing.

    A journal with another ``key`` is started afresh. ``found``
    counts the runs taken over.

    Args:
        shelf: takes their rows.
    """

    def __init__(
        self,
        out: Path | None = None,
        key: dict[str, Any] | None = None,
        shelf: Shelf | None = None,
    ) -> None:
        self._path = None if out is None else out.with_name(out.name + ".partial")
        self._mode = 0o666 if out is None else mode_of(out)
        self._key = "" if key is None else key_digest(key)
        self._seal = b""
        self._shelf = shelf or new_shelf()
        self._runs: dict[tuple[str, str], Run] = {}
        self._stream: BinaryIO | None = None

    @property
    def found(self) -> int:
        return len(self._runs)

    def __enter__(self) -> Journal:
        if self._path is not None:
            try:
                make_folder(self._path.parent)
                self._stream = _locked(self._path, self._mode)
                good = self._read(self._stream)
                self._stream.truncate(good)
                self._stream.seek(good)
                if not good:
                    self._append({"key": self._key})
            except OSError as error:
                self.__exit__(None, None, None)
                raise self._unwritable(error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._stream is not None:
            # A full disk fails the last flush again; add() has said so.
            with contextlib.suppress(OSError):
                self._stream.close()

    def runs(self, kind: str) -> dict[str, Run]:
        """Finished runs of a kind, by prompt id."""
        return {prompt: run for (k, prompt), run in self._runs.items() if k == kind}

    def add(self, kind: str, prompt_id: str, run: Run) -> None:
        """Keep a finished run; on disk before this returns."""
        if self._stream is None:
            return
        document = run.model_dump(mode="json", by_alias=True)
        try:
            self._append({"kind": kind, "prompt": prompt_id, "run": document})
        except OSError as error:
            raise self._unwritable(error) from error

    def discard(self) -> None:
        """The recording is written: the journal is no longer needed."""
        if self._stream is None or self._path is None:
            return
        mine = os.fstat(self._stream.fileno())
        self._stream.close()  # Windows removes no open file
        self._stream = None
        with contextlib.suppress(OSError):
            if os.path.samestat(mine, self._path.lstat()):
                self._path.unlink()

    def _append(self, entry: dict[str, Any]) -> None:
        assert self._stream is not None
        text = jsonfile.canonical(entry)
        self._seal = seal(_PURPOSE, self._seal, text).encode()
        self._stream.write(self._seal + b" " + text + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _read(self, stream: BinaryIO) -> int:
        """Take over the good lines; how many bytes they fill."""
        good = 0
        for line in stream:
            entry = self._entry(line)
            if entry is None:
                break
            if not good and entry != {"key": self._key}:
                self._seal = b""
                break
            try:
                if good:
                    run = shelved_run(Run.model_validate(entry["run"]), self._shelf)
                    self._runs[entry["kind"], entry["prompt"]] = run
            except (KeyError, TypeError, ValidationError):
                break
            self._seal = line.partition(b" ")[0]
            good += len(line)
        return good

    def _entry(self, line: bytes) -> dict[str, Any] | None:
        """What a line says that follows the one with the last seal, if it is whole and ours."""
        told, _, text = line.rstrip(b"\n").partition(b" ")
        if not line.endswith(b"\n") or not is_sealed(told, _PURPOSE, self._seal, text):
            return None
        try:
            entry = json.loads(text)
        except ValueError:
            return None
        return entry if isinstance(entry, dict) else None

    def _unwritable(self, error: OSError) -> HarnessError:
        return HarnessError(
            f"{self._path}: cannot be written ({error.strerror or error}); "
            "make room or choose another --out, finished prompts are kept"
        )


def is_journal(path: Path) -> bool:
    """Whether a file is a journal, or the beginning of one; nothing else may be replaced."""
    try:
        with os.fdopen(_opened(path, os.O_RDONLY), "rb") as stream:
            return _begins_as_journal(stream)
    except (OSError, HarnessError):
        return False


def _locked(path: Path, mode: int) -> BinaryIO:
    """The journal, opened for this process alone.

    Raises:
        HarnessError: if another process is recording there, or what is there is not a journal.
        OSError: if it cannot be opened.
    """
    while True:
        stream = os.fdopen(_opened(path, os.O_RDWR | os.O_CREAT, mode), "r+b")
        try:
            lock(stream.fileno(), path)
            if not _begins_as_journal(stream):
                raise _in_the_way(path, "is not a journal of the harness")
            # A process that finished in between has removed what was opened.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(stream.fileno()), path.lstat()):
                    return stream
        except BaseException:
            stream.close()
            raise
        stream.close()


def _opened(path: Path, flags: int, mode: int = 0o666) -> int:
    """A descriptor of an ordinary file, which is neither followed to nor waited for."""
    extra = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    if path.is_symlink():
        raise _in_the_way(path, "is a link")
    handle = os.open(path, flags | extra | getattr(os, "O_BINARY", 0), mode)
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise _in_the_way(path, "is not a regular file")
    return handle


def _begins_as_journal(stream: BinaryIO) -> bool:
    head = stream.read(_LONGEST_CUT)
    stream.seek(0)
    return bool(_BEGINS.match(head)) or (
        len(head) < _LONGEST_CUT and bool(_CUT_OFF.fullmatch(head))
    )


def _in_the_way(path: Path, why: str) -> HarnessError:
    return HarnessError(
        f"{path}: {why}, and finished prompts would be kept there; "
        "move it away or choose another --out"
    )


def key_digest(key: dict[str, Any]) -> str:
    """SHA-256, in hexadecimal, of what a recording in the making is of."""
    plain = {k: v.model_dump() if isinstance(v, BaseModel) else v for k, v in key.items()}
    return hashlib.sha256(jsonfile.canonical(plain)).hexdigest()
