"""The point guard: no single position may move further than noise moves it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import Evidence
from harness.alignment.outcomes import PointClass, Status
from harness.alignment.result import Gate
from harness.statistics.margins import Margins
from harness.statistics.noise import HEADROOM


def classify(
    found: Margins, tolerance: NDArray[np.float64], nonfinite: NDArray[np.bool_]
) -> list[PointClass]:
    """The point-guard class of every position.

    Args:
        found: margins and shifts of n positions.
        tolerance: float64 (n,), logits.
        nonfinite: bool (n,), whether either row holds NaN or infinities.
    """
    # A greedy choice flips only where the shift outweighs the margin. One that
    # the logits do not explain (a penalty, sampling) hides behind no small shift.
    unexplained = (found.flip & (found.margin > tolerance)) | (found.trailing > tolerance)
    beyond = (np.abs(found.shift) > tolerance) | unexplained
    classes: list[PointClass] = []
    for bad, flip, far, margin in zip(nonfinite, found.flip, beyond, found.margin, strict=True):
        if bad:
            classes.append("NONFINITE")
        elif far:
            classes.append("DIVERGENT" if flip else "SILENT-DRIFT")
        elif flip:
            classes.append("TIE" if margin == 0.0 else "NEAR-TIE")
        else:
            classes.append("EXACT")
    return classes


def failing_positions(evidence: Evidence, kappa: float | None = None) -> dict[PointClass, int]:
    """How many positions of each failing class there are, those that are
    there; against the largest kappa of these prompts, unless one is given."""
    beyond = HEADROOM * (float(evidence.kappa.max(initial=0.0)) if kappa is None else kappa)
    far = [push > beyond for push in evidence.push]
    divergent = sum(int((f & flip).sum()) for f, flip in zip(far, evidence.flipped, strict=True))
    counts: dict[PointClass, int] = {
        "DIVERGENT": divergent,
        "NONFINITE": int(evidence.nonfinite.sum()),
        "SILENT-DRIFT": sum(int(f.sum()) for f in far) - divergent,
    }
    return {name: count for name, count in counts.items() if count}


def point_guard(evidence: Evidence, kappa: float | None = None) -> Gate:
    """FAIL on any position whose margin moved more than noise explains."""
    counts, positions = failing_positions(evidence, kappa), int(evidence.positions.sum())
    failing, flips = sum(counts.values()), int(evidence.flips.sum())
    judged = evidence.controls > 0
    status: Status
    if not judged:
        status = "NOT_RUN"
        sentence = "No noise floor to judge single positions by: no oracle and controls."
    elif failing:
        status = "FAIL"
        parts = ", ".join(f"{count} {name}" for name, count in counts.items())
        sentence = f"{failing} of {positions} positions fail: {parts}."
    else:
        status = "PASS"
        ties = f"; {flips} flipped tokens, all within it" if flips else ""
        sentence = (
            f"The margin moved no further than the noise explains at all {positions} "
            f"positions{ties}."
        )
    return Gate(
        name="point_guard",
        status=status,
        value=float(failing) if judged else None,
        threshold=0.0,
        sentence=sentence,
    )
