"""Deflate (RFC 1951), the same bytes on every machine.

zlib's builds (zlib, zlib-ng, vendors' own) compress one input to different
bytes, and a report must not differ between machines. Any inflater reads the
result; a browser does through ``DecompressionStream("deflate-raw")``.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_WINDOW = 32_768
_LONGEST = 258
_SHORTEST = 4  # a match of three saves next to nothing in JSON
_TRIES = 12  # earlier places of the same four bytes that are looked at
_BLOCK = 1 << 16  # symbols that share one code

_LENGTH_BASE = (3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83,
                99, 115, 131, 163, 195, 227, 258)  # fmt: skip
_LENGTH_BITS = (0,) * 8 + (1,) * 4 + (2,) * 4 + (3,) * 4 + (4,) * 4 + (5,) * 4 + (0,)
_DISTANCE_BASE = (1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769,
                  1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577)  # fmt: skip
_DISTANCE_BITS = (0, 0, *(n // 2 for n in range(28)))
#: The order in which lengths of the code-length code are written.
_ORDER = (16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15)


def deflate(data: bytes) -> bytes:
    """A raw deflate stream that inflates to ``data``."""
    symbols = _matches(data)
    bits = _Bits()
    starts = range(0, len(symbols), _BLOCK) if len(symbols) else range(1)
    for start in starts:
        _block(bits, symbols[start : start + _BLOCK], last=start == starts[-1])
    return bits.bytes()


def _matches(data: bytes) -> NDArray[np.int64]:
    """Greedy matches: rows of (literal or length, distance); distance 0 is a literal."""
    before = _previous(data)
    found: list[tuple[int, int]] = []
    place, end = 0, len(data)
    while place < end:
        length, distance = _longest(data, before, place, min(_LONGEST, end - place))
        found.append((length, distance) if distance else (data[place], 0))
        place += length
    return np.array(found, dtype=np.int64).reshape(-1, 2)


def _longest(data: bytes, before: list[int], place: int, most: int) -> tuple[int, int]:
    """The longest of the last few matches, as (length, distance); (1, 0) without one."""
    length, distance, back = 1, 0, before[place]
    for _ in range(_TRIES):
        if back < 0 or place - back > _WINDOW:
            break
        # Only a match that is one longer saves anything.
        if length == 1 or data[back : back + length + 1] == data[place : place + length + 1]:
            length = _common(data, back, place, most)
            distance = place - back
            if length >= most:
                break
        back = before[back]
    return length, distance


def _previous(data: bytes) -> list[int]:
    """Per byte, where the four bytes from it on stood last; -1 where nowhere."""
    count = len(data) - _SHORTEST + 1
    if count <= 0:
        return [-1] * len(data)
    raw = np.frombuffer(data, np.uint8).astype(np.uint32)
    keys = sum(raw[n : n + count] << np.uint32(8 * n) for n in range(_SHORTEST))
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    result = np.full(len(data), -1, np.int64)
    result[order[1:][same]] = order[:-1][same]
    found: list[int] = result.tolist()
    return found


def _common(data: bytes, back: int, place: int, most: int) -> int:
    """How many bytes agree, at least four of which are known to."""
    low, high = _SHORTEST, most
    step = 8
    while low < high:
        end = min(high, low + step)
        if data[back + low : back + end] == data[place + low : place + end]:
            low, step = end, step * 2
        elif end - low == 1:
            return low
        else:
            high = end
            step = max(1, (end - low) // 2)
    return low


def _block(bits: _Bits, symbols: NDArray[np.int64], *, last: bool) -> None:
    """One block with a code of its own (RFC 1951, 3.2.7)."""
    value, distance = symbols[:, 0], symbols[:, 1]
    match = distance > 0
    length_code = np.searchsorted(_LENGTH_BASE, value, side="right") - 1
    distance_code = np.searchsorted(_DISTANCE_BASE, distance, side="right") - 1
    literals = np.where(match, 257 + length_code, value)
    counts = np.bincount(literals, minlength=286)
    counts[256] += 1  # the end of the block
    lengths = _code_lengths(counts, 15)
    distances = _code_lengths(np.bincount(distance_code[match], minlength=30), 15)
    bits.add(int(last) | 2 << 1, 3)
    _header(bits, lengths, distances)
    codes, distance_codes = _codes(lengths), _codes(distances)
    at_length, at_distance = np.where(match, length_code, 0), np.where(match, distance_code, 0)
    columns = [
        (codes[literals], np.array(lengths)[literals]),
        (value - np.array(_LENGTH_BASE)[at_length], np.array(_LENGTH_BITS)[at_length]),
        (distance_codes[at_distance], np.array(distances)[at_distance]),
        (distance - np.array(_DISTANCE_BASE)[at_distance], np.array(_DISTANCE_BITS)[at_distance]),
    ]
    sizes = np.stack([size for _, size in columns], axis=1)
    sizes[~match, 1:] = 0
    bits.add_many(np.stack([code for code, _ in columns], axis=1).ravel(), sizes.ravel())
    bits.add(int(codes[256]), lengths[256])


def _header(bits: _Bits, lengths: Sequence[int], distances: Sequence[int]) -> None:
    """Both codes' lengths, written plainly: a block is long, its header is not."""
    both = [*lengths, *distances]
    used = _code_lengths(np.bincount(both, minlength=19), 7)
    codes = _codes(used)
    kept = max(n for n in range(19) if used[_ORDER[n]] or n == 3) + 1
    bits.add(len(lengths) - 257, 5)
    bits.add(len(distances) - 1, 5)
    bits.add(kept - 4, 4)
    for n in range(kept):
        bits.add(used[_ORDER[n]], 3)
    for length in both:
        bits.add(int(codes[length]), used[length])


