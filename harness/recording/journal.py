"""Finished runs of a recording in the making, so that a killed one goes on.

``<out>.partial`` holds one JSON line per finished run, each with its own
checksum, after a first line that says what was being recorded. A line that a
kill cut short is dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from pydantic import BaseModel, ValidationError

from harness.errors import HarnessError
from harness.files import jsonfile
from harness.files.locks import lock
from harness.recording.format import Run


class Journal:
    """The journal of ``out``; without ``out`` it keeps nothing.

    A journal with another ``key`` is started afresh. ``found``
    counts the runs taken over.
    """

    def __init__(self, out: Path | None = None, key: dict[str, Any] | None = None) -> None:
        self._path = None if out is None else out.with_name(out.name + ".partial")
        self._key = "" if key is None else _key_digest(key)
        self._runs: dict[tuple[str, str], Run] = {}
        self._stream: BinaryIO | None = None

    @property
    def found(self) -> int:
        return len(self._runs)

    def __enter__(self) -> Journal:
        if self._path is not None:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._stream = _locked(self._path)
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
        if self._stream is not None:
            self._stream.close()  # Windows removes no open file
            self._stream = None
        if self._path is not None:
            with contextlib.suppress(OSError):
                self._path.unlink()

    def _append(self, entry: dict[str, Any]) -> None:
        assert self._stream is not None
        text = jsonfile.canonical(entry)
        seal = hashlib.sha256(text).hexdigest()[:16].encode()
        self._stream.write(seal + b" " + text + b"\n")
        self._stream.flush()
        os.fsync(self._stream.fileno())

    def _read(self, stream: BinaryIO) -> int:
        """Take over the good lines; how many bytes they fill."""
        lines = stream.read().splitlines(keepends=True)
        if not lines or _entry(lines[0]) != {"key": self._key}:
            return 0
        good = len(lines[0])
        for line in lines[1:]:
            entry = _entry(line)
            if entry is None:
                break
            try:
                self._runs[entry["kind"], entry["prompt"]] = Run.model_validate(entry["run"])
            except (KeyError, TypeError, ValidationError):
                break
            good += len(line)
        return good

    def _unwritable(self, error: OSError) -> HarnessError:
        return HarnessError(
            f"{self._path}: cannot be written ({error.strerror or error}); "
            "make room or choose another --out, finished prompts are kept"
        )


def _locked(path: Path) -> BinaryIO:
    """The journal, opened for this process alone.

    Raises:
        HarnessError: if another process is recording there.
        OSError: if it cannot be opened.
    """
    while True:
        stream = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")
        try:
            lock(stream.fileno(), path)
            # A process that finished in between has removed what was opened.
            if path.exists() and os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        except BaseException:
            stream.close()
            raise
        stream.close()


def _entry(line: bytes) -> dict[str, Any] | None:
    seal, _, text = line.rstrip(b"\n").partition(b" ")
    if not line.endswith(b"\n") or hashlib.sha256(text).hexdigest()[:16].encode() != seal:
        return None
    try:
        entry = json.loads(text)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _key_digest(key: dict[str, Any]) -> str:
    plain = {k: v.model_dump() if isinstance(v, BaseModel) else v for k, v in key.items()}
    return hashlib.sha256(jsonfile.canonical(plain)).hexdigest()
