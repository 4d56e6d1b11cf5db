"""The scales of the guards: how far single rows, prompts and margins of correct
arms stand out, measured between the arms of a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.baseline.controls import RatioLimit
from harness.statistics.directions import bounded, furthest, outer_sum, whitening
from harness.statistics.places import places_of

#: A row's error may be so many times as far out as the furthest of the arms'.
ROW_HEADROOM = 2.0
#: The share of the arms' rows that is counted as common: beyond it, inflated to the
#: limit of the error ratio, rows are counted.
COMMON = 0.99
#: The largest error of one prompt over the arms' own, and how far beyond the arms'
#: furthest prompt it may be.
PROMPT_LIMIT, PROMPT_HEADROOM = 1.8, 1.5
#: The same of one place in all outputs.
PLACE_LIMIT, PLACE_HEADROOM = 1.8, 1.5
#: How far beyond the arms' own an error may be in one direction. Correct variations of both
#: embedded models came to 1.16 times the arms' with any choice of prompts.
DIRECTION_HEADROOM = 1.4
#: An arm whose furthest row is so many times as far out as the others' has an
#: outlier of its own, by which no scale is set.
OUTLYING = 3.0
#: The tail of the controls' shifts is seen in so many of the largest.
TAIL_VALUES = 20
#: How far beyond the shift that one correct suite in a few would reach a candidate may
#: go. If a tail falls as ``x ** -v``, correct suites go further with a chance of
#: ``2.5 ** -v``: 1 % at v = 5, 0.2 % at 7, which the embedded model's controls have.
SHIFT_HEADROOM = 2.5
#: The largest shift is not less than this where too few values show a tail: what the
#: controls of real models come to, which have thousands.
LEAST_KAPPA = 20.0
#: Tails are taken to be no heavier and no lighter than these powers.
HEAVIEST, LIGHTEST = 4.0, 10.0


@dataclass(frozen=True, eq=False)
class ArmRows:
    """The arms' rows of one prompt: A arms, the reference first, m finite positions
    of n.

    Attributes:
        error: float64 (A, m, w), sketches of each arm's error against the oracle.
        positions: int64 (m,), which positions these are.
        shift: float64 (A - 1, n), each control's margin shift against the
            reference, over the local noise of the other arms.
    """

    error: NDArray[np.float64]
    positions: NDArray[np.int64]
    shift: NDArray[np.float64]

    @property
    def arms(self) -> int:
        """A, how many arms."""
        return len(self.shift) + 1

    @cached_property
    def squared(self) -> NDArray[np.float64]:
        """float64 (A, m), squared error of each row."""
        return np.asarray(np.sum(self.error * self.error, axis=-1))

    @cached_property
    def standing(self) -> NDArray[np.float64]:
        """float64 (A, m), error of each row over the middle one of the other arms' at
        its position, which one arm's outlier does not move; 0 where they have none."""
        safe = np.where(self.usual > 0.0, self.usual, 1.0)
        return np.asarray(np.where(self.usual > 0.0, np.sqrt(self.squared / safe), 0.0))

    @cached_property
    def usual(self) -> NDArray[np.float64]:
        """float64 (A, m), the middle one of the other arms' squared errors; 0 for an only
        arm."""
        arms = len(self.squared)
        if arms < 2:
            return np.zeros_like(self.squared)
        others = [np.delete(np.arange(arms), k) for k in range(arms)]
        return np.asarray(np.median(self.squared[np.stack(others)], axis=1))

    @cached_property
    def moments(self) -> NDArray[np.float64]:
        """float64 (A, w, w), outer products of the arms' errors, summed over the rows,
        each over the middle one of the other arms' errors; see ``directions.bounded``."""
        sizes = np.sqrt(self.usual)
        return np.stack([outer_sum(bounded(e, u)) for e, u in zip(self.error, sizes, strict=True)])

    @cached_property
    def prompt_standing(self) -> NDArray[np.float64]:
        """float64 (A,), of the whole prompt: the geometric mean over its rows, so that
        no row governs it."""
        return np.array([typical(rows) for rows in self.standing])


