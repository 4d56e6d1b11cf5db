"""An oracle that keeps each answer as it comes, so that a diagnosis that was killed goes on
where it was.

What a diagnosis does with the answers takes seconds; the answers take minutes. So nothing else
is kept: the same command asks the same questions again, and the first ones are answered from
the disk. A question holds everything that its answer depends on: the tokens, the error or
direction that is asked about, and the change of the model, if there is one. What all of a
diagnosis' answers depend on is in the name of its folder.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import Cause
from harness.devices.oracle import Answer, Gradients, Oracle, Question
from harness.diagnosis.errors import Errors
from harness.diagnosis.kept import cause_of, digest_of, row_of
from harness.diagnosis.made_with import made_with
from harness.errors import HarnessError
from harness.files import atomic
from harness.files.own import unmark
from harness.process.progress import Progress

#: So many bytes are kept of one diagnosis, and never more than half of what the disk has left.
MOST_BYTES = 4 << 30
#: What a diagnosis left that nobody went on with goes after so many seconds: a week.
FORGOTTEN_S = 7 * 24 * 3600
_Array = NDArray[np.float64]


@dataclass(eq=False)
class _Change:
    """A change that the oracle is told of with the first question that it has to answer."""

    cause: Cause
    size: float
    stack: ExitStack = field(default_factory=ExitStack)
    made: bool = False


def remembered_in(cache: Path, errors: Errors, about: Mapping[str, Any]) -> Path:
    """The folder of one diagnosis.

    Args:
        about: what else its answers depend on: the model's facts.
    """
    arrays = ("truth", "arms", "candidate")
    digest = digest_of(errors, [made_with(), about], arrays)
    return cache / "diagnosis" / f"{digest}.going"


class Remembered:
    """The same oracle, asked only for what is not in ``folder``; see ``Oracle``."""

    def __init__(self, oracle: Oracle, folder: Path, progress: Progress) -> None:
        self._oracle, self._folder, self._progress = oracle, folder, progress
        self._changes: list[_Change] = []
        _drop_forgotten(folder.parent)
        kept = list(folder.glob("*.npz"))
        taken = sum(file.stat().st_size for file in kept)
        self._room = MOST_BYTES - taken
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            self._room = min(self._room, shutil.disk_usage(folder).free // 2)
        if kept:
            progress.note(f"going on with an interrupted diagnosis: {len(kept)} answers are kept")

    @property
    def settings(self) -> tuple[Cause, ...]:
        return self._oracle.settings

    @property
    def exchanges(self) -> tuple[Cause, ...]:
        return self._oracle.exchanges

    @property
    def weights(self) -> int:
        return self._oracle.weights

    def now(self, cause: Cause) -> float | None:
        return self._oracle.now(cause)

    def forget(self) -> None:
        """The diagnosis has come to its end."""
        self._oracle.forget()
        shutil.rmtree(self._folder, ignore_errors=True)

    def together(self, questions: Sequence[Question]) -> None:
        """What is not kept goes on to the oracle."""
        missing = [left for q in questions if (left := self._missing(q)) is not None]
        with suppress(OSError):
            os.utime(self._folder)  # what goes on for weeks is not forgotten
        if missing:
            self._change_now()
            self._oracle.together(missing)

    def _missing(self, question: Question) -> Question | None:
        """What is not kept of a question, as it will be asked; None where all of it is."""

        def is_kept(key: str) -> bool:
            return (self._folder / f"{key}.npz").is_file()

        if question.kind == "sketches":
            return None if is_kept(self._key_of(question)) else question
        left = tuple(v for v in question.vectors if not is_kept(self._key_of(question, v)))
        return replace(question, vectors=left) if left else None

    def _key_of(self, question: Question, vector: _Array | None = None) -> str:
        """The key of an answer, to one vector where there are some."""
        what = "layers" if question.kind == "layer_changes" else question.kind
        more = question.rows if question.part is None else row_of(question.part)
        return self._key(what, question.ids, more, vector)

    def sketches(self, ids: Sequence[int], rows: int) -> _Array:
        key = self._key("sketches", ids, rows)
        found = self._recalled(key, lambda data: _wide(data["rows"], (rows, None)))
        if found is None:
            self._change_now()
            found = self._oracle.sketches(ids, rows)
            self._keep(key, {"rows": found})
        return np.asarray(found, np.float64)

    def gradients(
        self, ids: Sequence[int], vectors: Sequence[_Array]
    ) -> tuple[_Array, Sequence[Gradients]]:
        keys = [self._key("gradients", ids, len(v), vector=v) for v in vectors]
        found = [self._recalled(key, _gradients) for key in keys]
        missing = [i for i, each in enumerate(found) if each is None]
        if missing:
            self._change_now()
            rows, made = self._oracle.gradients(ids, [vectors[i] for i in missing])
            for index, each in zip(missing, made, strict=True):
                found[index] = rows, each
                self._keep(keys[index], _written(rows, each))
        answers = [each for each in found if each is not None]
        return answers[0][0], [gradients for _, gradients in answers]

    def entries(self, part: Cause, ids: Sequence[int], vectors: Sequence[_Array]) -> _Array:
        keys = [self._key("entries", ids, row_of(part), vector=v) for v in vectors]
        found = [self._recalled(k, lambda data: _wide(data["entries"], (None,))) for k in keys]
        missing = [i for i, each in enumerate(found) if each is None]
        if missing:
            self._change_now()
            made = self._oracle.entries(part, ids, [vectors[i] for i in missing])
            for index, each in zip(missing, made, strict=True):
                found[index] = each
                self._keep(keys[index], {"entries": each})
        return np.array([each for each in found if each is not None])

    def layer_changes(
        self, ids: Sequence[int], vectors: Sequence[_Array]
    ) -> Sequence[Mapping[Cause, float]]:
        keys = [self._key("layers", ids, len(v), vector=v) for v in vectors]
        found = [self._recalled(key, _by_cause) for key in keys]
        missing = [i for i, each in enumerate(found) if each is None]
        if missing:
            self._change_now()
            made = self._oracle.layer_changes(ids, [vectors[i] for i in missing])
            for index, each in zip(missing, made, strict=True):
                found[index] = each
                self._keep(keys[index], _written_by_cause(each))
        return [each for each in found if each is not None]

    @contextmanager
    def changed(self, cause: Cause, size: float) -> Iterator[None]:
        change = _Change(cause, size)
        with change.stack:
            self._changes.append(change)
            try:
                yield
            finally:
                self._changes.remove(change)

    def _change_now(self) -> None:
        for change in self._changes:
            if not change.made:
                change.stack.enter_context(self._oracle.changed(change.cause, change.size))
                change.made = True

    def _key(
        self, what: str, ids: Sequence[int], more: object, vector: _Array | None = None
    ) -> str:
        changes = [[*row_of(c.cause), float(c.size).hex()] for c in self._changes]
        digest = hashlib.sha256(json.dumps([what, list(map(int, ids)), more, changes]).encode())
        if vector is not None:
            digest.update(np.ascontiguousarray(vector, np.float64).tobytes())
        return digest.hexdigest()

    def _recalled(self, key: str, read: Callable[[Any], Any]) -> Any:
        """What was kept of an answer; None where there is nothing, or it is damaged."""
        try:
            with (self._folder / f"{key}.npz").open("rb") as file:
                return read(np.load(file, allow_pickle=False))
        except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
            return None

    def _keep(self, key: str, arrays: Mapping[str, Any]) -> None:
        data = io.BytesIO()
        np.savez(data, **arrays)
        if len(data.getvalue()) > self._room:
            return
        self._room -= len(data.getvalue())
        try:
            atomic.write_bytes(self._folder / f"{key}.npz", data.getvalue())
        except HarnessError as error:
            self._room = 0
            self._progress.note(f"an interrupted diagnosis will not go on: {error}")


def _written(rows: _Array, found: Gradients) -> dict[str, Any]:
    about = {
        "causes": [row_of(cause) for cause in found.whole],
        "parts": [[*key, len(values)] for key, values in found.parts.items()],
    }
    none = np.zeros(0, np.float32)
    return {
        "about": np.frombuffer(json.dumps(about).encode(), np.uint8),
        "rows": rows,
        "whole": np.array(list(found.whole.values()), np.float64),
        "parts": np.concatenate([none, *found.parts.values()]),
    }


def _gradients(data: Mapping[str, NDArray[Any]]) -> tuple[_Array, Answer]:
    about = json.loads(bytes(data["about"]))
    causes = [cause_of(row) for row in about["causes"]]
    values, flat = _wide(data["whole"], (len(causes),)), data["parts"].astype(np.float32)
    parts, begin = {}, 0
    for kind, place, count in about["parts"]:
        parts[str(kind), str(place)] = flat[begin : begin + count]
        begin += count
    if begin != len(flat):
        raise ValueError("the scores are not of these parts")
    whole = {cause: float(value) for cause, value in zip(causes, values, strict=True)}
    return _wide(data["rows"], (None, None)), Answer(whole, parts)


def _written_by_cause(found: Mapping[Cause, float]) -> dict[str, Any]:
    about = json.dumps([row_of(cause) for cause in found])
    return {
        "about": np.frombuffer(about.encode(), np.uint8),
        "whole": np.array(list(found.values()), np.float64),
    }


def _by_cause(data: Mapping[str, NDArray[Any]]) -> dict[Cause, float]:
    causes = [cause_of(row) for row in json.loads(bytes(data["about"]))]
    values = _wide(data["whole"], (len(causes),))
    return {cause: float(value) for cause, value in zip(causes, values, strict=True)}


def _wide(found: NDArray[Any], shape: tuple[int | None, ...]) -> _Array:
    fits = [wanted in (None, n) for wanted, n in zip(shape, found.shape, strict=True)]
    if not all(fits) or found.dtype != np.float64:
        raise ValueError("an answer of another shape")
    return found


def _drop_forgotten(folder: Path) -> None:
    """Remove what was left by diagnoses that nobody went on with."""
    with suppress(OSError):
        for old in folder.glob("*.going"):
            if old.stat().st_mtime < time.time() - FORGOTTEN_S:
                for file in old.rglob("*.safetensors"):
                    unmark(file)
                shutil.rmtree(old, ignore_errors=True)
