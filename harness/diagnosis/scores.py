"""The scores of all causes, from one pass forwards and a few backwards for each prompt."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.alignment.diagnosis import Family, FamilyName
from harness.devices.causes import EXCHANGES, LAYER_CHANGES, NEIGHBOURS, PARTS, SETTINGS, Cause
from harness.devices.oracle import Answer, Gradients, Oracle, Question
from harness.diagnosis.errors import Errors
from harness.diagnosis.parts import Parts, PartTable
from harness.statistics.score import Null, chance_limit, inflations, least_t

#: The probability that anything is told of rounding alone. Each family has its share, so that
#: the few settings, which are often what is wrong, need not be as sure as one of millions.
ERROR = 0.001
FAMILIES: tuple[FamilyName, ...] = ("settings", "causes", "parts", "weights")


@dataclass(frozen=True, eq=False)
class Scores:
    """What each cause has to do with the error.

    Attributes:
        causes: H of them.
        candidate: float64 (p, H), of the candidate's error less the arms' mean.
        rounding: float64 (p, H), of the arms' mean.
        contrasts: float64 (C p, H), of differences of arms, prompt by prompt.
        parts: of each place, from the candidate's error less the arms' mean.
        base: per prompt float64 (n, 64), the oracle's rows as they are here.
        arms: how many there are.
        shares: see ``Errors``.
        weights: how many single weights there are.
        tried: exchanges and changes of layers that were looked at and explain nothing.
        doubted: causes whose size was measured and may be 0; their t is within its limit here.
    """

    causes: tuple[Cause, ...]
    candidate: NDArray[np.float64]
    rounding: NDArray[np.float64]
    contrasts: NDArray[np.float64]
    parts: tuple[Parts, ...]
    base: tuple[NDArray[np.float64], ...]
    arms: int
    shares: tuple[float, ...]
    weights: int = 0
    tried: int = 0
    doubted: frozenset[Cause] = frozenset()

    @property
    def prompts(self) -> int:
        """How many prompts there are."""
        return len(self.candidate)

    @cached_property
    def null(self) -> Null:
        """How scores of rounding scatter."""
        return Null.of(self.contrasts, self.arms, len(self.contrasts) // self.prompts)

    @cached_property
    def inflated(self) -> tuple[float, ...]:
        """See ``inflations``; from the causes, for the parts too."""
        return inflations(self.candidate + self.rounding, self.rounding, self.null, self.shares)

    @cached_property
    def t(self) -> NDArray[np.float64]:
        """float64 (H,), nearest to 0 over ``shares``."""
        whole = self.candidate + self.rounding
        found = least_t(whole, self.rounding, self.null, self.shares, self.inflated)
        for index, cause in enumerate(self.causes if self.doubted else ()):
            if cause in self.doubted:
                found[index] = _within(found[index], self.limits[family_of(cause)])
        return found

    @cached_property
    def part_t(self) -> tuple[NDArray[np.float64], ...]:
        """t of the parts, place by place."""
        found = tuple(part.t(self.shares, self.inflated) for part in self.parts)
        for part, t in zip(self.parts, found, strict=True):
            for cause in self.doubted:
                if (cause.kind, cause.place) == (part.kind, part.place):
                    t[cause.index] = _within(t[cause.index], self.limits["parts"])
        return found

    @cached_property
    def hypotheses(self) -> Mapping[FamilyName, int]:
        """How many were looked at. Norms of neighbours, which tell nothing, do not count."""
        of = [family_of(cause) for cause in self.causes if cause.kind not in NEIGHBOURS]
        return {
            "settings": of.count("settings") + self.tried,
            "causes": of.count("causes"),
            "parts": sum(part.rounding.shape[1] for part in self.parts),
            "weights": self.weights,
        }

    @cached_property
    def limits(self) -> Mapping[FamilyName, float]:
        """What the largest ``|t|`` of each family stays below by chance."""
        each, units = ERROR / len(FAMILIES), self.null.units
        return {name: chance_limit(self.hypotheses[name], each, units) for name in FAMILIES}

    @cached_property
    def families(self) -> tuple[Family, ...]:
        """What was looked at, the largest of each, and what chance stays below."""
        of = ["" if cause.kind in NEIGHBOURS else family_of(cause) for cause in self.causes]
        found = []
        for name in FAMILIES:
            mine = np.array([each == name for each in of], np.bool_)
            looked_at = self.part_t if name == "parts" else (self.t[mine],)
            largest = max((float(np.abs(t).max(initial=0.0)) for t in looked_at), default=0.0)
            count, limit = self.hypotheses[name], self.limits[name]
            found.append(Family(name=name, hypotheses=count, t=largest, limit=limit))
        return tuple(found)

    @property
    def farthest(self) -> float:
        """The largest ``|t|`` over what its family stays below: above 1 something is there."""
        return max(family.t / family.limit for family in self.families)

    def standing(self) -> list[Cause]:
        """Every cause and single part whose ``|t|`` is beyond its family's limit."""
        found = [cause for cause, x in zip(self.causes, self.beyond, strict=True) if x > 1.0]
        for part, t in zip(self.parts, self.part_t, strict=True):
            far = np.flatnonzero(np.abs(t) > self.limits["parts"])
            found += [Cause(part.kind, part.place, int(index)) for index in far]
        return found

    def doubting(self, causes: Iterable[Cause]) -> Scores:
        """The same, but that these causes tell nothing."""
        return replace(self, doubted=self.doubted | frozenset(causes))

    @cached_property
    def beyond(self) -> NDArray[np.float64]:
        """float64 (H,), each ``|t|`` over what its family stays below: above 1 the cause is
        surely there. The norms of neighbours tell nothing by themselves, see ``NEIGHBOURS``."""
        of = np.array([self.limits[family_of(c)] for c in self.causes], np.float64)
        found = np.asarray(np.abs(self.t) / of)
        if self.farthest <= 1.0:
            names_only = np.array([c.kind in NEIGHBOURS for c in self.causes], np.bool_)
            found = np.where(names_only, np.minimum(found, 1.0), found)
        return found

    def with_directions(
        self,
        errors: Errors,
        found: Mapping[Cause, Sequence[NDArray[np.float64]]],
        residual: Sequence[NDArray[np.float64]],
    ) -> Scores:
        """With causes whose directions were measured: products with the same errors.

        Args:
            residual: per prompt float64 (n, 64), what the scores are of.
        """
        mine, theirs, alone = [self.candidate], [self.rounding], [self.contrasts]
        for direction in found.values():
            own, common, apart = products(errors, direction, residual)
            mine.append(own[:, None])
            theirs.append(common[:, None])
            alone.append(apart[:, None])
        return replace(
            self,
            causes=(*self.causes, *found),
            candidate=np.concatenate(mine, axis=1),
            rounding=np.concatenate(theirs, axis=1),
            contrasts=np.concatenate(alone, axis=1),
        )


