"""Directions: how the oracle's rows move when one cause has a size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import WHOLE, Cause
from harness.devices.oracle import Oracle, Question
from harness.diagnosis.errors import Errors

#: The size at which a direction is measured first: small enough to be straight, large
#: enough to be far above the rounding of float32.
STEP = 0.02
#: Of these less is not seen: an epsilon is small beside what it is added to, a cap bends little,
#: a weight is one of many.
STEPS = {
    "norm_epsilon": 1.0, "weight": 0.5,
    "attention_cap": 0.5, "final_cap": 0.5, "attention_cap_added": 1.0, "final_cap_added": 1.0,
}  # fmt: skip


def first_size(cause: Cause) -> float:
    """The size at which a cause's direction is measured first; of what is done or not, all
    of it."""
    return 1.0 if cause.kind in WHOLE else STEPS.get(cause.kind, STEP)


def direction_of(
    errors: Errors,
    oracle: Oracle,
    base: Sequence[NDArray[np.float64]],
    cause: Cause,
    size: float,
    step: Callable[[], None] = lambda: None,
) -> list[NDArray[np.float64]]:
    """Per prompt float64 (n, 64): what a cause of this size adds to the oracle's rows, over
    the size.

    Args:
        base: the oracle's rows as they are.
    """
    found = []
    with oracle.changed(cause, size):
        oracle.together([Question("sketches", p.token_ids, len(p)) for p in errors.prompts])
        for prompt, rows in zip(errors.prompts, base, strict=True):
            moved = oracle.sketches(prompt.token_ids, len(prompt))
            found.append((moved - rows) / size)
            step()
    return found
