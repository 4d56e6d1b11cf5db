"""Files and folders that are there whole, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.errors import HarnessError
from harness.files.locks import held_folder, try_lock
from harness.files.own import seal
from harness.process import signals

#: New folders, one below another.
_DEEPEST = 100
_TEMPORARY = re.compile(r"\.(.+)\.([0-9a-f]{8})([0-9a-f]{8})?", re.DOTALL)
#: Bytes of a name that its temporary file repeats.
_LONGEST_NAME = 200
_NO_FOLLOWING = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or nothing.

    Raises:
        HarnessError: if the folder or the disk does not take it; an older
            file of that name is unchanged.
    """
    write_parts(path, (data,))


def write_parts(path: Path, parts: Iterable[bytes]) -> None:
    """:func:`write_bytes`, part by part."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(parts)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A new file to fill, which takes the place of ``path`` when the block ends.

    It is on the disk before it takes its place, and is removed if the block fails.
    It has the owner and the mode of the file that it replaces: nobody gains access.

    Raises:
        HarnessError: for any OSError, also of the block.
    """
    signals.check()
    try:
        make_folder(path.parent)
        with signals.held(), new_file(path.parent, path.name, mode_of(path)) as temporary:
            with signals.allowed():
                yield temporary
            _take_owner_and_mode(temporary, path)
            sync(temporary)
            os.replace(temporary, path)
    except OSError as error:
        raise HarnessError(
            f"{path}: cannot be written ({error.strerror or error}); "
            "nothing was changed there, choose another place or make room"
        ) from error


def make_folder(folder: Path) -> None:
    """A folder and all that it lies in, where they are not there.

    Raises:
        OSError: if one cannot be made, or too many would be, one below another: Python's own
            functions fail on a tree that is much deeper.
    """
    missing = []
    while not os.path.isdir(folder):
        missing.append(folder)
        if folder == folder.parent:
            break
        folder = folder.parent
    if len(missing) > _DEEPEST:
        raise OSError(errno.ENAMETOOLONG, f"more than {_DEEPEST} new folders", str(folder))
    for place in reversed(missing):
        place.mkdir(exist_ok=True)


@contextmanager
def new_file(folder: Path, name: str, mode: int = 0o666) -> Iterator[Path]:
    """An empty file in ``folder`` under a hidden name of its own, for the length of a block.

    The block may rename it. The system applies the umask, which no program can ask for
    without setting it. What killed processes left in that folder is removed first.

    Raises:
        OSError: if it cannot be made.
    """
    sweep(folder)
    path, handle = _locked_new_file(folder, name, mode)
    try:
        yield path
    finally:
        with contextlib.suppress(OSError):
            if _is_at(handle, path):
                os.unlink(path)
        os.close(handle)


def _locked_new_file(folder: Path, name: str, mode: int) -> tuple[Path, int]:
    """A new file and a descriptor that holds it, as long as its process lives."""
    while True:
        path = folder / _temporary_name(name)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, mode)
        except FileExistsError:
            continue
        # Else another process took it for a dead one's, before it was locked.
        if try_lock(handle) is not False and _is_at(handle, path):
            return path, handle
        os.close(handle)


def sweep(folder: Path) -> None:
    """Remove the temporary files that killed processes of this user left in a folder.

    Their names are sealed with a key of the user's own, and a living process holds a lock.
    """
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if is_sealed_temporary(name):
                with contextlib.suppress(OSError):
                    _remove_dead(folder / name)


def _remove_dead(path: Path) -> None:
    handle = os.open(path, os.O_RDWR | _NO_FOLLOWING)
    try:
        found = os.fstat(handle)
        alone = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if alone and try_lock(handle) and _is_at(handle, path):
            os.unlink(path)
    finally:
        os.close(handle)


def _is_at(handle: int, path: Path) -> bool:
    """Whether an open file still has that name."""
    try:
        return os.path.samestat(os.fstat(handle), path.lstat())
    except FileNotFoundError:
        return False


