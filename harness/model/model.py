"""A checkpoint in a folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ModelError
from harness.files.reading import read_regular
from harness.model.hub import first_line

#: Larger JSON files of a checkpoint are refused: a vocabulary's takes tens of megabytes.
MAX_JSON = 256 << 20


@dataclass(frozen=True)
class Model:
    """A checkpoint in a local directory.

    Attributes:
        name: what the user called it.
        path: absolute path of the directory that holds config.json.
        trust_remote_code: whether code in the checkpoint may run.
    """

    name: str
    path: str
    trust_remote_code: bool = False

    @property
    def slug(self) -> str:
        """A folder name for this model's baselines: ``[A-Za-z0-9._-]`` only."""
        is_directory = _as_path(self.name) == self.path
        plain = os.path.basename(self.path) if is_directory else self.name.replace("/", "--")
        slug = re.sub(r"[^A-Za-z0-9._-]", "-", plain)
        if slug != plain or slug in ("", ".", ".."):
            # Two names that lose their difference must not share a folder.
            slug = f"{slug.strip('.') or 'model'}-{hashlib.sha256(plain.encode()).hexdigest()[:8]}"
        return slug


def _as_path(name: str) -> str:
    """Where a name leads as a directory. A NUL becomes U+FFFD: no path can hold one."""
    return os.path.abspath(os.path.expanduser(name.replace("\0", "\ufffd")))


def read_json(model: Model, file: str) -> dict[str, Any] | None:
    """A JSON object of the checkpoint, or None if there is no such file.

    Raises:
        ModelError: if the file is there and holds no JSON object.
    """
    path = Path(model.path, file)
    try:
        content = json.loads(read_regular(path, MAX_JSON))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON: {first_line(error)}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{path}: holds a {type(content).__name__}, not an object")
    return content
