"""Files and folders appear whole or not at all, with the rights that the umask leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from harness.errors import HarnessError
from harness.files.atomic import make_folder, put_in_place, replacing, staged_folder, write_bytes
from harness.files.locks import held_folder


@pytest.fixture
def narrow() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_folders_are_made_but_no_endless_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    make_folder(Path("a/" * 50))
    make_folder(Path("a/" * 50))
    assert Path("a/" * 50).is_dir()
    with pytest.raises(OSError, match="new folders"):
        make_folder(Path("x/" * 1500))
    assert not Path("x").exists()
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        make_folder(tmp_path / "file" / "below")


@pytest.mark.usefixtures("narrow")
def test_the_umask_holds_and_is_never_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting it to read it would widen what another thread makes at that moment."""

    def forbidden(_mask: int) -> int:
        raise AssertionError("the umask was set")

    with monkeypatch.context() as patch:
        patch.setattr("os.umask", forbidden)
        write_bytes(tmp_path / "a", b"1")
        with staged_folder(tmp_path / "folder") as folder:
            put_in_place(folder, tmp_path / "folder")
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o750


def test_a_block_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_bytes(path, b"old")
    with suppress(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_bytes(b"new")
        raise KeyboardInterrupt
    with pytest.raises(HarnessError, match=r"a: cannot be written \(No space"), replacing(path):
        raise OSError(28, "No space left on device")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_staged_folder_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    final = tmp_path / "below" / "out"
    with suppress(KeyboardInterrupt), staged_folder(final) as folder:
        (folder / "a").write_bytes(b"1")
        raise KeyboardInterrupt
    assert list(final.parent.iterdir()) == []
    with staged_folder(final) as folder:
        (folder / "a").write_bytes(b"1")
        put_in_place(folder, final)
    assert [str(p.relative_to(final.parent)) for p in final.parent.rglob("*")] == ["out", "out/a"]


def test_a_full_place_is_not_replaced(tmp_path: Path) -> None:
    final = tmp_path / "out"
    final.mkdir()
    (final / "mine").write_bytes(b"1")
    with pytest.raises(OSError, match="not empty"), staged_folder(final) as folder:
        put_in_place(folder, final)
    assert list(tmp_path.rglob("*")) == [final, final / "mine"]


def test_what_dead_processes_left_is_removed_and_a_living_one_keeps_its_own(tmp_path: Path) -> None:
    final = tmp_path / "out"
    dead, living = tmp_path / ".out.part-0123", tmp_path / ".out.part-4567"
    for folder in (dead, living):
        folder.mkdir()
        (folder / "half").write_bytes(b"1")
    with held_folder(living) as held:
        assert held
        with staged_folder(final) as one, staged_folder(final) as other:
            assert one != other
            assert one.is_dir()
            assert not dead.exists()
        assert (living / "half").exists()


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX")
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o660, 0o444])
def test_nobody_gains_access_to_a_file_that_is_written_again(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"old")
    path.chmod(mode)
    with replacing(path) as temporary:
        assert temporary.stat().st_mode & 0o777 & ~mode == 0, "while it is written, too"
        temporary.write_bytes(b"new")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.name != "posix", reason="links are the user's")
def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"mine")
    (tmp_path / "precious").chmod(0o600)
    os.symlink("precious", tmp_path / "a")
    write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "precious").read_bytes() == b"mine"
    assert not (tmp_path / "a").is_symlink()


def test_only_folders_that_the_harness_named_are_cleared_up(tmp_path: Path) -> None:
    final = tmp_path / "out"
    for name in (".out.part-notes", ".out.part-0123456789", ".other.part-01234567", "out"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "diary").touch()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "diary").touch()
    os.symlink("home", tmp_path / ".out.part-00000001")
    (tmp_path / ".out.part-00000002").touch()
    (tmp_path / ".out.part-00000003").mkdir()
    before = sorted(tmp_path.rglob("*"))
    with staged_folder(final):
        pass
    gone = set(before) - set(tmp_path.rglob("*"))
    assert gone == {tmp_path / ".out.part-00000003"}


def _left_by_a_killed_process(folder: Path, name: str = "a.json") -> Path:
    """A temporary file of a process that is no more."""
    code = (
        "import os, pathlib, sys\nfrom harness.files.atomic import new_file\n"
        "with new_file(pathlib.Path(sys.argv[1]), sys.argv[2]) as path:\n"
        " path.write_bytes(b'half'); print(path.name, flush=True); os._exit(9)"
    )
    made = subprocess.run(
        [sys.executable, "-c", code, str(folder), name], capture_output=True, text=True, check=False
    )
    assert made.returncode == 9, made.stderr
    return folder / made.stdout.rstrip("\n")


@pytest.mark.process
@pytest.mark.parametrize("name", ["a.json", "other.html", "n" * 240, "\u4f8b" * 80])
def test_the_next_write_removes_what_a_killed_process_left(tmp_path: Path, name: str) -> None:
    left = _left_by_a_killed_process(tmp_path, name)
    assert left.exists()
    write_bytes(tmp_path / "a.json", b"whole")
    assert sorted(tmp_path.iterdir()) == [tmp_path / "a.json"]


@pytest.mark.process
def test_only_what_the_harness_made_is_removed(tmp_path: Path) -> None:
    left = _left_by_a_killed_process(tmp_path)
    name = left.name
    other = "0" if name[-1] != "0" else "1"
    kept = [
        tmp_path / ".a.json.0123abcd",  # as a user may name a file
        tmp_path / ".a.json.0123abcd0123abcd",
        tmp_path / (name[:-1] + other),
        tmp_path / name.replace("a.json", "b.json"),
    ]
    for path in kept:
        path.write_bytes(b"the user's")
    left.unlink()
    target = tmp_path / "the user's"
    target.write_bytes(b"the user's")
    left.symlink_to(target)
    write_bytes(tmp_path / "a.json", b"whole")
    assert {p.read_bytes() for p in (*kept, target)} == {b"the user's"}
    assert left.is_symlink()
    left.unlink()
    os.link(target, left)  # a second name of the user's file
    write_bytes(tmp_path / "a.json", b"whole")
    assert target.stat().st_nlink == 2
    left.unlink()
    left.mkdir()
    write_bytes(tmp_path / "a.json", b"whole")
    assert left.is_dir()


def test_what_is_being_written_is_left(tmp_path: Path) -> None:
    with replacing(tmp_path / "a") as temporary:
        temporary.write_bytes(b"first")
        write_bytes(tmp_path / "a", b"second")
        write_bytes(tmp_path / "b", b"other")
        assert temporary.read_bytes() == b"first"
    assert (tmp_path / "a").read_bytes() == b"first"
