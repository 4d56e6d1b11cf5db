"""Which commit an installed package runs from, where it runs from a checkout."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: Seconds that git may take.
_GIT_S = 10.0
_HEAD = re.compile(r"^# branch\.oid ([0-9a-f]{40,64})$", re.MULTILINE)


def commit_of(distribution: str) -> str | None:
    """The commit of an editable install, with ``, changed`` where a tracked file differs from it.

    None where the package is not there, was installed as a copy, or its folder is not in a
    checkout that git reads: then its version says all that is known.

    Args:
        distribution: the package's name, as pip has it.
    """
    try:
        told = importlib.metadata.distribution(distribution).read_text("direct_url.json")
        source = json.loads(told or "{}")
        editable = source["dir_info"]["editable"] is True
        url = urlsplit(source["url"])
    except (importlib.metadata.PackageNotFoundError, ValueError, LookupError, TypeError, OSError):
        return None
    except AttributeError:  # of a url that is not text
        return None
    return state_of(Path(unquote(url.path))) if editable and url.scheme == "file" else None


def state_of(folder: Path) -> str | None:
    """The commit of the checkout that a folder lies in; see ``commit_of``."""
    git = shutil.which("git")
    if git is None:
        return None
    try:
        done = subprocess.run(
            # It is read, and nothing of its settings is run.
            [git, "-c", "core.fsmonitor=false", "-C", str(folder), "status", "--porcelain=v2",
             "--branch", "--untracked-files=no", "--ignore-submodules=all"],
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_GIT_S,
            check=False,
        )  # fmt: skip
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return None
    said = done.stdout.decode("utf-8", "replace")
    head = _HEAD.search(said)
    if done.returncode != 0 or head is None:
        return None
    changed = any(line and not line.startswith("#") for line in said.splitlines())
    return f"{head[1][:12]}{', changed' if changed else ''}"