def typical(standing: NDArray[np.float64]) -> float:
    """The geometric mean of how far rows stand out, of those that have an error; 0 where
    none has."""
    seen = standing[standing > 0.0]
    return float(np.exp(np.mean(np.log(seen)))) if seen.size else 0.0


@dataclass(frozen=True)
class Tail:
    """The tail of relative shifts: ``share`` of them lie beyond ``start``, and it is
    taken to fall as ``x ** -power`` from there; ``values`` is how many were seen."""

    values: int
    share: float
    start: float
    power: float


@dataclass(frozen=True, eq=False)
class Scales:
    """What correct arms show, and the limits that follow.

    Attributes:
        kappa: the largest margin shift, over the local noise.
        tail: where kappa comes from; None without controls.
        row_largest, row_limit: how far the arms' furthest row stands out, and how
            far a candidate's may.
        row_common: how far all but 1 % of the arms' rows stand out at most.
        prompt_largest, prompt_limit: the same of whole prompts.
        place_largest, place_limit: the same of one place in all outputs.
        white: the whitening of the arms' errors, (w, w); None where there is none.
        direction_largest, direction_limit: how many times as large as the others' an
            arm's error is in one direction, and how many times a candidate's may be.
        arms: how many arms.
    """

    kappa: float
    tail: Tail | None
    row_largest: float
    row_limit: float
    row_common: float
    prompt_largest: float
    prompt_limit: float
    place_largest: float
    place_limit: float
    white: NDArray[np.float64] | None
    direction_largest: float
    direction_limit: float
    arms: int


def scales_of(prompts: Sequence[ArmRows], limit: RatioLimit) -> Scales:
    """The scales of these prompts.

    ``kappa`` is ``SHIFT_HEADROOM`` times the shift beyond which one position of a
    suite as long as these is expected. That shift is found from the tail by Hill's
    rule (1975): its power is one over the mean of ``log(x / start)`` above ``start``.
    So many values make it, not the largest one.
    """
    shifts = np.concatenate([p.shift.ravel() for p in prompts]) if prompts else np.zeros(0)
    positions = sum(p.shift.shape[1] for p in prompts)
    tail = tail_of(shifts)
    rows = _by_arm([p.standing for p in prompts])
    whole = _by_arm([p.prompt_standing[:, None] for p in prompts])
    largest = _without_outlier(rows)
    furthest = _without_outlier(whole)
    together = np.concatenate(rows) if rows else np.zeros(0)
    common = float(np.quantile(together, COMMON)) if together.size else 0.0
    place, (white, direction) = _furthest_place(prompts), _directions(prompts)
    return Scales(
        kappa=_kappa(tail, positions),
        tail=tail,
        row_largest=largest,
        row_limit=ROW_HEADROOM * limit.size * largest,
        row_common=common,
        prompt_largest=furthest,
        prompt_limit=limit.widened * max(PROMPT_LIMIT, PROMPT_HEADROOM * furthest),
        place_largest=place,
        place_limit=limit.widened * max(PLACE_LIMIT, PLACE_HEADROOM * place),
        white=white,
        direction_largest=direction,
        # Arms that share errors are alike, and would take another computation for a fault.
        direction_limit=DIRECTION_HEADROOM * limit.hidden * direction,
        arms=len(rows),
    )


def _arms_of(prompts: Sequence[ArmRows]) -> int:
    return max((p.arms for p in prompts), default=0)


def _furthest_place(prompts: Sequence[ArmRows]) -> float:
    """How far the arms' furthest place stands out."""
    found = 0.0
    for k in range(_arms_of(prompts)):
        having = [p for p in prompts if p.arms > k]
        lengths = [p.shift.shape[1] for p in having]
        rows, at = [p.standing[k] for p in having], [p.positions for p in having]
        found = max(found, float(places_of(rows, at, lengths).standing.max(initial=0.0)))
    return found


