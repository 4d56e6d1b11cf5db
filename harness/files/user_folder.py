"""Folders of the user, outside of any working tree: what lies there, nobody else has put there."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from harness.errors import HarnessError


def cache_folder() -> Path:
    """Where converted models are kept; not created here.

    ``$HARNESS_CACHE``, else ``$XDG_CACHE_HOME/harness``, else
    ``~/.cache/harness``, else, without a home, a folder per user under the
    directory for temporary files.

    Raises:
        HarnessError: if that last one is not this user's alone.
    """
    if own := os.environ.get("HARNESS_CACHE"):
        return Path(own).expanduser().absolute()
    return _folder("XDG_CACHE_HOME", ".cache")


def state_folder() -> Path:
    """Where the key of :mod:`harness.files.own` is kept; not created here.

    ``$XDG_STATE_HOME/harness``, else ``~/.local/state/harness``, else as :func:`cache_folder`.

    Raises:
        HarnessError: as :func:`cache_folder` does.
    """
    return _folder("XDG_STATE_HOME", ".local/state")


def _folder(variable: str, below_home: str) -> Path:
    xdg = os.environ.get(variable, "")
    if os.path.isabs(xdg):  # a relative one is to be ignored, and would lead into the working tree
        return Path(xdg) / "harness"
    try:
        home = Path.home()
    except RuntimeError:
        home = Path()
    if home.is_absolute() and home != Path(home.anchor):
        return home / below_home / "harness"
    return _temporary()


def _temporary() -> Path:
    """The folder under the one for temporary files, whose name anybody can guess.

    It is made at once, so that nobody else makes it later.
    """
    user = str(os.getuid()) if hasattr(os, "getuid") else "user"
    folder = Path(tempfile.gettempdir()) / f"harness-cache-{user}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError:
        return folder  # who writes there is told why it cannot be
    found = folder.lstat()
    mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
    if not (stat.S_ISDIR(found.st_mode) and mine):
        raise HarnessError(
            f"{folder}: is another user's, or a link, so nothing is read from it; "
            "HARNESS_CACHE names a folder of your own"
        )
    if found.st_mode & 0o022:
        raise HarnessError(
            f"{folder}: others may write there, so nothing is read from it; "
            "`chmod 700` it after a look inside, or name another folder in HARNESS_CACHE"
        )
    return folder
