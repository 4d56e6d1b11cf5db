"""``harness diagnose``: which change of the oracle's computation explains the error."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.alignment.diagnosis import Diagnosis, Explanation, Finding, LayerScore
from harness.devices.causes import Cause
from harness.devices.oracle import Oracle
from harness.diagnosis.directions import direction_of, first_size
from harness.diagnosis.errors import Errors
from harness.diagnosis.explain import Measured, alike, measured
from harness.diagnosis.scores import Scores, part_limit, scores_of
from harness.diagnosis.words import layer_of, name_of, size_in_words
from harness.messages.message import Message, message
from harness.messages.statement import remark
from harness.process.progress import Progress

#: At most so many causes are named, each for what the ones before leave.
EXPLANATIONS = 3
#: A cause that explains so much of the error beyond rounding is the only one that is named.
ENOUGH = 0.9
#: An effect up to this is a warning: the root of its squared error over that of the arms. A
#: choice: no correct variation that was tried showed any effect.
MARGIN = 0.05

_Rows = Sequence[NDArray[np.float64]]


def diagnose(errors: Errors, oracle: Oracle, progress: Progress) -> Diagnosis:
    """Name what explains the error beyond rounding.

    Raises:
        HarnessError: errors of the oracle's device.
    """
    with progress.stage("gradients of the oracle", len(errors)) as step:
        scores = scores_of(errors, oracle, step=step)
    known = _settings(errors, oracle, scores.base, progress)
    scores = scores.with_directions(errors, known)
    likely, sure = scores.limits()
    first, limit = scores, part_limit(scores.parts, len(errors))
    residual: list[NDArray[np.float64]] = [p.candidate - p.rounding for p in errors.prompts]
    named: list[tuple[Measured, list[Measured]]] = []
    while len(named) < EXPLANATIONS and _shows(scores, sure, limit):
        found = measured(errors, oracle, scores, residual, known, progress)
        if not found:
            break
        best = found[0]
        named.append((best, found[1:]))
        residual = [
            left - best.size.value * along
            for left, along in zip(residual, best.direction, strict=True)
        ]
        with progress.stage("what is left", len(errors)) as step:
            scores = scores_of(errors, oracle, residual, first, step)
        scores = scores.with_directions(errors, known, residual)
        if best.size.explained >= ENOUGH * errors.excess():
            break  # what a large change leaves is its own curvature
    return _diagnosis(errors, oracle, first, (likely, sure, limit), named, scores)


def _settings(
    errors: Errors, oracle: Oracle, base: _Rows, progress: Progress
) -> dict[Cause, Sequence[NDArray[np.float64]]]:
    """The directions of settings, each by a pass of its own."""
    found: dict[Cause, Sequence[NDArray[np.float64]]] = {}
    settings = oracle.settings
    with progress.stage("settings of the oracle", len(settings) * len(errors)) as step:
        for cause in settings:
            found[cause] = direction_of(errors, oracle, base, cause, first_size(cause), step)
    return found


def _shows(scores: Scores, sure: float, limit: float) -> bool:
    """Whether any cause or part is surely there."""
    largest = float(np.abs(scores.t).max(initial=0.0))
    single = max((float(np.abs(t).max(initial=0.0)) for t in scores.part_t), default=0.0)
    return largest > sure or single > limit


def _diagnosis(
    errors: Errors,
    oracle: Oracle,
    scores: Scores,
    limits: tuple[float, float, float],
    named: Sequence[tuple[Measured, list[Measured]]],
    left: Scores,
) -> Diagnosis:
    excess, arms = errors.excess(), errors.arms()
    explained = [
        _explanation(errors, oracle, best, others, max(excess, best.size.explained))
        for best, others in named
    ]
    effect = math.sqrt(named[0][0].size.explained / arms) if named else 0.0
    finding: Finding = "NOTHING" if not named else "SYSTEMATIC" if effect > MARGIN else "SLIGHT"
    likely, sure, limit = limits
    return Diagnosis(
        finding=finding,
        message=_said(finding, explained, effect),
        prompts=len(errors),
        rows=errors.rows,
        hypotheses=len(scores.causes),
        parts=sum(t.size for t in scores.part_t),
        t=float(np.abs(scores.t).max(initial=0.0)),
        likely=likely,
        sure=sure,
        part_limit=limit,
        effect=effect,
        margin=MARGIN,
        explanations=tuple(explained),
        left=float(np.abs(left.t).max(initial=0.0)),
        layers=_layers(scores),
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
        message=message("explanation", cause=name_of(cause), size=size, share=100.0 * share),
    )


def _said(finding: Finding, explained: Sequence[Explanation], effect: float) -> Message:
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
    for cause, t in zip(scores.causes, scores.t, strict=True):
        layer = layer_of(cause)
        if layer is not None:
            largest[layer] = max(largest.get(layer, 0.0), abs(float(t)))
    return tuple(LayerScore(layer=k, t=v) for k, v in sorted(largest.items()))
