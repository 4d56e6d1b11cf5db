"""Quantization-aware training weights to the form that inference loads.

Blocks of rows are read, quantized and written to their place by a few threads
(numpy works outside the interpreter's lock), into a hidden folder beside the
output that gets its name when everything is on the disk.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harness.checkpoint.blocks import read_bytes, read_rows, row_bytes, rows_per_block
from harness.checkpoint.fuse_plan import FusePlan, Item
from harness.checkpoint.shards import Shard, index_of
from harness.checkpoint.ternary import quantize, to_bfloat16, widen
from harness.errors import HarnessError, ModelError, UsageError
from harness.files.atomic import put_in_place, staged_folder, sync, write_bytes
from harness.files.jsonfile import indented
from harness.model.hub import first_line

_MAX_WORKERS = 4


@dataclass(frozen=True)
class Fused:
    """What fusing has made."""

    output: Path
    quantized: int
    bytes: int


def fuse(plan: FusePlan, step: Callable[[int], None] | None = None) -> Fused:
    """Write the inference form of a checkpoint.

    Args:
        plan: from :func:`harness.checkpoint.fuse_plan.plan_fuse`.
        step: is given the number of bytes read after each block, from
            several threads.

    Raises:
        UsageError: if the output folder is there and not empty.
        ModelError: if the input cannot be read, or a weight is not finite.
        HarnessError: if the output cannot be written; nothing is left then.
    """
    check_output(plan.output)
    try:
        with staged_folder(plan.output) as folder:
            _write_tensors(plan, folder, step or _ignore)
            _write_files(plan, folder)
            # Onto an empty folder too; a folder that was filled meanwhile is refused.
            put_in_place(folder, plan.output)
    except OSError as error:
        raise HarnessError(
            f"{plan.output}: cannot be written ({error.strerror or error}); nothing was left "
            "there, choose another place or make room"
        ) from error
    quantized = sum(item.quantized for item in plan.items)
    return Fused(plan.output, quantized, sum(shard.size for shard in plan.shards))


def check_output(output: Path) -> None:
    """Refuse a place that holds something.

    Raises:
        UsageError: unless the folder is empty, or not there.
    """
    try:
        taken = output.is_symlink() or (
            output.exists() and (not output.is_dir() or any(output.iterdir()))
        )
    except OSError as error:
        raise UsageError(f"--output_dir {output} cannot be read: {first_line(error)}") from error
    if taken:
        raise UsageError(f"--output_dir {output} is not empty; name a new folder")


def _ignore(_bytes: int) -> None:
    """Progress for callers that show nothing."""


def _write_tensors(plan: FusePlan, folder: Path, step: Callable[[int], None]) -> None:
    items = {item.name: item for item in plan.items}
    workers = min(_MAX_WORKERS, os.cpu_count() or 1)
    with ThreadPoolExecutor(workers) as pool, ThreadPoolExecutor(1) as syncing:
        synced: list[Future[None]] = []
        try:
            for shard in plan.shards:
                path = folder / shard.file
                _write_shard(pool, shard, path, items, plan.group_size, step)
                synced.append(syncing.submit(sync, path))
            for future in synced:
                future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _write_shard(
    pool: ThreadPoolExecutor,
    shard: Shard,
    path: Path,
    items: dict[str, Item],
    group_size: int,
    step: Callable[[int], None],
) -> None:
    with open(path, "wb", buffering=0) as stream:
        handle = stream.fileno()
        os.truncate(handle, shard.size)
        _write_at(handle, memoryview(shard.header), 0)

        def work(task: tuple[Item, int, int]) -> None:
            item, start, stop = task
            _write_block(handle, item, start, stop, shard.offsets[item.name], group_size)
            step((stop - start) * row_bytes(item.source))

        tasks = (task for name in shard.offsets for task in _tasks(items[name]))
        for _ in pool.map(work, tasks):
            pass


def _tasks(item: Item) -> Iterator[tuple[Item, int, int]]:
    rows = item.source.shape[0] if item.source.shape else 1
    each = rows_per_block(item.source)
    for start in range(0, rows, each):
        yield item, start, min(rows, start + each)


def _write_block(
    handle: int, item: Item, start: int, stop: int, offset: int, group_size: int
) -> None:
    source = item.source
    if item.dtype == source.dtype and not item.quantized:
        length = row_bytes(source)
        data = read_bytes(source, start * length, (stop - start) * length)
        _write_at(handle, data, offset + start * length)
        return
    rows = read_rows(source, start, stop)
    try:
        bits = (
            quantize(rows, source.dtype, group_size)
            if item.quantized
            else _narrowed(rows, source.dtype)
        )
    except ModelError as error:
        raise ModelError(f"{source.path}: tensor {source.name!r}: {error}") from error
    _write_at(handle, bits.data.cast("B"), offset + start * bits.strides[0])


def _narrowed(rows: Any, dtype: str) -> Any:
    wide = widen(rows, dtype)
    if not np.isfinite(wide).all():
        raise ModelError("a weight is infinite or NaN")
    return to_bfloat16(wide)


def _write_at(handle: int, data: memoryview, offset: int) -> None:
    while data:
        count = os.pwrite(handle, data, offset)
        data, offset = data[count:], offset + count


def _write_files(plan: FusePlan, folder: Path) -> None:
    """Everything beside the weights; config.json, without which nothing loads, last."""
    for file in plan.copies:
        shutil.copyfile(plan.source / file, folder / file)
        sync(folder / file)
    index = index_of(plan.shards)
    if index is not None:
        write_bytes(folder / "model.safetensors.index.json", indented(index))
    write_bytes(folder / "config.json", indented(plan.config))
    sync(folder)
