"""From scores to an explanation: which cause, how large, and what is left."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import WHOLE, Cause
from harness.devices.oracle import Oracle
from harness.diagnosis.directions import direction_of, first_size
from harness.diagnosis.errors import Errors
from harness.diagnosis.scores import Scores, asked_of_weights, family_of, weights_of
from harness.process.progress import Progress
from harness.statistics.intervals import student_t
from harness.statistics.score import Size, likeness, size_of

#: So many of the first causes are measured by passes of their own, and so many single rows,
#: columns or ids.
MEASURED, MEASURED_PARTS = 5, 3
#: The weights of a row or column are looked at where its t is so near to the limit: what a
#: single weight does shows in both.
NEAR = 0.85
#: An error of so many times the arms' (squared) is gross: then mistakes that change everything
#: are looked for, and a cause may be the only one.
GROSS = 2.0
#: What is told must have a size whose interval leaves out 0: rounding that is large in a few
#: prompts makes a large t, but pulls them to different sizes. Where none of the likeliest has
#: one, the next are measured, so many times.
SURE, DOUBTS = 0.99, 3
#: A cause whose t over its limit is below this share of the largest is not measured.
WORTH = 0.5
#: So many of the best are measured again where their size is.
REFINED = 2
#: A cause that explains so much of a gross error is the only one that is named.
ENOUGH = 0.9
#: At most so often, until the size changes by less than this share.
REPEATS, STAYS = 5, 0.02
#: A scale or a logarithm beyond is not one that a model has; an epsilon is often a thousand
#: times too large, and never below 0. A weight may be anything. A cap so large that it hardly
#: bends is a cause of its own: none.
_NEARLY_NONE = -0.95
LARGEST = 8.0
RANGES = {
    "norm_epsilon": (-1.0, 1e5), "weight": (-math.inf, math.inf), "distance": (-1.0, LARGEST),
    "attention_cap": (_NEARLY_NONE, 1e3), "final_cap": (_NEARLY_NONE, 1e3),
    "attention_cap_added": (0.0, 1e3), "final_cap_added": (0.0, 1e3),
}  # fmt: skip
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
        sure: whether it leaves out 0 with ``SURE``, whatever the candidate shares of the arms'
            rounding; always of a gross error, which is not rounding.
        direction: per prompt float64 (n, 64), over the size.
        information: float64 (p,), products of the direction with itself.
    """

    cause: Cause
    t: float
    size: Size
    sure: bool
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
    """The causes that explain most of ``residual``, best first, those that are surely there
    before all others.

    Args:
        known: directions that were measured before.
    """
    found, chosen = [], likeliest(scores)
    passes = len([cause for cause, _ in chosen if cause not in known])
    with progress.stage("causes", max(passes * len(errors), 1)) as step:
        for cause, t in chosen:
            direction = known.get(cause)
            if direction is None:
                first = first_size(cause)
                direction = direction_of(errors, oracle, scores.base, cause, first, step)
            item = sized(errors, cause, t, direction, residual)
            if item is not None:
                found.append(item)

    def rank(item: Measured) -> tuple[bool, float]:
        return is_there(item, scores), item.size.explained

    found.sort(key=rank, reverse=True)
    with progress.stage("sizes", REFINED * REPEATS * len(errors)) as step:
        for index, item in enumerate(found[:REFINED]):
            found[index] = _refined(errors, oracle, scores.base, item, residual, step)
            if explains_all(found[index], errors):
                break
    return sorted(found, key=rank, reverse=True)


def surely(
    errors: Errors,
    oracle: Oracle,
    scores: Scores,
    residual: Sequence[NDArray[np.float64]],
    known: Mapping[Cause, Sequence[NDArray[np.float64]]],
    progress: Progress,
) -> tuple[list[Measured], Scores]:
    """``measured``, until one of them tells that it is there; nothing where none does. And the
    scores, with what was doubted on the way."""
    for _ in range(DOUBTS):
        found = measured(errors, oracle, scores, residual, known, progress)
        if any(is_there(item, scores) for item in found):
            return found, scores
        scores = scores.doubting(item.cause for item in found if not item.sure)
        if not found or scores.farthest <= 1.0:
            break
    return [], scores.doubting(scores.standing())


def is_there(item: Measured, scores: Scores) -> bool:
    """Whether a cause is beyond what chance does, and its size is sure."""
    return item.sure and abs(item.t) > scores.limits[family_of(item.cause)]


def explains_all(item: Measured, errors: Errors) -> bool:
    """Whether a cause explains nearly all of a gross error: what it leaves then is its own
    curvature. Of an error that hides in rounding nobody knows how much there is to explain."""
    return is_gross(errors) and item.size.explained >= ENOUGH * errors.excess()


