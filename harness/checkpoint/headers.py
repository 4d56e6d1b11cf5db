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
from harness.model.weights import safetensors_header, tensors_of_files


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


def read_headers(folder: Path) -> list[Stored]:
    """Every tensor of the checkpoint in a folder, in the order of files and bytes.

    Reads headers only, executes nothing, and needs no torch.

    Raises:
        ModelError: without weights, or with damaged or hostile ones, among
            them links that lead out of the folder.
    """

    def read(path: Path, _place: str) -> list[Stored]:
        check_inside(folder, path)
        return _entries(path)

    return list(tensors_of_files(folder, read).values())


def check_inside(folder: Path, path: Path) -> None:
    """Refuse a file that is a link out of the checkpoint's folder.

    The Hub's cache is made of such links: one into the ``blobs`` folder of
    the same repository is as good as a file.

    Raises:
        ModelError: naming the link and its target.
    """
    target = Path(os.path.realpath(path))
    home = Path(os.path.realpath(folder))
    allowed = [home]
    if home.parent.name == "snapshots":
        allowed.append(home.parent.parent / "blobs")
    if not any(target.is_relative_to(place) for place in allowed):
        raise ModelError(
            f"{path}: is a link out of its folder, to {target}; copy the file into the folder"
        )


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
