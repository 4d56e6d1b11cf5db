"""Output files: checked first, written last."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Sequence
from pathlib import Path

from harness.errors import UsageError
from harness.files.atomic import new_file


def check_outputs(outputs: Iterable[Path | None], inputs: Iterable[Path | None] = ()) -> None:
    """Check that every output can be written, and that none of them would
    replace another or an input.

    Args:
        outputs: files to write; None for those that were not requested.
        inputs: files and folders that are read.

    Raises:
        UsageError: naming the first file and what is wrong with it.
    """
    wanted = [path for path in outputs if path is not None]
    refuse_inputs(wanted, inputs)
    seen: set[Path] = set()
    for path in wanted:
        if _real(path) in seen:
            raise UsageError(f"{path}: two outputs go to this file; give each its own name")
        seen.add(_real(path))
        _check_writable(path)


def refuse_inputs(outputs: Sequence[Path], inputs: Iterable[Path | None]) -> None:
    """Check that no output is one of the inputs, or lies in a folder that is one.

    Raises:
        UsageError: naming the output and the input.
    """
    read = [path for path in inputs if path is not None]
    for output in outputs:
        for path in read:
            if _same_file(output, path):
                raise UsageError(
                    f"{output}: is the input {path}, which would be lost; name another output"
                )
            if os.path.isdir(path) and _real(output).is_relative_to(_real(path)):
                raise UsageError(
                    f"{output}: lies inside the input {path}, which stays unchanged; "
                    "name another output"
                )


def _same_file(one: Path, other: Path) -> bool:
    try:
        return os.path.samefile(one, other)
    except OSError:  # one of them is not there, so nothing is lost
        return False


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises for a loop of links


def _check_writable(path: Path) -> None:
    """By making a file beside it, or where its folder would be made: access
    rights alone say nothing to root, of a full disk, or of /proc."""
    if os.path.isdir(path):
        raise UsageError(f"{path}: cannot be written (Is a directory); name a file in it")
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise UsageError(f"{path}: cannot be written (not a regular file); name another")
    except OSError as error:  # not there yet, which is the usual
        if error.errno == errno.ENAMETOOLONG:
            raise _unwritable(path, error) from error
    folder = path.parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    try:
        with new_file(folder, path.name):
            pass
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> UsageError:
    return UsageError(
        f"{path}: cannot be written ({error.strerror or error}); choose another place"
    )
