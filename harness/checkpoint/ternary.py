"""The ternary quantizer of BitCPM-CANN, as arithmetic that is the same everywhere.

For a group of n weights along the input dimension, in float32
(OpenBMB/MiniCPM, docs/BitCPM_CANN.pdf, section 3.2):

    s = max(mean |w|, 1e-5)      W_q = clamp(round(w / s), -1, 1) * s

``round`` is half to even; the result is stored in bfloat16, rounded to nearest,
ties to even. A mean depends on the order of its sum, so the order is part of
the definition: float64; neighbours are added while the number of terms is
even, what is left is added from left to right; the sum over n is rounded to
float32 once. Zeros keep the sign of the weight, as the formula gives it.

For bfloat16 weights nothing needs to be divided: w becomes non-zero when
|w| reaches a threshold, which is found for each group by trying the formula on
the two bfloat16 numbers above s / 2.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import ModelError, UsageError

#: The least scale of a group. BitCPM's own is not published; real weights never reach it.
EPSILON = np.float32(1e-5)
#: The group size that means one scale for each output row.
ROW = -1

Bits = NDArray[np.uint16]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

#: Storage dtypes of weights that can be quantized, and how their bits are read.
NUMPY = {"BF16": np.uint16, "F16": np.float16, "F32": np.float32}

_QUANTIZED = re.compile(
    r"model\.layers\.\d+\.(self_attn\.[qkvo]_proj|mlp\.(gate|up|down)_proj)\.weight"
)
_TILE = 1 << 18  # weights that are worked on at a time: they stay in the cache


def is_quantized_name(name: str) -> bool:
    """Whether the quantizer acts on the tensor of that name."""
    return _QUANTIZED.fullmatch(name) is not None


def group_of(columns: int, group_size: int) -> int:
    """The weights in a group, for rows of ``columns``.

    Raises:
        UsageError: if the group size is not valid, or does not divide the row.
    """
    if group_size == ROW:
        return columns
    if group_size < 1:
        raise UsageError(f"a group size is a positive number, or {ROW} for whole rows")
    if columns % group_size:
        raise UsageError(
            f"the group size {group_size} does not divide rows of {columns} weights; "
            f"{ROW} takes whole rows"
        )
    return group_size


def to_bfloat16(values: Floats) -> Bits:
    """float32 as bfloat16 bits, to nearest, ties to even. Finite values only."""
    bits = values.view(np.uint32)
    rounded = bits + (((bits >> np.uint32(16)) & np.uint32(1)) + np.uint32(0x7FFF))
    narrow: Bits = (rounded >> np.uint32(16)).astype(np.uint16)
    return narrow


def widen(data: NDArray[Any], dtype: str) -> Floats:
    """Weights of a storage dtype as float32, which loses nothing."""
    if dtype == "BF16":
        wide = data.astype(np.uint32)
        wide <<= 16
        return wide.view(np.float32)
    return data.astype(np.float32)


def quantize(data: NDArray[Any], dtype: str, group_size: int) -> Bits:
    """The fused form of a matrix of weights.

    Args:
        data: shape (rows, columns); bfloat16 as uint16 bits.
        dtype: ``BF16``, ``F16`` or ``F32``.
        group_size: weights with one scale, or ROW.

    Returns:
        bfloat16 bits, in the shape of ``data``.

    Raises:
        UsageError: for a group size that does not divide the columns.
        ModelError: if a weight is infinite or no number.
    """
    rows, columns = data.shape
    group = group_of(columns, group_size)
    out = np.empty((rows, columns), dtype=np.uint16)
    if not out.size:
        return out
    step = max(1, _TILE // columns)
    for start in range(0, rows, step):
        tile = data[start : start + step]
        if dtype == "BF16":
            _quantize_bits(np.ascontiguousarray(tile).reshape(-1), group, out[start : start + step])
        else:
            exact = quantize_float32(widen(tile, dtype), group)
            out[start : start + step] = to_bfloat16(exact)
    return out


def quantize_float32(weights: Floats, group: int) -> Floats:
    """The formula itself: float32 in, float32 out, before it is stored."""
    groups = weights.reshape(-1, group)
    magnitudes = np.abs(groups).astype(np.float64).reshape(-1)
    scale = _scales(_group_sums(magnitudes, group), group)[:, None]
    classes = np.clip(np.rint(groups / scale), np.float32(-1), np.float32(1))
    result: Floats = (classes * scale).reshape(weights.shape)
    return result


def _scales(sums: Doubles, group: int) -> Floats:
    scale: Floats = np.maximum((sums / group).astype(np.float32), EPSILON)
    if not np.isfinite(scale).all():
        raise ModelError("a weight is infinite or NaN")
    return scale


def _group_sums(terms: Doubles, group: int) -> Doubles:
    """Sums of consecutive groups, in the order that the module's head defines."""
    while group % 2 == 0:
        terms = terms[0::2] + terms[1::2]
        group //= 2
    columns = terms.reshape(-1, group)
    total: Doubles = columns[:, 0].copy()
    for column in range(1, group):
        total += columns[:, column]
    return total


def _bit_sums(bits: Bits, group: int) -> Doubles:
    """Sums of |w| over groups of bfloat16 bits."""
    if group % 2:
        return _group_sums(widen(bits & np.uint16(0x7FFF), "BF16").astype(np.float64), group)
    # Two neighbours lie in 32 bits; each half, moved up, is its own float32.
    pairs = bits.view("<u4")
    second = pairs & np.uint32(0x7FFF0000)
    first = pairs << np.uint32(16)
    first &= np.uint32(0x7FFF0000)
    with np.errstate(invalid="ignore"):  # signalling NaNs, which _scales refuses
        terms = np.add(first.view(np.float32), second.view(np.float32), dtype=np.float64)
    return _group_sums(terms, group // 2)


def _thresholds(scale: Floats) -> NDArray[np.int16]:
    """The least bfloat16 magnitude, as bits, that each scale maps to a non-zero class."""
    half = scale * np.float32(0.5)
    above = (half.view(np.uint32) >> np.uint32(16)) + np.uint32(1)
    value = (above << np.uint32(16)).view(np.float32)
    above += ~(value / scale > np.float32(0.5))  # rounded to exactly 0.5, which goes to zero
    least: NDArray[np.int16] = above.astype(np.int16)
    return least


def _quantize_bits(bits: Bits, group: int, out: Bits) -> None:
    scale = _scales(_bit_sums(bits, group), group)
    least: NDArray[np.int16] = (_thresholds(scale) - np.int16(1))[:, None]
    value: NDArray[np.int16] = to_bfloat16(scale).view(np.int16)[:, None]
    signed: NDArray[np.int16] = bits.view(np.int16).reshape(-1, group)
    if group < 512:  # short rows are slow to broadcast over
        least, value = np.repeat(least, group), np.repeat(value, group)
        signed = signed.reshape(-1)
    work = signed & np.int16(0x7FFF)
    np.subtract(least, work, out=work)
    work >>= 15  # all ones where |w| reaches the threshold
    work &= value
    work |= signed & np.int16(-0x8000)
    out.reshape(-1)[:] = work.reshape(-1).view(np.uint16)
