"""Whether a control shows the reference's noise, or a fault of its own."""

from __future__ import annotations

import numpy as np

from harness.recording.format import Recording
from harness.statistics.intervals import FAIL_CONFIDENCE, Estimate, ratio_of_roots
from harness.statistics.noise import squared_error

#: The error of a control over the reference's, or the reverse, beyond which one
#: of the two is not the same computation: what a candidate may have, too.
CONTROL_LIMIT = 1.5


def control_ratio(control: Recording, reference: Recording, oracle: Recording) -> Estimate:
    """A control's error against the oracle over the reference's, whole
    vocabulary, over all prompts that are finite in all three.

    Args:
        control, oracle: on the reference's tokens; see ``baseline.check_arm``.
    """
    mine, theirs = [], []
    for prompt in reference.prompts:
        context = prompt.run.token_ids
        beside, truth = control.prompt(prompt.id), oracle.prompt(prompt.id)
        if beside is None or truth is None:
            continue
        arms = [beside.on(context).rows, prompt.run.rows, truth.on(context).rows]
        if any((rows.nonfinite > 0).any() for rows in arms):
            continue
        mine.append(float(squared_error(arms[0], arms[2]).sum()))
        theirs.append(float(squared_error(arms[1], arms[2]).sum()))
    return ratio_of_roots(np.array(mine), np.array(theirs))


def disagreement(control: Recording, reference: Recording, oracle: Recording) -> str | None:
    """What is wrong with a control, None where its error is the reference's.

    A broken control, or a broken reference, would look like a large noise, and
    a broken candidate would hide in it. In float32 nothing is refused:
    its only noise is the order of sums, which may differ by more.
    """
    if reference.dtype == "float32":
        return None
    ratio = control_ratio(control, reference, oracle)
    far = ratio.interval(FAIL_CONFIDENCE)
    if far.low is None or far.high is None:
        return None
    if far.high >= 1.0 / CONTROL_LIMIT and far.low <= CONTROL_LIMIT:
        return None
    return (
        f"its error is {far.value:.3g} times the reference's (99.9 % interval {far.low:.3g} to "
        f"{far.high:.3g}), so this is not noise: one of the two is faulty"
    )
