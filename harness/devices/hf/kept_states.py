"""What each prompt had come to between two layers: in memory, or in files that outlive a kill."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from harness.errors import HarnessError
from harness.files.atomic import make_folder
from harness.files.own import is_marked, mark, unmark

#: Tensors by name.
State = dict[str, Any]


class States(Protocol):
    """The state of each pass, by its key."""

    def stage(self, key: str) -> int:
        """How many layers a pass has behind it."""
        ...

    def get(self, key: str) -> State: ...

    def put(self, key: str, stage: int, state: State) -> None: ...

    def drop(self, key: str) -> None:
        """A pass has come to its end; what outlives a kill is still there."""

    def remove(self, key: str) -> None:
        """What was kept of a key is not needed any more, whatever comes."""

    def make(self) -> None:
        """Make the place, where it needs one."""

    def discard(self) -> None:
        """All is done: nothing is needed any more."""


@contextmanager
def states_in(place: tuple[Path, str] | None, backend: str) -> Iterator[States]:
    """States in a folder, for a job; in memory without one. What is all done is removed.

    Raises:
        HarnessError: if the folder cannot be made.
    """
    if place is None:
        yield InMemory()
        return
    states = InFolder(*place, backend)
    states.make()
    yield states
    states.discard()


def stages_done(place: tuple[Path, str] | None, key: str) -> int:
    """How many layers a pass has behind it, by what a folder keeps of a job."""
    return 0 if place is None else InFolder(*place).stage(key)


class InMemory:
    """States that end with the process."""

    def __init__(self) -> None:
        self._kept: dict[str, tuple[int, State]] = {}

    def stage(self, key: str) -> int:
        return self._kept[key][0] if key in self._kept else 0

    def get(self, key: str) -> State:
        return self._kept[key][1]

    def put(self, key: str, stage: int, state: State) -> None:
        self._kept[key] = (stage, state)

    def drop(self, key: str) -> None:
        self._kept.pop(key, None)

    def remove(self, key: str) -> None:
        self._kept.pop(key, None)

    def make(self) -> None:
        """Nothing: memory is there."""

    def discard(self) -> None:
        self._kept.clear()


class InFolder:
    """States in a folder of safetensors files, one for each pass.

    A file is taken for finished work only if this user's harness wrote it, for the same job.

    Args:
        folder: beside the recording in the making.
        job: what must be equal for the work to be gone on with.
        backend: where tensors go.
    """

    def __init__(self, folder: Path, job: str, backend: str = "cpu") -> None:
        self._folder, self._job, self._backend = folder, job, backend
        # What this process has read whole, or written: files are not hashed twice.
        self._known: dict[str, int] = {}

    def make(self) -> None:
        """Make the folder.

        Raises:
            HarnessError: if that cannot be done.
        """
        try:
            make_folder(self._folder)
        except OSError as error:
            raise self._unwritable(error) from error

    def stage(self, key: str) -> int:
        file = self._file(key)
        if key in self._known and file.is_file():
            return self._known[key]
        if not is_marked(file):
            return 0
        try:
            told = _metadata(file)
            if told.get("job") != self._job:
                return 0
            self._known[key] = int(told["stage"])
            return self._known[key]
        except (OSError, ValueError, KeyError, HarnessError):
            return 0

    def get(self, key: str) -> State:
        from safetensors.torch import load

        # Read whole: a mapped file would be replaced below its reader.
        return {k: v.to(self._backend) for k, v in load(self._file(key).read_bytes()).items()}

    def put(self, key: str, stage: int, state: State) -> None:
        from safetensors.torch import save

        data = save(
            {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()},
            {"job": self._job, "stage": str(stage)},
        )
        file = self._file(key)
        new = file.with_name(file.name + ".new")
        try:
            with open(new, "wb") as stream:
                stream.write(data)
            mark(file, data)
            os.replace(new, file)
            self._known[key] = stage
        except OSError as error:
            raise self._unwritable(error) from error

    def drop(self, key: str) -> None:
        """Nothing: a kill in the last stage would cost all layers else."""

    def remove(self, key: str) -> None:
        """Remove the file of a key."""
        self._known.pop(key, None)
        unmark(self._file(key))
        self._file(key).unlink(missing_ok=True)

    def discard(self) -> None:
        """All is done: the folder is no longer needed."""
        self._known.clear()
        for file in self._folder.glob("*.safetensors"):
            unmark(file)
        with contextlib.suppress(OSError):
            shutil.rmtree(self._folder)

    def _file(self, key: str) -> Path:
        return self._folder / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.safetensors"

    def _unwritable(self, error: OSError) -> HarnessError:
        return HarnessError(
            f"{self._folder}: cannot be written ({error.strerror or error}); "
            "make room there, finished layers are kept"
        )


def _metadata(file: Path) -> dict[str, str]:
    import json

    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        told = json.loads(stream.read(min(length, 1 << 20)))["__metadata__"]
    return {str(k): str(v) for k, v in told.items()}
