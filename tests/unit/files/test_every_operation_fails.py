"""Every N-th thing that a command does to files fails in turn, until the command gets through.

``FAULTS=all pytest -m slow -s tests/unit/files/test_every_operation_fails.py`` takes every
operation of each command, once alone and once with all that follow, and prints how many there
were. CI takes some of those of the longest commands, and the quick run a sample.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import checkpoints
import pytest

from harness.alignment.result import load_alignment
from harness.bench.result import load_bench
from harness.recording.format import load_recording

Command = Callable[..., Any]
ALL = os.environ.get("FAULTS") == "all"
#: What a full disk refuses; the rest fails as a broken one.
_NEED_ROOM = {"open", "write", "mkdir", "link", "truncate"}
_CHANGES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
BASELINE = "baselines/fake/s/bfloat16"
FAKE = ("--suite", "s.yaml")


@dataclass
class Faults:
    """Counts what is done to files below a folder, and fails one of it.

    Attributes:
        at: the operation that fails, from 1; 0 for none.
        lasting: all operations after it that need room fail too, as on a full disk.
    """

    below: Path
    at: int = 0
    lasting: bool = False
    seen: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    failed: str = ""

    def before(self, kind: str, path: Any, dir_fd: int | None = None) -> None:
        """Raise where this one is to fail."""
        place = self._place(path, dir_fd)
        if place is None or not place.startswith(str(self.below)):
            return
        self.seen += 1
        self.kinds[kind] += 1
        again = self.lasting and self.failed and self.seen > self.at and kind in _NEED_ROOM
        if self.seen == self.at or again:
            self.failed = self.failed or f"{kind} of {place.removeprefix(str(self.below))}"
            code = errno.ENOSPC if kind in _NEED_ROOM else errno.EIO
            raise OSError(code, os.strerror(code))

    def _place(self, path: Any, dir_fd: int | None) -> str | None:
        try:
            if isinstance(path, int):
                return os.readlink(f"/proc/self/fd/{path}")
            base = os.getcwd() if dir_fd is None else os.readlink(f"/proc/self/fd/{dir_fd}")
            return os.path.join(base, os.fsdecode(path))
        except (OSError, TypeError):
            return None


class _File:
    """An open file whose writes may fail, the first half of the bytes written."""

    def __init__(self, stream: Any, faults: Faults) -> None:
        self._stream, self._faults = stream, faults

    def write(self, data: Any) -> Any:
        try:
            self._faults.before("write", self._stream.fileno())
        except OSError:
            self._stream.write(data[: len(data) // 2])
            raise
        return self._stream.write(data)

    def __enter__(self) -> _File:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def __iter__(self) -> Any:
        return iter(self._stream)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


def _patch(patch: pytest.MonkeyPatch, faults: Faults) -> None:
    """Let the functions of Python that change files ask first."""

    def asks(name: str, kind: str) -> None:
        real = getattr(os, name)

        def asking(path: Any, *rest: Any, **named: Any) -> Any:
            if name != "open" or (rest and rest[0] & _CHANGES):
                faults.before(kind, path, named.get("dir_fd"))
            return real(path, *rest, **named)

        patch.setattr(os, name, asking)

    for name in ("open", "write", "pwrite", "mkdir", "link", "truncate", "ftruncate"):
        asks(name, {"pwrite": "write", "ftruncate": "truncate"}.get(name, name))
    for name in ("fsync", "replace", "rename", "unlink", "remove", "rmdir", "chmod"):
        asks(name, {"replace": "rename", "remove": "unlink"}.get(name, name))
    real = io.open

    def opening(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
        if not set(mode) & set("wax+"):
            return real(file, mode, *rest, **named)
        if not isinstance(file, int):
            faults.before("open", file)
        return _File(real(file, mode, *rest, **named), faults)

    patch.setattr(io, "open", opening)
    patch.setattr(builtins, "open", opening)


@dataclass(frozen=True)
class Case:
    """A command, and what must be there before it."""

    arguments: tuple[str, ...]
    before: tuple[tuple[str, ...], ...] = ()
    prepare: Callable[[], None] = lambda: None
    sample: int = 0  # of the quick run: every so many operations; 0 for the slow run alone
    step: int = 1  # of the slow run


def _record(out: str, *more: str) -> tuple[str, ...]:
    return ("record", "--device", "fake", *FAKE, "--out", out, *more)


def _left_arms() -> None:
    shutil.copytree(BASELINE, f"{BASELINE}-old")
    shutil.copytree(BASELINE, Path(BASELINE).parent / ".float16.old")


def _checkpoint() -> None:
    checkpoints.checkpoint(Path("model"))


def _wrong_config() -> None:
    checkpoints.checkpoint(Path("model"), config={**checkpoints.CONFIG, "vocab_size": 7})


MAKE = ("baseline", "make", "--device", "fake-reference", *FAKE)
REPORTS = ("--json", "x.json", "--report", "x.html", "--report", "x.md", "--table", "x.csv")
COMPARE = ("compare", "a.json", BASELINE, *REPORTS)
BENCH = (
    *("bench", "--device", "fake", *FAKE, "--prompt-lengths", "4", "--batch-sizes", "1"),
    *("--output-tokens", "2", "--repeats", "1", "--out", "b.json", "--report", "b.html"),
)
FUSE = ("checkpoint", "fuse", "--input_dir", "model", "--output_dir", "fused")
PLUGIN = ("-q", "-p", "no:cacheprovider", "-p", "harness.plugin", "--suite=s.yaml")
CASES = {
    "record": Case(_record("a.json"), sample=9),
    "record over another": Case(
        _record("a.json"), (_record("a.json", "--engine-arg=seed=4"),), step=5
    ),
    "baseline make": Case((*MAKE, "--baseline-dir", "b"), step=9),
    "baseline make over another": Case(MAKE, step=9),
    "baseline prune": Case(("baseline", "prune", "--yes"), prepare=_left_arms, sample=3),
    "compare": Case(COMPARE, (_record("a.json"),), sample=7),
    "compare over another": Case(COMPARE, (_record("a.json"), COMPARE), step=5),
    "report": Case(("report", "x.json", "--out", "y.html"), (_record("a.json"), COMPARE), sample=4),
    "bench": Case((*BENCH, "--report", "b.md")),
    "checkpoint fuse": Case(FUSE, prepare=_checkpoint),
    "checkpoint fix-config": Case(("checkpoint", "fix-config", "model"), prepare=_wrong_config),
    "pytest": Case(("pytest", *PLUGIN, "--device=fake"), step=5),
    "pytest --update-baselines": Case(
        ("pytest", *PLUGIN, "--device=fake-reference", "--update-baselines"), step=9
    ),
}


def _whole(path: Path) -> bool:
    """Whether an output is complete; what the readers refuse is raised."""
    text = path.read_text("utf-8")
    if path.suffix == ".html":
        return text.rstrip().endswith("</html>")
    if path.suffix in (".md", ".csv"):
        return text.endswith("\n")
    if '"schema": "harness.alignment' in text:
        return load_alignment(path) is not None
    if '"schema": "harness.bench' in text:
        return load_bench(path) is not None
    return load_recording(path) is not None


def _files() -> dict[str, bytes]:
    return {
        path.as_posix(): path.read_bytes()
        for path in sorted(Path().rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def _hidden(files: dict[str, bytes]) -> set[str]:
    return {name for name in files if "/." in f"/{name}" or name.endswith(".partial")}


def _check_files(before: dict[str, bytes], whole: dict[str, bytes], what: str) -> None:
    """Nothing of the user's is lost, and what stands under a name is whole."""
    after = _files()
    for name, content in before.items():
        if name not in whole:
            continue  # what the command is there to remove
        assert name in after or any(k.endswith(Path(name).name) for k in after), (what, name)
        if whole[name] == content:
            assert after.get(name, content) == content, (what, name)
    for name in set(after) - _hidden(after):
        if name in whole and after[name] not in (before.get(name), whole[name]):
            assert Path(name).suffix != ".json" or _whole(Path(name)), (what, name)
            assert _whole(Path(name)), (what, name)


