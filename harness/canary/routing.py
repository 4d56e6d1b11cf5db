"""Experts of a canary: which two a token takes, and what each of them changes.

Experts are in two halves. Two bits of a token (three of sixteen experts, one of four) choose
one of the first half, the next two one of the second. Both have the same score, the others a
lower one. So each weighs exactly 1/2 once the weights of the two are normalized. An expert
of the first half makes the even bits of the MLP, twice as large, one of the second the odd
bits; each with signs of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.canary.sizes import Sizes

_Ids = NDArray[np.int64]


def choosing_bits(sizes: Sizes) -> int:
    """How many bits choose one expert of a half."""
    return (sizes.experts // 2).bit_length() - 1


def bits_of(sizes: Sizes, expert: int) -> _Ids:
    """The bits of an MLP that an expert makes."""
    return np.arange(expert >= sizes.experts // 2, sizes.width, 2)


def signs(sizes: Sizes, expert: int) -> NDArray[np.int8]:
    """What an expert makes of each bit, shape (width,): 1, -1, or 0 for bits of the other half."""
    result = np.zeros(sizes.width, np.int8)
    number = expert % (sizes.experts // 2)
    for place, bit in enumerate(bits_of(sizes, expert)):
        result[bit] = -1 if (number & place).bit_count() % 2 else 1
    return result


def all_signs(sizes: Sizes) -> NDArray[np.int8]:
    """The signs of every expert, shape (experts, width)."""
    return np.stack([signs(sizes, e) for e in range(sizes.experts)])


def chosen(sizes: Sizes, own: NDArray[np.int8]) -> _Ids:
    """The two experts of each token.

    Args:
        own: the tokens' bits, ±1, shape (positions, bits).

    Returns:
        shape (positions, 2), one of each half.
    """
    count, half = choosing_bits(sizes), sizes.experts // 2
    weights = 1 << np.arange(count)
    first = (own[:, :count] > 0) @ weights
    second = (own[:, count : 2 * count] > 0) @ weights + half
    return np.stack([first, second], axis=1).astype(np.int64)


def sign_of_bits(sizes: Sizes, own: NDArray[np.int8]) -> NDArray[np.int8]:
    """By what each bit of an MLP is multiplied, shape (positions, width); ones without experts."""
    if not sizes.experts:
        return np.ones((len(own), sizes.width), np.int8)
    return np.asarray(all_signs(sizes)[chosen(sizes, own)].sum(axis=1), np.int8)


def router(sizes: Sizes, own: _Ids) -> NDArray[np.float32]:
    """Weights of the router, shape (experts, hidden): a score of as many as its bits agree.

    Args:
        own: the dimensions of the tokens' bits.
    """
    count, half = choosing_bits(sizes), sizes.experts // 2
    result = np.zeros((sizes.experts, sizes.hidden), np.float32)
    for expert in range(sizes.experts):
        number, start = expert % half, count * (expert >= half)
        for place in range(count):
            result[expert, own[start + place]] = 1 if number >> place & 1 else -1
    return result


def unnormalized(sizes: Sizes) -> float:
    """By what an MLP's output is multiplied where the weights of the two are not normalized."""
    count = choosing_bits(sizes)
    half = [count - 2 * bin(n).count("1") for n in range(sizes.experts // 2)]
    scores = np.exp(np.asarray(half * 2, np.float64))
    return float(2 * scores.max() / scores.sum())
