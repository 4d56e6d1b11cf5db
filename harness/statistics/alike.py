"""Which prompts are much alike: by pairs of neighbouring words.

A gate's interval takes prompts for independent samples. Prompts from one template
with another word in it give nearly the same errors: they count as one.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
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

    for a, others in enumerate(_alike(prompts)):
        for b in others:
            parent[root(b)] = root(a)
    groups: dict[int, list[int]] = {}
    for n in range(len(prompts)):
        groups.setdefault(root(n), []).append(n)
    return tuple(sorted(map(tuple, groups.values())))


def _alike(prompts: Sequence[Sequence[object]]) -> Iterator[list[int]]:
    """For each prompt, which later ones are much alike; memory is of one prompt beside all."""
    pairs = [set(pairwise(words)) for words in map(tuple, prompts)]
    sizes = np.array([len(found) for found in pairs], dtype=np.float64)
    long_enough = np.array([len(words) >= _FEWEST for words in prompts])
    keys: dict[tuple[object, ...], int] = {}
    number = np.array([keys.setdefault(tuple(words), len(keys)) for words in prompts])
    for n, shared in enumerate(_shared(pairs)):
        both = sizes[n] + sizes
        dice = np.divide(2.0 * shared, both, out=np.zeros_like(shared), where=both > 0)
        # Of a long prompt that holds a short one as a whole, or repeats it.
        held = np.minimum(sizes[n], sizes)
        inside = np.divide(shared, held, out=np.zeros_like(shared), where=held > 0)
        alike = (dice >= ALIKE) | ((inside >= _HELD) & (held >= _FEWEST_PAIRS))
        alike = (alike & long_enough[n] & long_enough) | (number == number[n])
        yield (np.flatnonzero(alike[n + 1 :]) + n + 1).tolist()


def _shared(pairs: Sequence[set[tuple[object, object]]]) -> Iterator[NDArray[np.float64]]:
    """For each prompt, float64 (p,): how many pairs of words it shares with each.

    Not by a product of matrices: on a busy machine its threads wait for each other
    a hundred times longer than the sum takes.
    """
    holders: dict[tuple[object, object], list[int]] = {}
    for row, found in enumerate(pairs):
        for pair in found:
            holders.setdefault(pair, []).append(row)
    # Pairs that stand in the same prompts are counted together.
    together = Counter(tuple(rows) for rows in holders.values() if len(rows) > 1)
    del holders
    held: list[list[tuple[NDArray[np.intp], int]]] = [[] for _ in pairs]
    for rows, count in together.items():
        index = np.array(rows)
        for row in rows:
            held[row].append((index, count))
    for with_others in held:
        shared = np.zeros(len(pairs))
        for index, count in with_others:
            shared[index] += count
        yield shared
