"""Finished runs survive a kill; damaged ones are dropped."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from factories import RNG, run

from harness.errors import HarnessError
from harness.files.own import seal
from harness.recording.format import Run
from harness.recording.journal import Journal

KEY: dict[str, object] = {"device": "fake", "context": None}


def a_run(seed: int) -> Run:
    return run((3 * RNG(seed).standard_normal((3, 64))).astype(np.float32))


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Where the journal holds the runs a (free), b (free) and a (forced)."""
    path = tmp_path / "r.json"
    with Journal(path, KEY) as journal:
        journal.add("free", "a", a_run(1))
        journal.add("free", "b", a_run(2))
        journal.add("forced", "a", a_run(3))
    return path


def partial(out: Path) -> Path:
    return out.with_name("r.json.partial")


def found(out: Path, key: dict[str, object] = KEY) -> list[tuple[str, str]]:
    with Journal(out, key) as journal:
        kinds = ("free", "forced")
        return [(kind, prompt) for kind in kinds for prompt in journal.runs(kind)]


def test_finished_runs_are_taken_over_in_order(out: Path) -> None:
    with Journal(out, KEY) as journal:
        assert journal.found == 3
        assert list(journal.runs("free")) == ["a", "b"]
        assert journal.runs("free")["b"].model_dump() == a_run(2).model_dump()
        assert journal.runs("forced")["a"].model_dump() == a_run(3).model_dump()


