"""Scores of single rows, columns, channels and ids, of which there are many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.diagnosis.errors import FEWEST_PROMPTS
from harness.statistics.score import Null, least_t


@dataclass(frozen=True, eq=False)
class Parts:
    """Single rows, columns or ids of one place: scores float32 (p, n), of the candidate's
    error less the arms' mean, and of that mean; and how those of rounding scatter."""

    kind: str
    place: str
    scores: NDArray[np.float32]
    rounding: NDArray[np.float32]
    null: Null

    def t(self, shares: Sequence[float], inflated: Sequence[float]) -> NDArray[np.float64]:
        """float64 (n,), see ``least_t``; 0 of a part that fewer than ``FEWEST_PROMPTS``
        prompts tell of."""
        wide, common = self.scores.astype(np.float64), self.rounding.astype(np.float64)
        met = np.count_nonzero(wide, axis=0) >= FEWEST_PROMPTS
        return np.where(met, least_t(wide + common, common, self.null, shares, inflated), 0.0)


class PartTable:
    """The scores of all parts, a row for each prompt, in one block: small arrays that stay
    between large ones that go would keep the memory of both."""

    def __init__(self, prompts: int) -> None:
        self._prompts = prompts
        self._columns: dict[tuple[str, str], slice] = {}
        self._table = np.zeros((prompts, 0), np.float32)
        self._squares = np.zeros(0)

    def add(self, prompt: int, found: Mapping[tuple[str, str], NDArray[np.float32]]) -> None:
        """One prompt's parts, which must be the same in all prompts."""
        if not self._columns:
            begin = 0
            for key, values in found.items():
                self._columns[key] = slice(begin, begin + len(values))
                begin += len(values)
            self._table = np.zeros((self._prompts, begin), np.float32)
        for key, values in found.items():
            self._table[prompt, self._columns[key]] = values

    def add_squares(self, found: Mapping[tuple[str, str], NDArray[np.float32]]) -> None:
        """The scores of one contrast of the arms."""
        if not len(self._squares):
            self._squares = np.zeros(self._table.shape[1])
        for key, values in found.items():
            self._squares[self._columns[key]] += values.astype(np.float64) ** 2

    @property
    def places(self) -> list[tuple[str, str, int]]:
        """Every kind and place with how many parts it has."""
        return [(*key, at.stop - at.start) for key, at in self._columns.items()]

    def at(self, key: tuple[str, str]) -> NDArray[np.float32]:
        """Float32 (p, n), the scores of one kind and place."""
        return self._table[:, self._columns[key]]

    def beside(self, rounding: PartTable, arms: int, each: int) -> tuple[Parts, ...]:
        """All places, with the scores of the arms' mean, and of ``each`` contrasts of arms."""
        units = each * self._prompts
        return tuple(
            Parts(*key, self.at(key), rounding.at(key), Null(self._squares[at] / each, arms, units))
            for key, at in self._columns.items()
        )
