"""``harness diagnose``: which change of the oracle's computation explains the error."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from harness.alignment.diagnosis import Diagnosis, Explanation, Finding, LayerScore
from harness.devices.causes import Cause
from harness.devices.oracle import Oracle
from harness.diagnosis.directions import direction_of, first_size
from harness.diagnosis.errors import Errors
from harness.diagnosis.explain import (
    Measured,
    alike,
    explains_all,
    standing_out,
    surely,
)
from harness.diagnosis.gross import exchanges, seen
from harness.diagnosis.kept import Kept, load, save
from harness.diagnosis.scores import Scores, asked_again, asked_first, scores_again, scores_of
from harness.diagnosis.words import layer_of, name_of, size_in_words
from harness.errors import HarnessError
from harness.messages.message import Message, Value, message
from harness.messages.statement import remark
from harness.process.progress import Progress

#: At most so many causes are named, each for what the ones before leave.
EXPLANATIONS = 3
#: An effect up to this is a warning: the root of its squared error over that of the arms. A
#: choice: no correct variation that was tried showed any effect.
MARGIN = 0.05
#: Causes of single heads.
_OF_HEADS = ("head", "query_head", "value_head")


def diagnose(
    errors: Errors,
    oracle: Oracle,
    progress: Progress,
    keep: Path | None = None,
    stored: Kept | None = None,
) -> Diagnosis:
    """Name what explains the error beyond rounding.

    Args:
        keep: the file of the arms' scores, which are taken from there, or put there.
        stored: those that came with the baseline, which are taken first.

    Raises:
        HarnessError: errors of the oracle's device.
    """
    scores, known = _first(errors, oracle, progress, keep, stored)
    residual = errors.residual
    scores = scores.with_directions(errors, known, residual)
    more = standing_out(errors, oracle, scores, residual, progress)
    tried = exchanges(errors, oracle, scores.base, progress)
    new = _directions(errors, oracle, scores, [*more, *tried.found], progress)
    scores = scores.with_directions(errors, new, residual)
    first = scores = replace(scores, tried=tried.count - len(tried.found))
    known |= new
    left: float | None = scores.farthest
    named: list[tuple[Measured, list[Measured]]] = []
    while len(named) < EXPLANATIONS and left is not None and left > 1.0:
        found, scores = surely(errors, oracle, scores, residual, known, progress)
        if not named:
            first = scores
        if not found:
            left = scores.farthest
            break
        best = found[0]
        named.append((best, found[1:]))
        if explains_all(best, errors):
            left = None
            break
        residual = [
            left - best.size.value * along
            for left, along in zip(residual, best.direction, strict=True)
        ]
        oracle.together(list(asked_again(errors, residual)))
        with progress.stage("what is left", len(errors)) as step:
            scores = scores_again(errors, oracle, residual, first, step)
        scores = scores.with_directions(errors, known, residual)
        more = standing_out(errors, oracle, scores, residual, progress)
        new = _directions(errors, oracle, scores, [c for c in more if c not in known], progress)
        scores = scores.with_directions(errors, new, residual)
        known |= new
        left = scores.farthest
    return _diagnosis(errors, oracle, first, named, left)


def arms_of(errors: Errors, oracle: Oracle, progress: Progress) -> Kept:
    """What a diagnosis of any candidate has of the arms.

    Raises:
        HarnessError: errors of the oracle's device.
    """
    oracle.together(list(asked_first(errors, arms_alone=True)))
    with progress.stage("gradients of the oracle", len(errors)) as step:
        scores = scores_of(errors, oracle, step, arms_alone=True)
    settings = seen(errors, oracle, oracle.settings)
    return Kept(scores, _directions(errors, oracle, scores, settings, progress))


def _first(
    errors: Errors,
    oracle: Oracle,
    progress: Progress,
    keep: Path | None,
    stored: Kept | None,
) -> tuple[Scores, dict[Cause, Sequence[NDArray[np.float64]]]]:
    """The scores of all causes that the gradients tell, and the directions of the settings."""
    settings = seen(errors, oracle, oracle.settings)
    for kept in (stored, None if keep is None else load(keep, errors)):
        if kept is None:
            continue
        try:
            if set(kept.settings) != set(settings):
                raise ValueError("directions of other settings")
            oracle.together(list(asked_again(errors, errors.residual)))
            with progress.stage("gradients of the oracle", len(errors)) as step:
                scores = scores_again(errors, oracle, errors.residual, kept.scores, step)
            return scores, dict(kept.settings)
        except ValueError:
            progress.note("what was kept of the arms has other causes; it is made again")
    oracle.together(list(asked_first(errors)))
    with progress.stage("gradients of the oracle", len(errors)) as step:
        scores = scores_of(errors, oracle, step)
    known = _directions(errors, oracle, scores, settings, progress)
    if keep is not None:
        try:
            save(keep, Kept(scores, known))
        except HarnessError as error:
            progress.note(f"the arms' scores are not kept: {error}")
    return scores, known


def _directions(
    errors: Errors, oracle: Oracle, scores: Scores, causes: Sequence[Cause], progress: Progress
) -> dict[Cause, Sequence[NDArray[np.float64]]]:
    """The directions of causes, each by passes of its own."""
    found: dict[Cause, Sequence[NDArray[np.float64]]] = {}
    if not causes:
        return found
    with progress.stage("directions of causes", len(causes) * len(errors)) as step:
        for cause in causes:
            size = first_size(cause)
            found[cause] = direction_of(errors, oracle, scores.base, cause, size, step)
    return found


def _diagnosis(
    errors: Errors,
    oracle: Oracle,
    scores: Scores,
    named: Sequence[tuple[Measured, list[Measured]]],
    left: float | None,
) -> Diagnosis:
    excess, arms = errors.excess(), errors.arms()
    explained = [
        _explanation(errors, oracle, best, others, max(excess, best.size.explained))
        for best, others in named
    ]
    effect = math.sqrt(named[0][0].size.explained / arms) if named else 0.0
    finding: Finding = "NOTHING" if not named else "SYSTEMATIC" if effect > MARGIN else "SLIGHT"
    return Diagnosis(
        finding=finding,
        message=_said(finding, explained, effect, errors.listed),
        prompts=len(errors),
        rows=errors.rows,
        families=scores.families,
        effect=effect,
        margin=MARGIN,
        explanations=tuple(explained),
        left=left,
        layers=_layers(scores),
        source="sketches" if errors.chosen is None else "log_probabilities",
        listed=errors.listed or None,
        looked_at=errors.looked_at,
    )


def _explanation(
    errors: Errors, oracle: Oracle, best: Measured, others: Sequence[Measured], excess: float
) -> Explanation:
    cause = best.cause
    size, interval = size_in_words(cause, best.size, oracle.now(cause))
    share = min(best.size.explained / excess, 1.0) if excess > 0.0 else 0.0
    return Explanation(
        kind=cause.kind,
        place=cause.place,
        index=cause.index,
        column=cause.column,
        t=best.t,
        size=interval,
        share=share,
        alike=tuple(remark(name_of(c)) for c in alike(best, others, errors)),
        message=_explained(cause, size, share, errors.listed),
    )


def _explained(cause: Cause, size: Message, share: float, listed: int) -> Message:
    """The cause with its size; of a server's log-probabilities it says how many there were."""
    values: dict[str, Value] = {"cause": name_of(cause), "size": size, "share": 100.0 * share}
    if listed:
        return message("explanation.listed", **values, listed=listed)
    return message("explanation", **values)


