"""Which prompts are much alike: by pairs of neighbouring words.

A gate's interval takes prompts for independent samples. Prompts from one template
with another word in it give nearly the same errors: they count as one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

#: Two prompts of which this share of word pairs is common are much alike. Short prompts
#: of one template with one word changed share 0.5 and more; two prompts that only
#: begin and end like any question share 0.33, those of the shipped suites at most 0.18.
ALIKE = 0.4
#: A prompt of which so many pairs stand in another is a part of it.
_HELD = 0.9
#: Prompts with fewer words are alike only where they are equal, and parts of
#: others only with so many pairs.
_FEWEST, _FEWEST_PAIRS = 4, 8
#: Words of a prompt that are looked at.
_MOST_WORDS = 20_000
#: A word, one character of a script that has no spaces, or one sign.
_UNSPACED = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_WORDS = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+|[^\w\s]")


def words_of(text: str) -> tuple[str, ...]:
    """The words of a text, in small letters; every number is the same word."""
    found = _WORDS.findall(text.lower())[:_MOST_WORDS]
    return tuple("0" if word.isdecimal() else word for word in found)


def alike_groups(prompts: Sequence[Sequence[object]]) -> tuple[tuple[int, ...], ...]:
    """Indices of prompts by group, in the order of the prompts; those that are like
    no other are alone.

    Args:
        prompts: the words, or token ids, of each.
    """
    if not prompts:
        return ()
    parent = list(range(len(prompts)))

    def root(n: int) -> int:
        while parent[n] != n:
            parent[n] = parent[parent[n]]
            n = parent[n]
        return n

    for a, b in zip(*np.nonzero(_alike(prompts)), strict=True):
        parent[root(int(b))] = root(int(a))
    groups: dict[int, list[int]] = {}
    for n in range(len(prompts)):
        groups.setdefault(root(n), []).append(n)
    return tuple(sorted(map(tuple, groups.values())))


def _alike(prompts: Sequence[Sequence[object]]) -> NDArray[np.bool_]:
    """bool (p, p), above the diagonal: which two are much alike."""
    pairs = [set(pairwise(words)) for words in map(tuple, prompts)]
    shared = _shared(pairs)
    sizes = np.array([len(found) for found in pairs], dtype=np.float64)
    both = sizes[:, None] + sizes[None, :]
    dice = np.divide(2.0 * shared, both, out=np.zeros_like(shared), where=both > 0)
    # Of a long prompt that holds a short one as a whole, or repeats it.
    held = np.minimum(sizes[:, None], sizes[None, :])
    inside = np.divide(shared, held, out=np.zeros_like(shared), where=held > 0)
    long_enough = np.array([len(words) >= _FEWEST for words in prompts])
    counted = long_enough[:, None] & long_enough[None, :]
    alike = counted & ((dice >= ALIKE) | ((inside >= _HELD) & (held >= _FEWEST_PAIRS)))
    keys: dict[tuple[object, ...], int] = {}
    number = np.array([keys.setdefault(tuple(words), len(keys)) for words in prompts])
    return np.asarray(np.triu(alike | (number[:, None] == number[None, :]), 1))


def _shared(pairs: Sequence[set[tuple[object, object]]]) -> NDArray[np.float64]:
    """float64 (p, p): how many pairs of words two prompts share.

    Not by a product of matrices: on a busy machine its threads wait for each other
    a hundred times longer than the sum takes.
    """
    holders: dict[tuple[object, object], list[int]] = {}
    for row, found in enumerate(pairs):
        for pair in found:
            holders.setdefault(pair, []).append(row)
    # Pairs that stand in the same prompts are counted together.
    together = Counter(tuple(rows) for rows in holders.values() if len(rows) > 1)
    shared = np.zeros((len(pairs), len(pairs)))
    for rows, count in together.items():
        shared[np.ix_(rows, rows)] += count
    return shared
