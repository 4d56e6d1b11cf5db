"""The layout of a checkpoint that is about to be written: shards, headers, index."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass

from harness.model.safetensors_file import BITS

#: Bytes of tensors in a shard, unless a single tensor is longer.
SHARD_BYTES = 1 << 30

_STEM = "model"


@dataclass(frozen=True)
class Shard:
    """A safetensors file to be.

    Attributes:
        file: its name.
        header: its first bytes, up to the tensors.
        offsets: where in the file each tensor begins.
        size: the whole length.
    """

    file: str
    header: bytes
    offsets: dict[str, int]
    size: int


def plan_shards(
    tensors: Iterable[tuple[str, str, tuple[int, ...]]], limit: int = SHARD_BYTES
) -> list[Shard]:
    """Lay out tensors, given as (name, dtype, shape), in their order.

    Files are named as Transformers names them; one alone is
    ``model.safetensors``.
    """
    groups: list[list[tuple[str, str, tuple[int, ...], int]]] = []
    filled = limit
    for name, dtype, shape in tensors:
        length = math.prod(shape) * BITS[dtype] // 8
        if not groups or filled + length > limit:
            groups.append([])
            filled = 0
        groups[-1].append((name, dtype, shape, length))
        filled += length
    count = len(groups)
    names = [f"{_STEM}-{i:05d}-of-{count:05d}.safetensors" for i in range(1, count + 1)]
    return [
        _shard(f"{_STEM}.safetensors" if count == 1 else name, group)
        for name, group in zip(names, groups, strict=True)
    ]


def index_of(shards: list[Shard]) -> dict[str, object] | None:
    """The content of ``model.safetensors.index.json``; None for a single file."""
    if len(shards) == 1:
        return None
    total = sum(shard.size - len(shard.header) for shard in shards)
    where = {name: shard.file for shard in shards for name in shard.offsets}
    return {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}


def _shard(file: str, group: list[tuple[str, str, tuple[int, ...], int]]) -> Shard:
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begins: dict[str, int] = {}
    end = 0
    for name, dtype, shape, length in group:
        begins[name] = end
        end += length
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begins[name], end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # so that tensors are aligned when the file is mapped
    start = 8 + len(text)
    return Shard(
        file,
        len(text).to_bytes(8, "little") + text,
        {name: start + begin for name, begin in begins.items()},
        start + end,
    )
