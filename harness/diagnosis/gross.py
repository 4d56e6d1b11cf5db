"""Mistakes of porting that change everything: what is tried where the error is gross."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import LAYER_CHANGES, Cause
from harness.devices.oracle import Oracle, Question
from harness.diagnosis.directions import direction_of
from harness.diagnosis.errors import Errors
from harness.diagnosis.explain import is_gross, sized
from harness.process.progress import Progress
from harness.statistics.score import Null, t_values

#: They are tried on so many prompts, and go on where they explain such a share of the error;
#: on the worst of those first, where half the share is enough.
TRIED, EXPLAINS, FIRST = 6, 0.3, 2
#: Of each change of single layers so many are tried, by what the gradients say of them.
LAYERS_TRIED = 3


@dataclass(frozen=True)
class Tried:
    """What was looked for.

    Attributes:
        found: what explains some of the error.
        count: how many hypotheses there were.
    """

    found: tuple[Cause, ...] = ()
    count: int = 0


def exchanges(
    errors: Errors, oracle: Oracle, base: Sequence[NDArray[np.float64]], progress: Progress
) -> Tried:
    """Of a gross error the mistakes that change everything and explain some of it, on a few
    prompts."""
    if not is_gross(errors):
        return Tried()
    # Spread over the suite, whose prompts of a kind stand together.
    chosen = sorted({i * len(errors) // TRIED for i in range(TRIED)})
    few = errors.of_prompts(chosen)
    of_layers, layers = _layer_changes(few, oracle, progress)
    known = seen(errors, oracle, oracle.exchanges)
    found = [*known, *layers]
    worst = sorted(chosen, key=lambda i: -errors.of_prompts([i]).excess())[:FIRST]
    for prompts, share in ((worst, EXPLAINS / 2.0), (chosen, EXPLAINS)):
        some, own = errors.of_prompts(prompts), [base[i] for i in prompts]
        with progress.stage("mistakes of porting", max(len(found) * len(some), 1)) as step:
            found = [c for c in found if _explains(some, oracle, own, c, step) >= share]
    return Tried(tuple(found), len(known) + of_layers)


def _explains(
    errors: Errors,
    oracle: Oracle,
    base: Sequence[NDArray[np.float64]],
    cause: Cause,
    step: Callable[[], None],
) -> float:
    """The share of the error beyond rounding that a change explains; 0 of its opposite."""
    direction = direction_of(errors, oracle, base, cause, 1.0, step)
    item, excess = sized(errors, cause, math.nan, direction, errors.residual), errors.excess()
    there = item is not None and item.size.value > 0.0 and excess > 0.0
    return item.size.explained / excess if item is not None and there else 0.0


def seen(errors: Errors, oracle: Oracle, causes: Sequence[Cause]) -> tuple[Cause, ...]:
    """The causes that these prompts can show: a window that all of them fit into is none."""
    longest = max(len(prompt.token_ids) for prompt in errors.prompts)

    def shown(cause: Cause) -> bool:
        if cause.kind == "window":
            return cause.index < longest
        return cause.kind != "window_missing" or (oracle.now(cause) or 0.0) < longest

    return tuple(cause for cause in causes if shown(cause))


def _layer_changes(few: Errors, oracle: Oracle, progress: Progress) -> tuple[int, list[Cause]]:
    """How many changes of single layers there are, and the likeliest of each kind: those whose
    gradients speak most for them, against what rounding makes of theirs."""
    mine: list[Mapping[Cause, float]] = []
    apart: list[Mapping[Cause, float]] = []
    questions = []
    for index, (prompt, error) in enumerate(zip(few.prompts, few.residual, strict=True)):
        vectors = tuple(few.metric.weighed(index, each) for each in (error, *prompt.contrasts))
        questions.append(Question("layer_changes", prompt.token_ids, len(prompt), vectors))
    oracle.together(questions)
    with progress.stage("layers", len(few)) as step:
        for question in questions:
            own, *others = oracle.layer_changes(question.ids, question.vectors)
            mine.append(own)
            apart.extend(others)
            step()
    causes = sorted(mine[0])
    if not causes:  # a model whose layers are not known
        return 0, []
    scores, contrasts = (np.array([[f[c] for c in causes] for f in x]) for x in (mine, apart))
    null = Null.of(contrasts, len(few.prompts[0].arms), len(apart) // len(mine))
    t = t_values(scores, null.variance)
    found: list[Cause] = []
    for kind in LAYER_CHANGES:
        order = [i for i in np.argsort(-t) if causes[i].kind == kind and t[i] > 0.0]
        found += [causes[i] for i in order[:LAYERS_TRIED]]
    return len(causes), found