def _code_lengths(counts: NDArray[np.int64], most: int) -> list[int]:
    """Lengths of a Huffman code of at most ``most`` bits; ties go by symbol.

    Where a code is too deep, rare symbols count as more frequent than they are.
    """
    counts = counts.copy()
    if not counts.any():
        counts[0] = 1
    while True:
        lengths = _huffman(counts)
        if max(lengths) <= most:
            return lengths
        counts = np.where(counts > 0, counts // 2 + 1, 0)


def _huffman(counts: NDArray[np.int64]) -> list[int]:
    lengths = [0] * len(counts)
    heap: list[tuple[int, int, tuple[int, ...]]] = [
        (int(count), n, (n,)) for n, count in enumerate(counts) if count
    ]
    if len(heap) == 1:
        lengths[heap[0][1]] = 1
        return lengths
    heapq.heapify(heap)
    while len(heap) > 1:
        one, two = heapq.heappop(heap), heapq.heappop(heap)
        below = one[2] + two[2]
        for symbol in below:
            lengths[symbol] += 1
        heapq.heappush(heap, (one[0] + two[0], min(one[1], two[1]), below))
    return lengths


def _codes(lengths: Sequence[int]) -> NDArray[np.int64]:
    """Canonical codes (RFC 1951, 3.2.2), bits reversed: a stream begins low."""
    codes = np.zeros(len(lengths), np.int64)
    code = 0
    for length in range(1, max(lengths) + 1):
        for symbol, own in enumerate(lengths):
            if own == length:
                codes[symbol] = int(f"{code:0{length}b}"[::-1], 2)
                code += 1
        code <<= 1
    return codes


class _Bits:
    """A stream of bits, lowest first."""

    def __init__(self) -> None:
        self._codes: list[NDArray[np.int64]] = []
        self._sizes: list[NDArray[np.int64]] = []

    def add(self, code: int, size: int) -> None:
        self.add_many(np.array([code]), np.array([size]))

    def add_many(self, codes: NDArray[np.int64], sizes: NDArray[np.int64]) -> None:
        self._codes.append(codes)
        self._sizes.append(sizes)

    def bytes(self) -> bytes:
        codes, sizes = np.concatenate(self._codes), np.concatenate(self._sizes)
        ends = np.cumsum(sizes)
        stream = np.zeros(int(ends[-1]), np.uint8)
        for bit in range(int(sizes.max())):
            here = sizes > bit
            stream[ends[here] - sizes[here] + bit] = codes[here] >> bit & 1
        return np.packbits(stream, bitorder="little").tobytes()