def _directions(prompts: Sequence[ArmRows]) -> tuple[NDArray[np.float64] | None, float]:
    """The whitening of all arms' errors, and how many times as large as the other arms'
    the error of an arm is in the direction where it is most so."""
    arms = _arms_of(prompts)
    if arms < 2:
        return None, 0.0
    width = prompts[0].error.shape[-1]
    moments, rows = np.zeros((arms, width, width)), np.zeros(arms, np.int64)
    for p in prompts:
        moments[: p.arms] += p.moments
        rows[: p.arms] += len(p.positions)
    moments /= np.maximum(rows, 1)[:, None, None]
    largest = 0.0
    for k in range(arms):
        others = whitening(np.delete(moments, k, axis=0).mean(axis=0))
        if others is not None:
            largest = max(largest, furthest(moments[k], others))
    return whitening(moments.mean(axis=0)), largest


def tail_of(shifts: NDArray[np.float64]) -> Tail | None:
    """The tail of relative shifts, float64 (n,); None where nothing moved."""
    n = len(shifts)
    count = min(TAIL_VALUES, n // 4)
    if count < 1:
        return None
    largest = np.sort(shifts)[::-1][: count + 1]
    start = float(largest[-1])
    if start <= 0.0:
        # Most shifts are 0: what moved at all is the tail.
        moved = largest[largest > 0.0]
        if len(moved) < 2:
            return None if not len(moved) else Tail(n, 1.0 / n, float(moved[0]), HEAVIEST)
        count, start = len(moved) - 1, float(moved[-1])
        largest = moved
    mean = float(np.mean(np.log(largest[:count] / start)))
    power = 1.0 / mean if mean > 0.0 else LIGHTEST
    return Tail(n, count / n, start, min(max(power, HEAVIEST), LIGHTEST))


def _kappa(tail: Tail | None, positions: int) -> float:
    """The largest shift; with few values at least what heavy tails need."""
    found = 0.0 if tail is None else SHIFT_HEADROOM * _beyond(tail, positions)
    few = tail is None or tail.values < 4 * TAIL_VALUES
    return max(found, LEAST_KAPPA) if few else found


def _beyond(tail: Tail, positions: int) -> float:
    """The shift beyond which one of so many positions is expected."""
    return tail.start * float(max(tail.share * positions, 1.0) ** (1.0 / tail.power))


def _by_arm(parts: Sequence[NDArray[np.float64]]) -> list[NDArray[np.float64]]:
    """All values of each arm; prompts in which an arm was left out have fewer."""
    arms = max((len(part) for part in parts), default=0)
    return [np.concatenate([p[k] for p in parts if len(p) > k]) for k in range(arms)]


def _without_outlier(arms: Sequence[NDArray[np.float64]]) -> float:
    """The largest of all arms, less those of an arm with an outlier of its own. How far
    out its largest is counts from its own middle, since a rougher path has all of its
    rows further out."""
    largest = [float(arm.max(initial=0.0)) for arm in arms]
    middles = [float(np.median(arm)) if arm.size else 0.0 for arm in arms]
    reach = [x / m if m > 0.0 else 0.0 for x, m in zip(largest, middles, strict=True)]
    kept = [x for k, x in enumerate(largest) if not outlying(reach, k)]
    return max(kept, default=0.0)


def outlying(reach: Sequence[float], arm: int) -> bool:
    """Whether the furthest row of one arm is ``OUTLYING`` times as far out as that of
    the middle one of the others, so that two arms with outliers do not excuse each
    other; False with fewer than three arms.

    Args:
        reach: of each arm, its furthest row over its middle one.
    """
    others = sorted(x for k, x in enumerate(reach) if k != arm)
    return len(others) > 1 and reach[arm] > OUTLYING * others[(len(others) - 1) // 2]
