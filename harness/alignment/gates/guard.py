"""The point guard: no single position may move further than noise explains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import Evidence
from harness.alignment.outcomes import PointClass, Status
from harness.alignment.result import Gate
from harness.messages.message import message
from harness.statistics.margins import Margins
from harness.statistics.noise import HEADROOM


def classify(
    margins: Margins, tolerance: NDArray[np.float64], nonfinite: NDArray[np.bool_]
) -> list[PointClass]:
    """The point-guard class of every position.

    Args:
        margins: margins and shifts of n positions.
        tolerance: float64 (n,), logits.
        nonfinite: bool (n,), whether either row holds NaN or infinities.
    """
    # A greedy choice flips only where the shift outweighs the margin. One that
    # the logits do not explain (a penalty, sampling) hides behind no small shift.
    unexplained = (margins.flip & (margins.margin > tolerance)) | (margins.trailing > tolerance)
    beyond = (np.abs(margins.shift) > tolerance) | unexplained
    classes: list[PointClass] = []
    for bad, flip, far, margin in zip(nonfinite, margins.flip, beyond, margins.margin, strict=True):
        if bad:
            classes.append("NONFINITE")
        elif far:
            classes.append("DIVERGENT" if flip else "SILENT_DRIFT")
        elif flip:
            classes.append("TIE" if margin == 0.0 else "NEAR_TIE")
        else:
            classes.append("EXACT")
    return classes


def failing_positions(evidence: Evidence, kappa: float | None = None) -> dict[PointClass, int]:
    """The number of positions of each failing class that occurs; kappa is by
    default the largest of these prompts."""
    beyond = HEADROOM * (float(evidence.kappa.max(initial=0.0)) if kappa is None else kappa)
    far = [push > beyond for push in evidence.push]
    divergent = sum(int((f & flip).sum()) for f, flip in zip(far, evidence.flipped, strict=True))
    counts: dict[PointClass, int] = {
        "DIVERGENT": divergent,
        "NONFINITE": int(evidence.nonfinite.sum()),
        "SILENT_DRIFT": sum(int(f.sum()) for f in far) - divergent,
    }
    return {name: count for name, count in counts.items() if count}


def point_guard(evidence: Evidence, kappa: float | None = None) -> Gate:
    """FAIL on any position whose margin moved more than noise explains."""
    counts, positions = failing_positions(evidence, kappa), int(evidence.positions.sum())
    failing, flips = sum(counts.values()), int(evidence.flips.sum())
    judged = evidence.controls > 0
    status: Status = "FAIL" if failing else "PASS"
    if not judged:
        status, outcome = "NOT_RUN", message("gate.point_guard.missing")
    elif failing:
        classes = tuple(message("count.class", count=n, name=name) for name, n in counts.items())
        outcome = message(
            "gate.point_guard.fail", failing=failing, positions=positions, classes=classes
        )
    elif flips:
        outcome = message("gate.point_guard.pass.flips", positions=positions, flips=flips)
    else:
        outcome = message("gate.point_guard.pass", positions=positions)
    return Gate(
        name="point_guard",
        status=status,
        value=float(failing) if judged else None,
        limit=0.0,
        message=outcome,
    )