@dataclass(frozen=True)
class _Ended:
    status: int
    out: str
    err: str


class _Stopped(datetime):
    """A clock that stands."""

    @classmethod
    def now(cls, tz: Any = None) -> _Stopped:
        return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)


class _World:
    """A folder for each try, made like the first."""

    def __init__(
        self, case: Case, run: Command, pytester: pytest.Pytester, patch: pytest.MonkeyPatch
    ) -> None:
        self.case, self.run, self.pytester, self.patch = case, run, pytester, patch
        # A file that is written again holds the same time, whatever the clock says.
        patch.setattr("harness.files.timestamp.datetime", _Stopped)
        self.first, self.root = Path.cwd(), Path.cwd().parent / "faults"
        (self.first / "notes.txt").write_text("the user's")
        self._state("made")
        case.prepare()
        for arguments in case.before:
            self.command(*arguments)

    def command(self, *arguments: str) -> _Ended:
        """Run the harness, or pytest with its plugin."""
        if arguments[0] != "pytest":
            ended = self.run(*arguments)
            return _Ended(ended.status, ended.out, ended.err)
        result = self.pytester.runpytest_inprocess(*arguments[1:])
        return _Ended(int(result.ret), result.stdout.str(), result.stderr.str())

    def _state(self, name: str) -> None:
        self.patch.setenv("XDG_STATE_HOME", str(self.root / "state" / name))

    def enter(self, name: str) -> Path:
        folder = self.root / "tries" / name
        shutil.copytree(self.first, folder)
        self.patch.chdir(folder)
        self._state(name)
        return self.root / "tries"

    def attempt(self, faults: Faults) -> _Ended:
        with pytest.MonkeyPatch.context() as patch:
            _patch(patch, faults)
            return self.command(*self.case.arguments)