def _said(
    finding: Finding, explained: Sequence[Explanation], effect: float, listed: int
) -> Message:
    if not explained and listed:
        return message("diagnosis.nothing.listed", listed=listed)
    if not explained:
        return message("diagnosis.nothing")
    best = explained[0].message
    assert best is not None
    return (
        best
        if finding == "SYSTEMATIC"
        else message("diagnosis.slight", best=best, effect=100.0 * effect)
    )


def _layers(scores: Scores) -> tuple[LayerScore, ...]:
    largest: dict[int, float] = {}
    heads: dict[int, list[tuple[Cause, float]]] = {}
    for cause, value in zip(scores.causes, scores.t, strict=True):
        layer, t = layer_of(cause), abs(float(value))
        if layer is not None:
            largest[layer] = max(largest.get(layer, 0.0), t)
            if cause.kind in _OF_HEADS:
                heads.setdefault(layer, []).append((cause, t))
    return tuple(
        LayerScore(layer=layer, t=t, heads=_heads(heads.get(layer, ())))
        for layer, t in sorted(largest.items())
    )


def _heads(found: Sequence[tuple[Cause, float]]) -> tuple[float, ...]:
    """The largest of each query head, which also has what its KV head has."""
    count = dict.fromkeys(_OF_HEADS, 0)
    for cause, _ in found:
        count[cause.kind] = max(count[cause.kind], cause.index + 1)
    largest = [0.0] * max(count.values(), default=0)
    for cause, t in found:
        each = len(largest) // count[cause.kind]
        for head in range(cause.index * each, (cause.index + 1) * each):
            largest[head] = max(largest[head], t)
    return tuple(largest)
