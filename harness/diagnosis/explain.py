"""From scores to an explanation: which cause, how large, and what is left."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import WHOLE, Cause
from harness.devices.oracle import Oracle
from harness.diagnosis.directions import direction_of, first_size
from harness.diagnosis.errors import Errors
from harness.diagnosis.scores import Scores, part_limit
from harness.process.progress import Progress
from harness.statistics.intervals import student_t
from harness.statistics.score import Size, likeness, size_of

#: So many of the first causes in each of two orders are measured by passes of their own, and
#: so many single rows, columns or ids.
MEASURED, MEASURED_PARTS = 5, 4
#: A cause whose t is below this share of the largest is not measured.
WORTH = 0.5
#: So many of the best are measured again where their size is.
REFINED = 2
#: At most so often, until the size changes by less than this share; a size beyond the
#: largest is none that a model has.
REPEATS, STAYS, LARGEST = 5, 0.02, 8.0
#: Directions that are so much alike cannot be told apart.
ALIKE = 0.9
#: The best explains no more than so many times as much as another that is alike.
AS_MUCH = 0.9


@dataclass(frozen=True, eq=False)
class Measured:
    """One cause with its direction.

    Attributes:
        t: Student's t of its score.
        size: in the cause's own unit.
        direction: per prompt float64 (n, 64), over the size.
        information: float64 (p,), products of the direction with itself.
    """

    cause: Cause
    t: float
    size: Size
    direction: Sequence[NDArray[np.float64]]
    information: NDArray[np.float64]


def measured(
    errors: Errors,
    oracle: Oracle,
    scores: Scores,
    residual: Sequence[NDArray[np.float64]],
    known: Mapping[Cause, Sequence[NDArray[np.float64]]],
    progress: Progress,
) -> list[Measured]:
    """The causes that explain most of ``residual``, best first.

    Args:
        known: directions that were measured before.
    """
    found, chosen = [], likeliest(scores, len(errors))
    passes = len([cause for cause, _ in chosen if cause not in known])
    with progress.stage("causes", max(passes * len(errors), 1)) as step:
        for cause, t in chosen:
            direction = known.get(cause)
            if direction is None:
                first = first_size(cause)
                direction = direction_of(errors, oracle, scores.base, cause, first, step)
            item = _sized(errors, cause, t, direction, residual)
            if item is not None:
                found.append(item)
    found.sort(key=_explained, reverse=True)
    with progress.stage("sizes", REFINED * REPEATS * len(errors)) as step:
        refined = [
            _refined(errors, oracle, scores, item, residual, step) for item in found[:REFINED]
        ]
    return sorted([*refined, *found[REFINED:]], key=_explained, reverse=True)


def likeliest(scores: Scores, prompts: int) -> list[tuple[Cause, float]]:
    """The causes that are most likely, and of single rows, columns and ids those that are
    beyond chance, with their t.

    Two orders decide: how sure a cause is (t), and how much it would explain. For the second
    a cause's information is taken from its scores of the arms' mean, which is rounding.
    """
    t = scores.t
    total, noise = scores.candidate.sum(axis=0), np.sum(scores.rounding**2, axis=0)
    known = noise > 0.0
    explains = np.where(known, total**2 / np.where(known, noise, 1.0), 0.0)
    worth = np.abs(t) >= WORTH * np.abs(t).max(initial=0.0)
    orders = (np.argsort(-np.abs(t)), np.argsort(-np.where(worth, explains, -1.0)))
    chosen = dict.fromkeys(int(i) for order in orders for i in order[:MEASURED] if worth[i])
    found = [(scores.causes[i], float(t[i])) for i in chosen]
    limit = part_limit(scores.parts, prompts)
    singles = []
    for part, part_t in zip(scores.parts, scores.part_t, strict=True):
        worst = int(np.argmax(np.abs(part_t)))
        if abs(part_t[worst]) > limit:
            singles.append((Cause(part.kind, part.place, worst), float(part_t[worst])))
    singles.sort(key=lambda item: -abs(item[1]))
    return found + singles[:MEASURED_PARTS]


def _explained(item: Measured) -> float:
    return item.size.explained


def _sized(
    errors: Errors,
    cause: Cause,
    t: float,
    direction: Sequence[NDArray[np.float64]],
    residual: Sequence[NDArray[np.float64]],
) -> Measured | None:
    """The size of a cause; None where its direction is 0."""
    weighed = [errors.metric.weighed(i, along) for i, along in enumerate(direction)]
    information = np.array([np.sum(w * d) for w, d in zip(weighed, direction, strict=True)])
    score = np.array([np.sum(w * e) for w, e in zip(weighed, residual, strict=True)])
    if not information.sum() > 0.0:
        return None
    size = size_of(score, information, student_t(0.95, len(errors) - 1))
    return Measured(cause, t, size, direction, information)


def _refined(
    errors: Errors,
    oracle: Oracle,
    scores: Scores,
    item: Measured,
    residual: Sequence[NDArray[np.float64]],
    step: Callable[[], None],
) -> Measured:
    """Measured again where its size is, until that stays: a large change is not straight."""
    if item.cause.kind in WHOLE:
        return item
    best, now = item, first_size(item.cause)
    for _ in range(REPEATS):
        size = best.size.value
        if abs(size - now) <= STAYS * max(abs(size), now) or abs(size) > LARGEST:
            break
        direction = direction_of(errors, oracle, scores.base, item.cause, size, step)
        found = _sized(errors, item.cause, item.t, direction, residual)
        if found is None or found.size.explained <= best.size.explained:
            break
        best, now = found, size
    return best


def alike(best: Measured, others: Sequence[Measured], errors: Errors) -> tuple[Cause, ...]:
    """The causes that explain as much as the best and cannot be told apart from it."""
    found = []
    weighed = [errors.metric.weighed(i, along) for i, along in enumerate(best.direction)]
    for other in others:
        product = sum(float(np.sum(w * d)) for w, d in zip(weighed, other.direction, strict=True))
        same = abs(likeness(best.information, other.information, product)) >= ALIKE
        if same and other.size.explained >= AS_MUCH * best.size.explained:
            found.append(other.cause)
    return tuple(found)
