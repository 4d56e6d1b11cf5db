"""How near a correct device's routers are where they leave the oracle's routes, and whether
the arms of a baseline left them often enough to show how far such rows go.

A router takes the experts with the largest logits. Where two are nearly alike rounding takes
another one, and that row, and those that attend to it, differ by far more than rounding does
elsewhere. Few rows that are far out set no limit: a candidate's first one would be called a
fault. So rows are left out as long as enough are kept.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from harness.baseline.baseline import Baseline
from harness.baseline.controls import RatioLimit
from harness.recording.format import Run
from harness.statistics.routes import Routes, joined, left, router_noise, tried, widest_flip

#: Rows are left out where all arms together keep at least these shares of them: all rows after
#: a departure, or else those whose own token has other experts. Where even those are common,
#: the arms' rows show how far such rows go.
KEEPS_AFTER, KEEPS_OTHER = 0.1, 0.25
#: How many flips of a correct suite are expected beyond the widest margin: a chance, since it
#: is far below 1.
FLIP_CHANCE = 1e-3
#: The noise of single tokens and layers may be so many times the fitted one.
ROUTER_HEADROOM = 1.5

LeftOut = Literal["after", "other", "none"]


@dataclass(frozen=True, eq=False)
class Departure:
    """Where one run left the oracle's routes.

    Attributes:
        row: the first row in which it has, or follows a token that has, other experts; the
            number of rows where there is none.
        margin: of the oracle's router at the first token that moved, logits; NaN without one.
        tokens: how many tokens moved, of prompt and output.
        other: bool (rows,), the rows whose own token moved.
    """

    row: int
    margin: float
    tokens: int
    other: NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class RouteNoise:
    """What the arms' routers show.

    Attributes:
        truth: the oracle's routes, by prompt id.
        arms: the departures of each arm in each prompt, by prompt id.
        noise: the deviation of a router's margin by rounding, logits: at most (98 %). None where
            the oracle tells no margins, or too few.
        widest: the margin beyond which no correct device flips; None as above.
        left_out: which rows are not judged by errors and margins: ``after`` a departure of
            the candidate or an arm, with ``other`` experts in one of them, or ``none``.
    """

    truth: Mapping[str, Routes]
    arms: Mapping[str, tuple[Departure, ...]]
    noise: float | None
    widest: float | None
    left_out: LeftOut

    def judged(self, prompt: str, rows: int, own: Departure | None) -> NDArray[np.bool_]:
        """bool (rows,), the rows of a prompt that are judged by their errors and margins. What
        rounding does not explain leaves nothing out.

        Args:
            own: the candidate's; None where it does not tell.
        """
        found = [*self.arms[prompt]]
        if own is not None and self.explained(own):
            found.append(own)
        return _judged(found, rows, self.left_out)

    def explained(self, departure: Departure) -> bool:
        """Whether rounding explains that a run left the oracle's routes there."""
        return self.widest is None or not departure.margin > self.widest


def route_noise(baseline: Baseline, limit: RatioLimit) -> RouteNoise | None:
    """The routes of a baseline; None where an arm does not tell them of every prompt."""
    if baseline.oracle is None:
        return None
    truth, paths = {}, {}
    for prompt in baseline.reference.prompts:
        context = prompt.run.token_ids
        beside = [arm.prompt(prompt.id) for _, arm in baseline.arms()]
        told = [None if p is None else of_rows(p.on(context), len(context)) for p in beside]
        known = alike([routes for routes in told if routes is not None])
        if len(known) < len(told):
            return None
        truth[prompt.id], paths[prompt.id] = known[1], (known[0], *known[2:])
    rows = {p.id: len(p.run.token_ids) for p in baseline.reference.prompts}
    arms = {i: tuple(departure(a, truth[i], rows[i]) for a in paths[i]) for i in truth}
    noise, widest = _margins(truth, paths, limit)
    return RouteNoise(truth, arms, noise, widest, _left_out(arms, rows))


def _left_out(arms: Mapping[str, Sequence[Departure]], rows: Mapping[str, int]) -> LeftOut:
    every = sum(rows.values())
    choices: tuple[tuple[LeftOut, float], ...] = (("after", KEEPS_AFTER), ("other", KEEPS_OTHER))
    for which, share in choices:
        kept = sum(int(_judged(found, rows[i], which).sum()) for i, found in arms.items())
        if kept >= share * every:
            return which
    return "none"


def _judged(found: Sequence[Departure], rows: int, left_out: LeftOut) -> NDArray[np.bool_]:
    kept = np.ones(rows, np.bool_)
    for each in found:
        if left_out == "after":
            kept[each.row :] = False
        elif left_out == "other":
            n = min(rows, len(each.other))
            kept[:n] &= ~each.other[:n]
    return kept


def _margins(
    truth: Mapping[str, Routes], paths: Mapping[str, Sequence[Routes]], limit: RatioLimit
) -> tuple[float | None, float | None]:
    if any(routes.margin is None for routes in truth.values()):
        return None, None
    could = [tried(arm, truth[i]) for i, arms in paths.items() for arm in arms]
    flips = sum(bool(left(arm, truth[i])[0].any()) for i, arms in paths.items() for arm in arms)
    noise = router_noise(np.concatenate(could), flips)
    if not math.isfinite(noise):
        return None, None  # too few choices to tell
    once = [t.margin.ravel() for t in truth.values() if t.margin is not None]
    wide = ROUTER_HEADROOM * limit.inflations[1] * noise
    return noise, widest_flip(np.concatenate(once).astype(np.float64), wide, FLIP_CHANCE)


def of_rows(run: Run, rows: int) -> Routes | None:
    """The routes of a run's first rows, after those of the prompt where they are known."""
    if run.routes is None:
        return None
    return run.routes[: len(run.routes) - len(run.rows) + rows]


def row_routes(run: Run) -> Routes | None:
    """The routes of a run's rows alone."""
    return None if run.routes is None else run.routes[len(run.routes) - len(run.rows) :]


def alike(runs: Sequence[Routes]) -> list[Routes]:
    """The tokens that all of them tell, of one prompt; none where their layers differ."""
    if joined(list(runs)) is None:
        return []
    least = min(map(len, runs))
    return [routes[len(routes) - least :] for routes in runs]


def departure(arm: Routes, truth: Routes, rows: int) -> Departure:
    """Where an arm left the truth; the last ``rows`` tokens have rows."""
    moved, margin = left(arm, truth)
    before = len(moved) - rows
    if not moved.any():
        return Departure(rows, float("nan"), 0, moved[before:])
    first = int(np.argmax(moved))
    return Departure(max(first - before, 0), float(margin[first]), int(moved.sum()), moved[before:])
