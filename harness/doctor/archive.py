"""What a bundle holds, and writing it whole or not at all."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import secrets
import time
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SCHEMA = "harness.doctor.bundle/1"
MANIFEST = "manifest.json"

#: Errors of a file system that has no nameless files, or no second names.
_LACKS = frozenset(
    getattr(errno, name)
    for name in ("EOPNOTSUPP", "EISDIR", "EINVAL", "ENOENT", "ENOSYS", "EPERM", "EXDEV", "EACCES")
)


@dataclass(frozen=True)
class Member:
    """One file of the archive.

    Attributes:
        name: in the archive.
        data: its bytes.
        notes: more of it for the manifest: where it comes from, how many
            secrets were blotted out, how many bytes are missing.
    """

    name: str
    data: bytes
    notes: Mapping[str, Any] = field(default_factory=dict)

    def listed(self) -> dict[str, Any]:
        """Its entry in the manifest; ``size`` is in bytes."""
        digest = hashlib.sha256(self.data).hexdigest()
        return {"name": self.name, "size": len(self.data), "sha256": digest, **self.notes}


@dataclass
class Contents:
    """The files of a bundle, and what was left out of it and why."""

    members: list[Member] = field(default_factory=list)
    left_out: list[dict[str, str]] = field(default_factory=list)

    def add(self, name: str, data: bytes, **notes: Any) -> None:
        """A file; of notes only those that say something are kept."""
        self.members.append(Member(name, data, {k: v for k, v in notes.items() if v}))

    def leave_out(self, path: str, why: str) -> None:
        """Note what is missing."""
        self.left_out.append({"path": path, "why": why})

    @property
    def size(self) -> int:
        """Bytes of all files, before they are compressed."""
        return sum(len(member.data) for member in self.members)

    def manifest(self, facts: Mapping[str, Any]) -> bytes:
        """The list of all other files, as JSON."""
        listed = {
            "schema": SCHEMA,
            **facts,
            "files": [member.listed() for member in self.members],
            "left_out": self.left_out,
        }
        return (json.dumps(listed, indent=2) + "\n").encode()

    def zipped(self, facts: Mapping[str, Any]) -> bytes:
        """The archive's bytes, the manifest first."""
        whole = io.BytesIO()
        try:
            import zlib  # noqa: F401
        except ImportError:  # a Python that was built without it
            method = zipfile.ZIP_STORED
        else:
            method = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(whole, "w", method) as archive:
            for member in (Member(MANIFEST, self.manifest(facts)), *self.members):
                info = zipfile.ZipInfo(member.name, time.gmtime()[:6])
                info.compress_type = method
                info.external_attr = 0o600 << 16
                archive.writestr(info, member.data)
        return whole.getvalue()


def check_free(path: Path) -> None:
    """Check that a new file can have this name.

    Raises:
        OSError: if there is one already, or the folder takes none.
    """
    if os.path.lexists(path):
        raise FileExistsError(
            errno.EEXIST, "it is there already and is never overwritten; name another", str(path)
        )
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, "there is no such folder", str(folder))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, "the folder takes no new file", str(folder))


def write_new(path: Path, data: bytes) -> None:
    """Write a new file that only this user may read; a kill leaves the whole file, or none.

    The file has no name until it is on the disk, where the system can do that.

    Raises:
        OSError: if it cannot be written, or there is one already.
    """
    try:
        if not _write_nameless(path, data):
            _write_beside(path, data)
    except FileExistsError:
        check_free(path)
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_nameless(path: Path, data: bytes) -> bool:
    """False where the system or the file system cannot do that."""
    flag = getattr(os, "O_TMPFILE", None)
    if flag is None:
        return False
    try:
        handle = os.open(path.parent, flag | os.O_RDWR, 0o600)
    except OSError as error:
        if error.errno in _LACKS:
            return False
        raise
    try:
        _fill(handle, data)
        # Only with a folder does Python follow the link to the file itself.
        os.link(f"/proc/self/fd/{handle}", path, src_dir_fd=handle, follow_symlinks=True)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno in _LACKS:
            return False
        raise
    finally:
        os.close(handle)
    return True


def _write_beside(path: Path, data: bytes) -> None:
    beside = path.parent / f".{path.name[:100]}.{secrets.token_hex(4)}"
    handle = os.open(beside, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        try:
            _fill(handle, data)
        finally:
            os.close(handle)
        try:
            os.link(beside, path)
        except FileExistsError:
            raise
        except OSError as error:
            if error.errno not in _LACKS:
                raise
            check_free(path)
            os.rename(beside, path)
    finally:
        with suppress(OSError):
            os.unlink(beside)


def _fill(handle: int, data: bytes) -> None:
    left = memoryview(data)
    while left:
        left = left[os.write(handle, left[: 1 << 20]) :]
    os.fsync(handle)


def text_of(rows: Any) -> bytes:
    """A value as JSON, for a file of the archive."""
    return (json.dumps(rows, indent=2) + "\n").encode()


def total(members: Sequence[Member]) -> int:
    """How many secrets were blotted out of these."""
    return sum(int(member.notes.get("blotted", 0)) for member in members)
