"""The scores of all causes, from one pass forwards and two backwards for each prompt."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import Cause
from harness.devices.oracle import Oracle
from harness.diagnosis.errors import FEWEST_PROMPTS, Errors
from harness.statistics.intervals import student_t
from harness.statistics.score import largest_by_chance, least_t, prompt_scales

#: Family-wise: beyond the first an effect is there, between the two it may be.
SURE, LIKELY = 0.999, 0.95


@dataclass(frozen=True, eq=False)
class Parts:
    """Single rows, columns or ids of one place: scores float32 (p, n), of the candidate's
    error less the arms' mean, and of that mean."""

    kind: str
    place: str
    scores: NDArray[np.float32]
    rounding: NDArray[np.float32]

    def t(self, scales: NDArray[np.float64], shares: Sequence[float]) -> NDArray[np.float64]:
        """float64 (n,), see ``least_t``; 0 of a part that fewer than ``FEWEST_PROMPTS``
        prompts tell of."""
        wide, common = self.scores.astype(np.float64), self.rounding.astype(np.float64)
        met = np.count_nonzero(wide, axis=0) >= FEWEST_PROMPTS
        return np.where(met, least_t(wide + common, common, shares, scales), 0.0)


class PartTable:
    """The scores of all parts, a row for each prompt, in one block: small arrays that stay
    between large ones that go would keep the memory of both."""

    def __init__(self, prompts: int) -> None:
        self._prompts = prompts
        self._columns: dict[tuple[str, str], slice] = {}
        self._table = np.zeros((prompts, 0), np.float32)

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

    def at(self, key: tuple[str, str]) -> NDArray[np.float32]:
        """Float32 (p, n), the scores of one kind and place."""
        return self._table[:, self._columns[key]]

    def beside(self, rounding: PartTable) -> tuple[Parts, ...]:
        """All places, with the scores of the arms' mean."""
        return tuple(Parts(*key, self.at(key), rounding.at(key)) for key in self._columns)


@dataclass(frozen=True, eq=False)
class Scores:
    """What each cause has to do with the error.

    Attributes:
        causes: H of them.
        candidate: float64 (p, H), of the candidate's error less the arms' mean.
        rounding: float64 (p, H), of the arms' mean.
        parts: of each place, from the candidate's error less the arms' mean.
        base: per prompt float64 (n, 64), the oracle's rows as they are here.
        shares: see ``Errors``.
    """

    causes: tuple[Cause, ...]
    candidate: NDArray[np.float64]
    rounding: NDArray[np.float64]
    parts: tuple[Parts, ...]
    base: tuple[NDArray[np.float64], ...]
    shares: tuple[float, ...]

    @cached_property
    def scales(self) -> NDArray[np.float64]:
        """float64 (p,), see ``prompt_scales``."""
        return prompt_scales(self.candidate)

    @cached_property
    def t(self) -> NDArray[np.float64]:
        """float64 (H,), Student's t, nearest to 0 over ``shares``."""
        return least_t(self.candidate + self.rounding, self.rounding, self.shares, self.scales)

    @cached_property
    def part_t(self) -> tuple[NDArray[np.float64], ...]:
        """Student's t of the parts, place by place."""
        return tuple(part.t(self.scales, self.shares) for part in self.parts)

    def with_directions(
        self,
        errors: Errors,
        found: Mapping[Cause, Sequence[NDArray[np.float64]]],
        residual: Sequence[NDArray[np.float64]] | None = None,
    ) -> Scores:
        """With causes whose directions were measured: products with the same errors."""
        mine, theirs = [self.candidate], [self.rounding]
        for direction in found.values():
            own, common = products(errors, direction, residual)
            mine.append(own[:, None])
            theirs.append(common[:, None])
        return replace(
            self,
            causes=(*self.causes, *found),
            candidate=np.concatenate(mine, axis=1),
            rounding=np.concatenate(theirs, axis=1),
        )

    def limits(self) -> tuple[float, float]:
        """What the largest ``|t|`` of all causes stays below by chance, ``LIKELY`` and
        ``SURE``."""
        likely, sure = largest_by_chance(self.candidate, (LIKELY, SURE), self.scales)
        return likely, sure


def products(
    errors: Errors,
    direction: Sequence[NDArray[np.float64]],
    residual: Sequence[NDArray[np.float64]] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Per prompt the product of a direction with the candidate's error less the arms'
    mean (or ``residual``), and with that mean, float64 (p,) each."""
    mine, theirs = [], []
    for index, (prompt, along) in enumerate(zip(errors.prompts, direction, strict=True)):
        weighed = errors.metric.weighed(index, along)
        error = prompt.candidate - prompt.rounding if residual is None else residual[index]
        mine.append(float(np.sum(weighed * error)))
        theirs.append(float(np.sum(weighed * prompt.rounding)))
    return np.array(mine), np.array(theirs)


def scores_of(
    errors: Errors,
    oracle: Oracle,
    residual: Sequence[NDArray[np.float64]] | None = None,
    first: Scores | None = None,
    step: Callable[[], None] = lambda: None,
) -> Scores:
    """The scores of every cause that the oracle's gradients tell.

    Args:
        residual: per prompt float64 (n, 64), what is left of the candidate's error less the
            arms' mean; None for all of it.
        step: called after each prompt.
    """
    parts, common_parts = PartTable(len(errors)), PartTable(len(errors))
    mine: list[Mapping[Cause, float]] = []
    theirs: list[Mapping[Cause, float]] = []
    base = []
    for index, prompt in enumerate(errors.prompts):
        error = prompt.candidate - prompt.rounding if residual is None else residual[index]
        wanted = (error, prompt.rounding) if first is None else (error,)
        vectors = [errors.metric.weighed(index, e) for e in wanted]
        rows, found = oracle.gradients(prompt.token_ids, vectors)
        own, common = found[0], found[-1]
        base.append(rows)
        mine.append(own.whole)
        theirs.append(common.whole)
        parts.add(index, own.parts)
        if first is None:
            common_parts.add(index, common.parts)
        step()
    causes = tuple(sorted(mine[0]))
    return Scores(
        causes=causes,
        candidate=np.array([[whole[c] for c in causes] for whole in mine]),
        rounding=np.array([[whole[c] for c in causes] for whole in theirs])
        if first is None
        else first.rounding[:, : len(causes)],
        parts=parts.beside(common_parts)
        if first is None
        else tuple(replace(part, scores=parts.at((part.kind, part.place))) for part in first.parts),
        base=tuple(base),
        shares=errors.shares,
    )


def part_limit(parts: Sequence[Parts], prompts: int) -> float:
    """The t that none of so many parts reaches by chance with probability ``SURE``
    (Bonferroni, with the tail of Student's t)."""
    count = sum(part.scores.shape[1] for part in parts)
    return student_t(1.0 - (1.0 - SURE) / max(count, 1), prompts - 1)
