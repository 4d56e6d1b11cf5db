"""Latent, fused or neither: what the values of ternary weights say, read once, in blocks.

Latent and fused checkpoints have the same keys; only values tell. Fused means
that every group holds at most one distinct non-zero |w|. The group size is the
largest divisor of the row for which that is so.

Fusing fused weights scales every group by its share of non-zeros k / n. A scale
fused twice is therefore bf16(s · k / n) of some bf16 s, and where that product
falls into the next binade about three scales in ten are not. Scales that all
are, where several would not be, were fused more than once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.checkpoint.blocks import blocks, read_rows
from harness.checkpoint.headers import Stored
from harness.checkpoint.ternary import to_bfloat16, widen

State = Literal["latent", "fused", "fused twice", "neither"]

#: Smaller groups say nothing: equal neighbours are common in bfloat16.
MIN_GROUP = 8
_SAMPLE_ROWS, _SAMPLE_WEIGHTS = 64, 1 << 18
#: Fewer magnitudes than this in a row of latents do not happen; int8 has 127.
_FEW_LEVELS = 128
#: As many unreachable scales must be expected before their absence says anything.
_MIN_EVIDENCE = 10

Unsigned = NDArray[Any]


@dataclass(frozen=True)
class TernaryReport:
    """What one tensor is.

    Attributes:
        state: ``fused twice`` stands for twice or more.
        group_size: weights that share a scale; None unless fused.
        groups: how many groups there are.
        zeros: share of weights that are zero.
        scales: smallest, middle and largest scale; None unless fused.
        note: what is odd.
    """

    name: str
    shape: tuple[int, ...]
    state: State
    group_size: int | None
    groups: int
    zeros: float
    scales: tuple[float, float, float] | None
    note: str = ""


def divisors(columns: int) -> list[int]:
    """Group sizes that a row may have, largest first."""
    return [d for d in range(columns, MIN_GROUP - 1, -1) if columns % d == 0]


def verify_tensor(tensor: Stored, step: Callable[[int], None] | None = None) -> TernaryReport:
    """Read a matrix once and say what it is.

    Args:
        tensor: a matrix of BF16, F16 or F32.
        step: is given the number of bytes after each block.
    """
    alive = sample_groups(tensor)
    while alive:
        report = _as_fused(tensor, alive[0], step)
        if report is not None:
            return report
        alive = [d for d in alive[1:] if _holds(tensor, d)]
    return _not_fused(tensor, step)


def sample_groups(tensor: Stored) -> list[int]:
    """Group sizes that the first rows allow, largest first; empty for latents."""
    rows = min(_SAMPLE_ROWS, tensor.shape[0], max(1, _SAMPLE_WEIGHTS // tensor.shape[1]))
    first = _magnitudes(read_rows(tensor, 0, rows))
    return [d for d in divisors(first.shape[1]) if _one_magnitude(first, d).all()]


def _holds(tensor: Stored, group: int) -> bool:
    return all(_one_magnitude(_magnitudes(block), group).all() for block in blocks(tensor))


def _magnitudes(block: NDArray[Any]) -> Unsigned:
    """|w| as unsigned integers, in the order of the magnitudes."""
    bits = block.view(np.uint32 if block.dtype.itemsize == 4 else np.uint16)
    return np.bitwise_and(bits, np.iinfo(bits.dtype).max >> 1)


def _one_magnitude(magnitudes: Unsigned, group: int) -> NDArray[np.bool_]:
    """For each group whether it holds at most one distinct non-zero magnitude."""
    groups = magnitudes.reshape(-1, group)
    largest = groups.max(axis=1, keepdims=True)
    fits: NDArray[np.bool_] = ((groups == 0) | (groups == largest)).all(axis=1)
    return fits


def _as_fused(
    tensor: Stored, group: int, step: Callable[[int], None] | None
) -> TernaryReport | None:
    """The report of a tensor that is fused with that group size; None if it is not."""
    scales, filled, zeros = [], [], 0
    for block in blocks(tensor):
        groups = _magnitudes(block).reshape(-1, group)
        largest = groups.max(axis=1)
        used = np.count_nonzero(groups, axis=1)
        if np.count_nonzero(groups == largest[:, None], axis=1)[largest > 0].sum() != used.sum():
            return None
        scales.append(_value(largest, tensor.dtype))
        filled.append(used)
        zeros += groups.size - int(used.sum())
        if step is not None:
            step(block.nbytes)
    scale, count = np.concatenate(scales), np.concatenate(filled)
    shown = scale[count > 0]
    common = (tensor.name, tensor.shape)
    share = zeros / tensor.elements
    if not len(shown):
        return TernaryReport(*common, "neither", None, 0, share, None, "all zeros")
    low, middle, high = (float(np.quantile(shown, q)) for q in (0.0, 0.5, 1.0))
    state, note = _times_fused(scale, count, group, tensor.dtype)
    if zeros == 0:
        state, note = "neither", "one magnitude in each group and no zeros: binary, or constant"
    return TernaryReport(*common, state, group, len(scale), share, (low, middle, high), note)


def _value(magnitudes: Unsigned, dtype: str) -> NDArray[np.float32]:
    if dtype == "BF16":
        return widen(magnitudes, "BF16")
    return magnitudes.view(np.float16 if dtype == "F16" else np.float32).astype(np.float32)


def _times_fused(
    scale: NDArray[np.float32], count: NDArray[Any], group: int, dtype: str
) -> tuple[State, str]:
    partly = (count > 0) & (count < group) & (scale > 0)
    if dtype != "BF16" or not partly.any():
        return "fused", ""
    used, share = scale[partly], count[partly].astype(np.float64) / group
    if not _reachable(used, share).all():
        return "fused", ""
    next_up = (to_bfloat16(used).astype(np.uint32) + 1) << 16
    beside = int(np.count_nonzero(~_reachable(next_up.view(np.float32), share)))
    if beside < _MIN_EVIDENCE:
        return "fused", "too few scales to tell whether once or twice"
    note = f"every scale is another one times its share of non-zeros; of others {beside} were not"
    return "fused twice", note


def _reachable(scale: NDArray[np.float32], share: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether fusing a group with some bfloat16 scale would have given this one."""
    guess = to_bfloat16((scale / share).astype(np.float32)).astype(np.int64)
    found = np.zeros(len(scale), dtype=bool)
    for offset in (-1, 0, 1):
        before = widen((guess + offset).astype(np.uint16), "BF16").astype(np.float64)
        found |= widen(to_bfloat16((before * share).astype(np.float32)), "BF16") == scale
    return found


def _not_fused(tensor: Stored, step: Callable[[int], None] | None) -> TernaryReport:
    columns = tensor.elements // tensor.shape[0]
    # Long enough that no group of latents has a single magnitude by chance.
    group = next((d for d in reversed(divisors(columns)) if d >= 2 * MIN_GROUP), columns)
    zeros = single = 0
    levels = 0
    for block in blocks(tensor):
        magnitudes = _magnitudes(block)
        zeros += magnitudes.size - int(np.count_nonzero(magnitudes))
        single += int(np.count_nonzero(_one_magnitude(magnitudes, group)))
        levels = levels or max(len(np.unique(row)) for row in magnitudes[:4])
        if step is not None:
            step(block.nbytes)
    groups = tensor.elements // group
    state: State = "latent"
    note = ""
    if single:
        state, note = "neither", f"{single / groups:.1%} of the groups of {group} are ternary"
    elif levels <= min(_FEW_LEVELS, columns // 8):
        state, note = "neither", f"only {levels} magnitudes in a row: another quantization"
    return TernaryReport(
        tensor.name, tensor.shape, state, None, 0, zeros / tensor.elements, None, note
    )
