"""The error of a mixture of experts, where its routes are the oracle's and where they are not.

Rounding moves a token to another expert where two of them are nearly alike, and a correct
device's row then differs by far more than rounding alone explains.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.alignment.outcomes import FAILING
from harness.alignment.prompt_result import PromptAlignment
from harness.alignment.prompts import common_context
from harness.alignment.result import RouteSplit
from harness.baseline.baseline import Baseline
from harness.baseline.routing import row_routes
from harness.messages.message import Message, message
from harness.recording.format import PromptRecord, Recording
from harness.statistics.routes import Routes, joined


def split_by_routes(
    candidate: Recording,
    baseline: Baseline,
    prompts: Sequence[PromptAlignment],
    judged: int | None = None,
) -> RouteSplit | None:
    """Rows whose routes are the oracle's in candidate and reference, apart from the others.

    None where the model has no routers, or an arm or the candidate does not tell its routes.

    Args:
        judged: how many rows' errors and margins are judged.
    """
    parts = [_of_prompt(candidate.prompt(p.id), baseline, p) for p in prompts]
    if not parts or any(part is None for part in parts):
        return None
    known = [part for part in parts if part is not None]
    mine, theirs, truth = (joined([part[n] for part in known]) for n in range(3))
    if mine is None or theirs is None or truth is None:
        return None
    if not mine.layers == theirs.layers == truth.layers:
        return None
    errors = [_listed(getattr(p.positions, name)) for name in _ERRORS for p in prompts]
    own, base = np.concatenate(errors[: len(prompts)]), np.concatenate(errors[len(prompts) :])
    failing = np.array([c in FAILING for p in prompts for c in p.positions.class_], bool)
    moved, moved_too = (_moved(arm, truth) for arm in (mine, theirs))
    other: NDArray[np.bool_] = np.logical_or(moved.any(1), moved_too.any(1))
    return RouteSplit(
        layers=truth.layers,
        rows=len(truth),
        candidate_flips=int(moved.any(1).sum()),
        reference_flips=int(moved_too.any(1).sum()),
        same_rows=int((~other).sum()),
        same_ratio=_ratio(own, base, np.logical_not(other)),
        other_ratio=_ratio(own, base, other),
        failing=int(failing.sum()),
        failing_other=int((failing & other).sum()),
        candidate_margin=_widest(moved, truth),
        reference_margin=_widest(moved_too, truth),
        median_margin=None if truth.margin is None else float(np.median(truth.margin)),
        judged=judged,
    )


_ERRORS = ("error", "reference_error")


def route_remarks(split: RouteSplit | None) -> Iterator[Message]:
    """What a reader is told of the routes."""
    if split is None:
        return
    values = split.model_dump()
    others = split.rows - split.same_rows
    if not others:
        yield message("routes.same", rows=split.rows, layers=split.layers)
        return
    yield message(
        "routes.other",
        rows=split.rows,
        flips=split.candidate_flips,
        reference=split.reference_flips,
    )
    if split.same_ratio is not None and split.other_ratio is not None:
        yield message(
            "routes.ratios",
            same=split.same_ratio,
            rows=split.same_rows,
            other=split.other_ratio,
            others=others,
        )
    if split.failing:
        yield message("routes.failing", failing=split.failing, other=split.failing_other)
    if split.judged is not None and split.judged < split.rows:
        yield message("routes.judged", left=split.rows - split.judged, rows=split.rows)
    margins = ("candidate_margin", "reference_margin", "median_margin")
    if all(values[name] is not None for name in margins):
        yield message("routes.margins", **{name: values[name] for name in margins})


def _of_prompt(
    mine: PromptRecord | None, baseline: Baseline, aligned: PromptAlignment
) -> tuple[Routes, Routes, Routes] | None:
    theirs = baseline.reference.prompt(aligned.id)
    oracle = None if baseline.oracle is None else baseline.oracle.prompt(aligned.id)
    if mine is None or theirs is None or oracle is None:
        return None
    own = _followed(mine, theirs.run.token_ids)
    base, truth = (row_routes(arm.on(theirs.run.token_ids)) for arm in (theirs, oracle))
    n = len(aligned.positions.class_)
    if own is None or base is None or truth is None or min(map(len, (own, base, truth))) < n:
        return None
    return own[:n], base[:n], truth[:n]


def _followed(mine: PromptRecord, context: Sequence[int]) -> Routes | None:
    """The routes of the rows that are judged: of the free run while it follows the context,
    then of the forced run."""
    run = mine.on(context)
    forced = row_routes(run)
    if mine.free is None or run is mine.free:
        return forced
    free = row_routes(mine.free)
    if forced is None or free is None:
        return None
    own = common_context(mine.free, context)
    return joined([free[:own], forced[own:]])


def _moved(arm: Routes, truth: Routes) -> NDArray[np.bool_]:
    return np.asarray(arm.chosen != truth.chosen)


def _listed(values: Sequence[float | None]) -> NDArray[np.float64]:
    return np.array([np.nan if v is None else v for v in values], np.float64)


def _ratio(
    mine: NDArray[np.float64], theirs: NDArray[np.float64], rows: NDArray[np.bool_]
) -> float | None:
    """Root-mean-square error over the reference's, of some rows."""
    known = rows & np.isfinite(mine) & np.isfinite(theirs)
    below = float(np.sum(theirs[known] ** 2))
    return float(np.sqrt(np.sum(mine[known] ** 2) / below)) if below > 0 else None


def _widest(moved: NDArray[np.bool_], truth: Routes) -> float | None:
    """The largest margin of the oracle's routers at which a row left its routes: in the first
    layer in which it did, since what follows is a consequence."""
    if truth.margin is None:
        return None
    rows = np.flatnonzero(moved.any(1))
    if not len(rows):
        return 0.0
    return float(truth.margin[rows, moved[rows].argmax(1)].max())