def _temporary_name(name: str) -> str:
    """A hidden name that shows whose it is; a long one is cut, for the system's limit."""
    short = os.fsencode(name)[:_LONGEST_NAME].decode("utf-8", "ignore")
    once = secrets.token_hex(4)
    return f".{short}.{once}{_seal_of(short, once)}"


def _seal_of(name: str, once: str) -> str:
    return seal(b"temporary", name.encode("utf-8", "surrogateescape"), once.encode())[:8]


def is_sealed_temporary(name: str) -> bool:
    """Whether this user's harness gave a temporary file that name."""
    found = _TEMPORARY.fullmatch(name)
    return found is not None and found[3] == _seal_of(found[1], found[2])


def is_temporary(name: str) -> str | None:
    """The name of the file that was to take its place, if ``name`` looks like one of
    :func:`new_file`, or of an earlier version's."""
    found = _TEMPORARY.fullmatch(name)
    return None if found is None else found[1]


def mode_of(path: Path) -> int:
    """The mode for what replaces or accompanies a file: that file's own, else any."""
    try:
        found = path.lstat()
    except OSError:
        return 0o666
    return found.st_mode & 0o777 if stat.S_ISREG(found.st_mode) else 0o666


def _take_owner_and_mode(new: Path, old: Path) -> None:
    try:
        found, mine = old.lstat(), new.lstat()
    except OSError:
        return
    if not stat.S_ISREG(found.st_mode) or os.name != "posix":
        return
    mode = found.st_mode & 0o777
    if (found.st_uid, found.st_gid) != (mine.st_uid, mine.st_gid):
        try:
            os.chown(new, found.st_uid, found.st_gid)
        except OSError:  # another group must not get what that group may
            mode &= 0o707 if found.st_gid != mine.st_gid else 0o777
    if mode != mine.st_mode & 0o777:
        with contextlib.suppress(OSError):
            os.chmod(new, mode)


def sync(path: Path) -> None:
    """Force a file, or the names in a folder, onto the disk.

    Raises:
        OSError: if the disk does not take it.
    """
    is_folder = path.is_dir()
    if is_folder and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def staged_folder(final: Path) -> Iterator[Path]:
    """A hidden folder beside ``final``, for :func:`put_in_place`; removed if it is still there.

    Folders that killed processes left are removed first: a living process
    holds a lock on its own.

    Raises:
        OSError: if it cannot be made.
    """
    make_folder(final.parent)
    prefix = f".{final.name}.part-"
    for left in final.parent.iterdir():
        if not _is_staged(left, prefix):
            continue
        with contextlib.suppress(OSError), held_folder(left) as held:
            if held:
                shutil.rmtree(left, ignore_errors=True)
    with contextlib.ExitStack() as stack:
        folder = _held_new_folder(final.parent, prefix, stack)
        try:
            yield folder
        finally:
            if folder.exists():
                shutil.rmtree(folder, ignore_errors=True)


def _is_staged(folder: Path, prefix: str) -> bool:
    """Whether :func:`_held_new_folder` gave it that name; a link leads to what is the user's."""
    end = folder.name.removeprefix(prefix)
    return bool(
        end != folder.name
        and re.fullmatch(r"[0-9a-f]{4,8}", end)
        and folder.is_dir()
        and not folder.is_symlink()
    )


def _held_new_folder(parent: Path, prefix: str, stack: contextlib.ExitStack) -> Path:
    while True:
        folder = parent / f"{prefix}{secrets.token_hex(4)}"
        folder.mkdir()
        with contextlib.suppress(FileNotFoundError):
            held = stack.enter_context(held_folder(folder))
            # Else another process took it for a dead one's, before it was locked.
            if held is not False and folder.exists():
                return folder


def put_in_place(folder: Path, final: Path) -> None:
    """Give a staged folder its name, and force that onto the disk; else it keeps the old one.

    Raises:
        OSError: if ``final`` is a folder with files in it, among others.
    """
    os.rename(folder, final)
    try:
        sync(final.parent)
    except OSError:
        # What failed is not there: the same command can be given again.
        os.rename(final, folder)
        raise