def is_gross(errors: Errors) -> bool:
    """Whether the error is far beyond rounding."""
    return errors.excess() >= GROSS * errors.arms()


def standing_out(
    errors: Errors,
    oracle: Oracle,
    scores: Scores,
    residual: Sequence[NDArray[np.float64]],
    progress: Progress,
) -> list[Cause]:
    """The single weight that stands out most in the row and in the column that do; each
    costs a pass. The limit of its t is that of all weights, whatever led to it. Where a cause
    stands out more, the rows and columns are its shadow, and none is looked at."""
    found = []
    shadow = float(scores.beyond.max(initial=0.0))
    for kind in ("row", "column"):
        best = max(_largest_parts(scores, kind), key=lambda each: abs(each[1]), default=None)
        if best is None or abs(best[1]) / scores.limits["parts"] < max(NEAR, shadow):
            continue
        oracle.together(list(asked_of_weights(best[0], errors, residual)))
        with progress.stage(f"weights of one {kind}", len(errors)) as step:
            weights = weights_of(best[0], errors, oracle, scores, residual, step)
        if weights and abs(weights[0][1]) > scores.limits["weights"]:
            found.append(weights[0][0])
    return list(dict.fromkeys(found))


def _largest_parts(scores: Scores, kind: str = "") -> list[tuple[Cause, float]]:
    """The part of each place that stands out most, with its t."""
    found = []
    for part, t in zip(scores.parts, scores.part_t, strict=True):
        if kind in ("", part.kind) and t.size:
            worst = int(np.argmax(np.abs(t)))
            found.append((Cause(part.kind, part.place, worst), float(t[worst])))
    return found


def likeliest(scores: Scores) -> list[tuple[Cause, float]]:
    """The causes that are most likely, and of single rows, columns and ids those that are
    beyond chance, with their t.

    In the metric of rounding the variance of a score is the information of its direction, so
    the squared t is how much a cause would explain. What was doubted is not among them.
    """
    doubted = np.array([cause in scores.doubted for cause in scores.causes], np.bool_)
    beyond = np.where(doubted, 0.0, scores.beyond)
    worth = WORTH * beyond.max(initial=0.0)
    order = [int(i) for i in np.argsort(-beyond)[:MEASURED] if beyond[i] >= worth > 0.0]
    found = [(scores.causes[i], float(scores.t[i])) for i in order]
    limit = scores.limits["parts"]
    singles = [each for each in _largest_parts(scores) if abs(each[1]) > limit]
    singles.sort(key=lambda item: -abs(item[1]))
    return found + singles[:MEASURED_PARTS]


def measured_alone(
    errors: Errors, oracle: Oracle, base: Sequence[NDArray[np.float64]], cause: Cause
) -> Measured | None:
    """A cause that is known, with its size; None where it changes nothing.

    Args:
        base: the oracle's rows as they are.
    """
    direction = direction_of(errors, oracle, base, cause, first_size(cause))
    item = sized(errors, cause, math.nan, direction, errors.residual)
    if item is None:
        return None
    return _refined(errors, oracle, base, item, errors.residual, lambda: None)


def sized(
    errors: Errors,
    cause: Cause,
    t: float,
    direction: Sequence[NDArray[np.float64]],
    residual: Sequence[NDArray[np.float64]],
) -> Measured | None:
    """The size of a cause, by least squares; None where its direction is 0."""
    weighed = [errors.metric.weighed(i, along) for i, along in enumerate(direction)]
    information = np.array([np.sum(w * d) for w, d in zip(weighed, direction, strict=True)])
    score = np.array([np.sum(w * e) for w, e in zip(weighed, residual, strict=True)])
    if not information.sum() > 0.0:
        return None
    count = len(errors) - 1
    size = size_of(score, information, student_t(0.95, count))
    theirs = [np.sum(w * p.rounding) for w, p in zip(weighed, errors.prompts, strict=True)]
    each = [score + (1.0 - share) * np.array(theirs) for share in errors.shares]
    sizes = [size_of(one, information, student_t(SURE, count)) for one in each]
    sure = is_gross(errors) or all(one.low > 0.0 or one.high < 0.0 for one in sizes)
    return Measured(cause, t, size, sure, direction, information)


def _refined(
    errors: Errors,
    oracle: Oracle,
    base: Sequence[NDArray[np.float64]],
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
        if abs(size - now) <= STAYS * max(abs(size), now):
            break
        least, most = RANGES.get(item.cause.kind, (-LARGEST, LARGEST))
        if not least < size < most:
            break
        direction = direction_of(errors, oracle, base, item.cause, size, step)
        found = sized(errors, item.cause, item.t, direction, residual)
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