def test_a_run_is_on_disk_as_soon_as_it_is_added(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    with Journal(out, KEY) as journal:
        journal.add("free", "a", a_run(1))
        copy = tmp_path / "copy.json"
        shutil.copy(f"{out}.partial", f"{copy}.partial")
        assert found(copy) == [("free", "a")]


def test_a_journal_of_other_work_is_started_afresh(out: Path) -> None:
    assert found(out, {**KEY, "device": "other"}) == []
    assert found(out) == []


def test_every_cut_keeps_the_whole_lines_before_it(out: Path) -> None:
    data = partial(out).read_bytes()
    ends = [i + 1 for i, byte in enumerate(data) if byte == ord("\n")]
    for cut in {0, 1, *ends, *(e - 1 for e in ends), *range(0, len(data), 997)}:
        partial(out).write_bytes(data[:cut])
        whole = sum(end <= cut for end in ends)
        assert len(found(out)) == max(whole - 1, 0)


def test_work_goes_on_behind_a_cut(out: Path) -> None:
    data = partial(out).read_bytes()
    partial(out).write_bytes(data[:-5])
    with Journal(out, KEY) as journal:
        journal.add("forced", "b", a_run(4))
    assert found(out) == [("free", "a"), ("free", "b"), ("forced", "b")]


@pytest.mark.parametrize("line", [0, 1, 2, 3])
def test_a_damaged_line_and_what_follows_is_dropped(out: Path, line: int) -> None:
    lines = partial(out).read_bytes().splitlines(keepends=True)
    lines[line] = lines[line].replace(b":", b";", 1)
    partial(out).write_bytes(b"".join(lines))
    assert len(found(out)) == max(line - 1, 0)
    # Nothing of the dropped lines is left to be read behind later ones.
    assert partial(out).read_bytes().count(b"\n") == max(line, 1)


@pytest.mark.parametrize("text", [b"[]", b"{}", b'{"run":{},"kind":"free","prompt":"c"}', b"{"])
def test_a_sealed_line_that_is_no_run_is_dropped(out: Path, text: bytes) -> None:
    with partial(out).open("ab") as stream:
        before = partial(out).read_bytes().splitlines()[-1].partition(b" ")[0]
        stream.write(seal(b"journal", before, text).encode() + b" " + text + b"\n")
    assert len(found(out)) == 3


PRECIOUS = b"the only copy\n"


@pytest.mark.parametrize(
    "text",
    [
        PRECIOUS,
        b"\xff\x00 something else\r\n" * 50,
        b'{"key": "a journal of another tool"}\n',
        b"0" * 4000,
        b"cafe\n",
    ],
)
def test_what_is_not_a_journal_stays(tmp_path: Path, text: bytes) -> None:
    out = tmp_path / "r.json"
    partial(out).write_bytes(text)
    with pytest.raises(HarnessError, match=r"is not a journal of the harness.*--out"):
        Journal(out, KEY).__enter__()
    assert partial(out).read_bytes() == text


@pytest.mark.parametrize("there", ["a file", "a journal", "nothing"])
def test_a_link_is_not_followed(tmp_path: Path, there: str, out: Path) -> None:
    target = tmp_path / "elsewhere" / "thesis.txt"
    target.parent.mkdir()
    text = partial(out).read_bytes() if there == "a journal" else PRECIOUS
    if there != "nothing":
        target.write_bytes(text)
    partial(out).unlink()
    os.symlink(target, partial(out))
    with pytest.raises(HarnessError, match="is a link"):
        Journal(out, KEY).__enter__()
    assert target.read_bytes() == text if there != "nothing" else not target.exists()
    assert partial(out).is_symlink()


@pytest.mark.skipif(sys.platform == "win32", reason="no FIFOs")
def test_a_fifo_or_a_folder_is_refused_at_once(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    os.mkfifo(partial(out))
    with pytest.raises(HarnessError, match="is not a regular file"):
        Journal(out, KEY).__enter__()
    partial(out).unlink()
    partial(out).mkdir()
    with pytest.raises(HarnessError, match="cannot be written"):
        Journal(out, KEY).__enter__()


def test_discard_leaves_what_took_the_journals_place(out: Path) -> None:
    with Journal(out, KEY) as journal:
        partial(out).unlink()
        partial(out).write_bytes(PRECIOUS)
        journal.discard()
    assert partial(out).read_bytes() == PRECIOUS


def test_another_users_journal_is_not_finished_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is of the same work, byte by byte as the harness writes it, and was made elsewhere."""
    out = tmp_path / "r.json"
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "stranger"))
    with Journal(out, KEY) as journal:
        journal.add("free", "a", a_run(1))
    assert found(out) == [("free", "a")]
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "mine"))
    assert found(out) == []


def test_lines_of_ones_own_journals_do_not_mix(out: Path, tmp_path: Path) -> None:
    """A line belongs behind the lines that stood before it, in the journal of that work."""
    other = tmp_path / "other" / "r.json"
    with Journal(other, {**KEY, "device": "other"}) as journal:
        journal.add("free", "a", a_run(9))
    lines = partial(out).read_bytes().splitlines(keepends=True)
    foreign = partial(other).read_bytes().splitlines(keepends=True)
    for forged in (
        [lines[0], foreign[1]],
        [lines[0], lines[2], lines[1]],
        [lines[0], lines[1], lines[1]],
    ):
        partial(out).write_bytes(b"".join(forged))
        assert len(found(out)) == (1 if forged[1] == lines[1] else 0)


@pytest.mark.skipif(sys.platform == "win32", reason="modes are POSIX")
def test_the_journal_of_a_private_recording_is_private(tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    out.touch(0o600)
    with Journal(out, KEY):
        assert partial(out).stat().st_mode & 0o777 == 0o600


def test_discard_removes_the_file(out: Path) -> None:
    with Journal(out, KEY) as journal:
        journal.discard()
    assert not partial(out).exists()


def test_without_a_place_nothing_is_kept() -> None:
    with Journal() as journal:
        journal.add("free", "a", a_run(1))
        assert journal.found == 0
        journal.discard()


def test_an_unwritable_place_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    for out in (tmp_path / "plain" / "r.json", tmp_path / ("n" * 300)):
        with pytest.raises(HarnessError, match=r"cannot be written .*--out") as caught:
            Journal(out, KEY).__enter__()
        assert "\n" not in str(caught.value)


def test_a_full_disk_is_one_line_and_keeps_what_was_finished(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with Journal(out, KEY) as journal:
        monkeypatch.setattr("os.fsync", full)
        with pytest.raises(HarnessError, match="No space left on device"):
            journal.add("free", "c", a_run(5))
    monkeypatch.undo()
    assert found(out)[:2] == [("free", "a"), ("free", "b")]


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX")
def test_a_disk_that_takes_half_a_line_is_one_line(out: Path) -> None:
    import resource

    size = partial(out).stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        with Journal(out, KEY) as journal:
            journal.add("free", "c", a_run(5))

    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 100, hard))
    try:
        with pytest.raises(HarnessError, match="File too large"):
            fill()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(found(out)) == 3


def test_a_journal_is_closed_before_it_is_removed(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Windows removes no open file, and a journal left behind would be taken up again.
    still_open: list[bool] = []
    unlink = Path.unlink

    def spy(path: Path) -> None:
        still_open.append(journal._stream is not None)
        unlink(path)

    with Journal(out, KEY) as journal:
        monkeypatch.setattr(Path, "unlink", spy)
        journal.discard()
    assert still_open == [False]
    assert not partial(out).exists()