def _loop(world: _World, step: int, *, lasting: bool) -> Counter[str]:
    """Fail every ``step``-th operation in turn; the operations of an undisturbed run."""
    below = world.enter("whole")
    quiet = Faults(below)
    well = world.attempt(quiet)
    whole, failed = _files(), 0
    for at in range(1, 1000, step):
        world.enter(str(at))
        before = _files()
        faults = Faults(below, at, lasting)
        ended = world.attempt(faults)
        what = f"{' '.join(world.case.arguments[:2])}, operation {at}: {faults.failed}"
        if not faults.failed:
            break
        failed += 1
        assert ended.status in (well.status, 2, 70), (what, ended)
        said = ended.out + ended.err
        assert ended.status == well.status or "cannot be" in said or "rror" in said, (what, said)
        assert "Traceback" not in said, (what, said)
        assert "INTERNALERROR" not in said, (what, said)
        assert "internal error" not in said, (what, said)
        _check_files(before, whole, what)
        again = world.command(*world.case.arguments)
        assert again.status == well.status, (what, again.err)
        assert set(_files()) == set(whole), what
        shutil.rmtree(Path.cwd())
    assert failed >= quiet.seen // step - 1
    return quiet.kinds


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.sample])
def test_a_sample_of_the_operations_fails(
    name: str,
    command: Command,
    project_folder: Path,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(project_folder)
    world = _World(CASES[name], command, pytester, monkeypatch)
    assert _loop(world, CASES[name].sample, lasting=False)


@pytest.mark.slow
@pytest.mark.parametrize("lasting", [False, True] if ALL else [False])
@pytest.mark.parametrize("name", CASES)
def test_every_operation_fails_in_turn(
    name: str,
    lasting: bool,
    command: Command,
    project_folder: Path,
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project_folder)
    world = _World(CASES[name], command, pytester, monkeypatch)
    kinds = _loop(world, 1 if ALL else CASES[name].step, lasting=lasting)
    with capsys.disabled():
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
        print(f"{name}, {lasting=}: {sum(kinds.values())} ({told})")  # noqa: T201
