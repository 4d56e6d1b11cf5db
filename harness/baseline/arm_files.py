"""Which files in the folders of baselines the harness wrote: it removes those and no others.

Folders come from a checkout or from a user's hand. They may hold notes, or be
links into any other place.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

from harness.errors import BaselineError
from harness.files.atomic import is_temporary
from harness.files.gzipped import SUFFIX, name_of
from harness.files.jsonfile import begins_with_schema
from harness.recording.journal import is_journal

_ARM = re.compile(r"(reference|oracle|control-[^/]*)\.json(\.gz)?")
#: The arms' scores for a diagnosis, in an archive whose first entry has this name.
SCORES = "diagnosis.zip"
_ZIP, _FIRST, _NAME_AT = b"PK\x03\x04", b"about", 30
_SCHEMA = "harness.recording/"
_HEAD = b'{\n "schema": "harness.recording/'
#: A pointer of Git LFS, and a merge that was not finished.
_OF_GIT = (b"version https://git-lfs.githu", b"<<<<<<< ")


def arm_paths(folder: Path) -> dict[str, Path]:
    """The recordings in a folder, compressed or not, by the name of their arm, sorted.

    Raises:
        BaselineError: if one is there twice.
    """
    found: dict[str, Path] = {}
    for path in sorted([*folder.glob("*.json"), *folder.glob(f"*.json{SUFFIX}")]):
        name = name_of(path).stem
        if name in found:
            raise BaselineError(
                f"{path}: the arm {name} is there twice, as {found[name].name} too; remove the "
                "older one"
            )
        found[name] = path
    return dict(sorted(found.items()))


def arm_path(folder: Path, name: str) -> Path:
    """Where an arm is, compressed or not; where it would be made if it is not there."""
    plain = folder / f"{name}.json"
    packed = folder / f"{name}.json{SUFFIX}"
    return packed if packed.is_file() and not plain.is_file() else plain


def is_linked(root: Path, folder: Path) -> bool:
    """Whether a folder below ``root`` is a link, or is reached through one."""
    place = root
    for part in folder.relative_to(root).parts:
        place = place / part
        if place.is_symlink():
            return True
    return False


def refuse_strangers(folder: Path) -> None:
    """Check that a folder whose arms are to be replaced has none that the harness did not write.

    Raises:
        BaselineError: naming the file.
    """
    for path in entries(folder):
        if _ARM.fullmatch(path.name) and not is_own(path):
            raise BaselineError(
                f"{path}: is not a recording of the harness, and would be replaced; move it away"
            )


def refuse_others(folder: Path) -> None:
    """Check that a folder in which arms are made holds nothing else.

    Raises:
        BaselineError: naming the first file that the harness did not write.
    """
    for path in entries(folder):
        if not is_own(path):
            raise BaselineError(
                f"{path}: was not written by the harness, which makes its baseline in that "
                "folder; move it away"
            )


def is_own(path: Path) -> bool:
    """Whether the harness wrote this file of a baseline's folder: an arm, its journal, the
    scores of the arms, or what a kill left of them."""
    if path.is_symlink() or not path.is_file():
        return False
    name = is_temporary(path.name)
    if name is not None and (_ARM.fullmatch(name) or name == SCORES):
        return True
    if path.name == SCORES:
        with path.open("rb") as file:
            head = file.read(_NAME_AT + len(_FIRST))
        return head.startswith(_ZIP) and head[_NAME_AT:] == _FIRST
    if path.name.endswith(".partial"):
        return bool(_ARM.fullmatch(path.name.removesuffix(".partial"))) and is_journal(path)
    return bool(_ARM.fullmatch(path.name)) and (
        begins_with_schema(path, _SCHEMA) or _is_damaged(path)
    )


def clear(folder: Path) -> list[Path]:
    """Remove what the harness wrote in a folder, and the folder if nothing else is in it.

    Returns:
        What was left: a link, whatever it leads to, and the user's files.

    Raises:
        OSError: if a file cannot be removed.
    """
    if folder.is_symlink() or not folder.is_dir():
        return [folder]
    left = []
    for path in entries(folder):
        if is_own(path):
            path.unlink()
        else:
            left.append(path)
    if not left:
        folder.rmdir()
    return left


def carry_over(old: Path, new: Path) -> None:
    """Move the user's files from a folder into the one that took its place.

    Raises:
        OSError: if one cannot be moved; it is still in ``old`` then.
    """
    for path in entries(old):
        if not is_own(path) and not os.path.lexists(new / path.name):
            os.rename(path, new / path.name)


def entries(folder: Path) -> list[Path]:
    """What a folder holds, sorted; nothing where there is none."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        return sorted(folder.iterdir())
    return []


def _is_damaged(path: Path) -> bool:
    """Whether an arm was cut off at its beginning, or git put something in its place."""
    with path.open("rb") as file:
        head = file.read(len(_HEAD))
    return _HEAD.startswith(head.strip()) or head.startswith(_OF_GIT)