def asked_of_weights(
    part: Cause, errors: Errors, residual: Sequence[NDArray[np.float64]]
) -> Iterator[Question]:
    """What ``weights_of`` asks."""
    for index, (prompt, error) in enumerate(zip(errors.prompts, residual, strict=True)):
        wanted = (error, prompt.rounding, *prompt.contrasts)
        yield _question("entries", errors, index, wanted, part)


def weights_of(
    part: Cause,
    errors: Errors,
    oracle: Oracle,
    scores: Scores,
    residual: Sequence[NDArray[np.float64]],
    step: Callable[[], None] = lambda: None,
) -> list[tuple[Cause, float]]:
    """The single weights of a row or a column with their t, the largest first.

    Args:
        part: the row or column.
        residual: see ``scores_of``.
    """
    mine: list[NDArray[np.float64]] = []
    theirs: list[NDArray[np.float64]] = []
    apart: list[NDArray[np.float64]] = []
    for question in asked_of_weights(part, errors, residual):
        found = oracle.entries(part, question.ids, question.vectors)
        mine.append(found[0])
        theirs.append(found[1])
        apart.extend(found[2:])
        step()
    own, common, contrasts = np.array(mine), np.array(theirs), np.array(apart)
    null = Null.of(contrasts, scores.arms, len(contrasts) // len(own))
    t = least_t(own + common, common, null, scores.shares, scores.inflated)
    entries: list[tuple[Cause, float]] = []
    for other in map(int, np.argsort(-np.abs(t))):
        row, column = (part.index, other) if part.kind == "row" else (other, part.index)
        entries.append((Cause("weight", part.place, row, column), float(t[other])))
    return entries


def family_of(cause: Cause) -> FamilyName:
    """The family that a cause is tested in."""
    if cause.kind in PARTS:
        return "weights" if cause.kind == "weight" else "parts"
    alone = (*SETTINGS, *EXCHANGES, *LAYER_CHANGES)
    return "settings" if cause.kind in alone else "causes"


def products(
    errors: Errors,
    direction: Sequence[NDArray[np.float64]],
    residual: Sequence[NDArray[np.float64]],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Per prompt the product of a direction with ``residual`` and with the arms' mean, float64
    (p,) each; and with the contrasts of the arms, float64 (C p,)."""
    mine: list[float] = []
    theirs: list[float] = []
    apart: list[float] = []
    for index, (prompt, along) in enumerate(zip(errors.prompts, direction, strict=True)):
        weighed = errors.metric.weighed(index, along)
        mine.append(float(np.sum(weighed * residual[index])))
        theirs.append(float(np.sum(weighed * prompt.rounding)))
        apart.extend(float(np.sum(weighed * each)) for each in prompt.contrasts)
    return np.array(mine), np.array(theirs), np.array(apart)


def asked_first(errors: Errors, *, arms_alone: bool = False) -> Iterator[Question]:
    """What ``scores_of`` asks."""
    for index, (prompt, error) in enumerate(zip(errors.prompts, errors.residual, strict=True)):
        wanted = (*(() if arms_alone else (error,)), prompt.rounding, *prompt.contrasts)
        yield _question("gradients", errors, index, wanted)


def asked_again(errors: Errors, residual: Sequence[NDArray[np.float64]]) -> Iterator[Question]:
    """What ``scores_again`` asks."""
    for index, error in enumerate(residual):
        yield _question("gradients", errors, index, (error,))


def scores_of(
    errors: Errors,
    oracle: Oracle,
    step: Callable[[], None] = lambda: None,
    *,
    arms_alone: bool = False,
) -> Scores:
    """The scores of every cause that the oracle's gradients tell.

    Args:
        step: called after each prompt.
        arms_alone: leave out the candidate's, which are 0 then.
    """
    parts, common_parts = PartTable(len(errors)), PartTable(len(errors))
    mine: list[Mapping[Cause, float]] = []
    theirs: list[Mapping[Cause, float]] = []
    apart: list[Mapping[Cause, float]] = []
    base = []
    for index, question in enumerate(asked_first(errors, arms_alone=arms_alone)):
        rows, found = oracle.gradients(question.ids, question.vectors)
        common, *others = found[not arms_alone :]
        own = _nothing(common) if arms_alone else found[0]
        base.append(rows)
        mine.append(own.whole)
        theirs.append(common.whole)
        parts.add(index, own.parts)
        common_parts.add(index, common.parts)
        for each in others:
            apart.append(each.whole)
            parts.add_squares(each.parts)
        step()
    causes = tuple(sorted(mine[0]))
    arms = len(errors.prompts[0].arms)
    return Scores(
        causes=causes,
        candidate=_matrix(mine, causes),
        rounding=_matrix(theirs, causes),
        contrasts=_matrix(apart, causes),
        parts=parts.beside(common_parts, arms, len(errors.prompts[0].contrasts)),
        base=tuple(base),
        arms=arms,
        shares=errors.shares,
        weights=oracle.weights,
    )


def scores_again(
    errors: Errors,
    oracle: Oracle,
    residual: Sequence[NDArray[np.float64]],
    first: Scores,
    step: Callable[[], None] = lambda: None,
) -> Scores:
    """The scores of another error of the same prompts and arms: one pass backwards.

    Args:
        residual: per prompt float64 (n, 64), that error less the arms' mean.
        first: the scores of which the arms' are taken.

    Raises:
        ValueError: if those have other causes.
    """
    parts = PartTable(len(errors))
    mine: list[Mapping[Cause, float]] = []
    base = []
    for index, question in enumerate(asked_again(errors, residual)):
        rows, (own,) = oracle.gradients(question.ids, question.vectors)
        base.append(rows)
        mine.append(own.whole)
        parts.add(index, own.parts)
        step()
    causes = tuple(sorted(mine[0]))
    if causes != first.causes[: len(causes)]:
        raise ValueError("scores of other causes")
    if [(p.kind, p.place, p.rounding.shape[1]) for p in first.parts] != parts.places:
        raise ValueError("scores of other parts")
    return replace(
        first,
        causes=causes,
        base=tuple(base),
        candidate=_matrix(mine, causes),
        rounding=first.rounding[:, : len(causes)],
        contrasts=first.contrasts[:, : len(causes)],
        shares=errors.shares,
        doubted=frozenset(),
        parts=tuple(replace(p, scores=parts.at((p.kind, p.place))) for p in first.parts),
    )


def _question(
    kind: Literal["gradients", "entries"],
    errors: Errors,
    index: int,
    wanted: Sequence[NDArray[np.float64]],
    part: Cause | None = None,
) -> Question:
    """What is asked of a prompt: how its rows' products with some errors move."""
    prompt = errors.prompts[index]
    vectors = tuple(errors.metric.weighed(index, error) for error in wanted)
    return Question(kind, prompt.token_ids, len(prompt), vectors, part)


def _within(t: float, limit: float) -> float:
    return min(max(t, -limit), limit)


def _nothing(found: Gradients) -> Gradients:
    """No score of any cause."""
    parts = {key: np.zeros_like(values) for key, values in found.parts.items()}
    return Answer(dict.fromkeys(found.whole, 0.0), parts)


def _matrix(found: Sequence[Mapping[Cause, float]], causes: Sequence[Cause]) -> NDArray[np.float64]:
    return np.array([[whole[cause] for cause in causes] for whole in found])
