"""Where the tensors of a checkpoint lie: names, shapes and offsets, without their data."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from harness.checkpoint.torchfile import torch_entries
from harness.errors import ModelError
from harness.model.hub import first_line
from harness.model.safetensors_file import safetensors_header
from harness.model.weights import tensors_of_files


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
        name: its key.
        dtype: in the words of safetensors, as ``BF16``.
        shape: its dimensions.
        path: the file that holds it.
        offset: of its first byte in the file.
        nbytes: its length; the bytes are contiguous, row-major, little-endian.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    nbytes: int

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def read_headers(folder: Path, *, linked: bool = False) -> list[Stored]:
    """Every tensor of the checkpoint in a folder, in the order of files and bytes.

    Reads headers only, executes nothing, and needs no torch.

    Args:
        linked: whether files may be links to any place, as for a library that follows them.

    Raises:
        ModelError: without weights, or with damaged or hostile ones, among
            them links that lead out of the folder.
    """

    def read(path: Path, _place: str) -> list[Stored]:
        if not linked:
            check_inside(folder, path)
        return _entries(path)

    return list(tensors_of_files(folder, read).values())


def check_inside(folder: Path, path: Path) -> None:
    """Refuse a file that is a link out of the checkpoint's folder.

    The Hub's cache is made of such links: one into the ``blobs`` folder of
    the same repository is as good as a file. So is one from elsewhere into the
    blobs of the user's own cache, as older downloads into a folder left them.

    Raises:
        ModelError: naming the link and its target.
    """
    target = Path(os.path.realpath(path))
    home = Path(os.path.realpath(folder))
    allowed = [home]
    if home.parent.name == "snapshots":
        allowed.append(home.parent.parent / "blobs")
    if not any(target.is_relative_to(place) for place in allowed) and not _is_blob(target):
        raise ModelError(
            f"{path}: is a link out of its folder, to {target}; copy the file into the folder"
        )


def _is_blob(target: Path) -> bool:
    """Whether a file is a blob of a model in one of the user's Hub caches."""
    for cache in _hub_caches():
        if target.is_relative_to(cache):
            parts = target.relative_to(cache).parts
            return len(parts) == 3 and parts[0].startswith("models--") and parts[1] == "blobs"
    return False


def _hub_caches() -> list[Path]:
    """Where huggingface_hub keeps what it downloads: its variables, in its own order."""
    named = [os.environ.get(name) for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")]
    home = os.environ.get("HF_HOME")
    if not home:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.join("~", ".cache")
        home = os.path.join(base, "huggingface")
    places = [*(place for place in named if place), os.path.join(home, "hub")]
    return [Path(os.path.realpath(os.path.expanduser(place))) for place in places]


def total_bytes(tensors: Sequence[Stored]) -> int:
    """Bytes of all tensors, without their containers."""
    return sum(t.nbytes for t in tensors)


def _entries(path: Path) -> list[Stored]:
    try:
        with open(path, "rb") as stream:
            if path.suffix == ".bin":
                return [Stored(e[0], e[1], e[2], path, e[3], e[4]) for e in torch_entries(path)]
            entries, start = safetensors_header(path, stream)
    except OSError as error:
        raise ModelError(f"{path}: not readable: {first_line(error)}") from error
    return [
        Stored(name, dtype, shape, path, start + begin, end - begin)
        for name, dtype, shape, begin, end in entries
    ]
