"""Which half-finished work is this user's own.

A journal or an arm in the making is taken for work that was done. Anybody can
write such a file into a working tree, so it is sealed with a key that stands
outside of every tree and that nobody else can read.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import stat
from functools import lru_cache
from pathlib import Path

from harness.errors import HarnessError
from harness.files.user_folder import state_folder

_NAME = "own.key"
_BYTES = 32
_FILE = b"file"


def seal(*parts: bytes) -> str:
    """32 hexadecimal digits that only this user's harness can make of these parts."""
    mac = hmac.new(_key(), digestmod=hashlib.sha256)
    for part in parts:
        mac.update(len(part).to_bytes(8, "big") + part)
    return mac.hexdigest()[:32]


def is_sealed(found: str | bytes, *parts: bytes) -> bool:
    """Whether this user's harness made that seal of these parts."""
    told = found if isinstance(found, bytes) else found.encode("utf-8", "replace")
    return hmac.compare_digest(told, seal(*parts).encode())


def mark(path: Path, data: bytes | None = None) -> None:
    """Note in the user's own folder that the harness finished a file, with that content.

    Args:
        data: what is about to be written there; None for what is there.

    Raises:
        OSError: if it cannot be noted or read.
        HarnessError: if there is no folder of this user's.
    """
    digest = _digest(path) if data is None else hashlib.sha256(data).digest()
    note = _note_of(path)
    note.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    note.write_text(seal(_FILE, digest), "ascii")


def is_marked(path: Path) -> bool:
    """Whether this user's harness finished a file as it is."""
    try:
        told = _note_of(path).read_bytes()[: 2 * _BYTES]
        return not path.is_symlink() and is_sealed(told, _FILE, _digest(path))
    except (OSError, HarnessError):
        return False


def unmark(path: Path) -> None:
    """Forget what :func:`mark` noted of a file."""
    with contextlib.suppress(OSError, HarnessError):
        _note_of(path).unlink()


def _note_of(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(os.path.abspath(path))).hexdigest()[:32]
    return state_folder() / "finished" / name


def _digest(path: Path) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.digest()


def _key() -> bytes:
    try:
        return _key_in(state_folder())
    except (OSError, HarnessError):
        return _of_this_process()  # no place for a key: only this process knows its own work


def _key_in(folder: Path) -> bytes:
    """The key that a folder keeps, made on first use.

    Raises:
        OSError: if it cannot be kept there, or others may read or change it.
    """
    path = folder / _NAME
    if not os.path.lexists(path):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = folder / f".{_NAME}.{secrets.token_hex(4)}"
        handle = os.open(new, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
        try:
            os.write(handle, secrets.token_bytes(_BYTES))
            os.fsync(handle)
        finally:
            os.close(handle)
        with contextlib.suppress(FileExistsError, FileNotFoundError):  # another was faster
            os.link(new, path)
        for left in folder.glob(f".{_NAME}.*"):  # also of a process that was killed here
            left.unlink(missing_ok=True)
    return _read(path)


def _read(path: Path) -> bytes:
    handle = os.open(
        path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    )
    try:
        found = os.fstat(handle)
        mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
        private = os.name == "nt" or not found.st_mode & 0o077
        data = os.read(handle, _BYTES + 1)
    finally:
        os.close(handle)
    if not (stat.S_ISREG(found.st_mode) and mine and private and len(data) == _BYTES):
        raise PermissionError(f"{path}: is not a key that this user alone can read")
    return data


@lru_cache(maxsize=1)
def _of_this_process() -> bytes:
    return secrets.token_bytes(_BYTES)
