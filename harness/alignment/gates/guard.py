"""The point guard: no single position may move further than noise explains."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import Evidence
from harness.alignment.outcomes import PointClass, Status
from harness.alignment.result import Gate
from harness.baseline.scales import Scales
from harness.messages.message import message
from harness.statistics.margins import Margins


def classify(
    margins: Margins,
    tolerance: NDArray[np.float64],
    nonfinite: NDArray[np.bool_],
    unchosen: NDArray[np.bool_],
    left_out: NDArray[np.bool_] | None = None,
) -> list[PointClass]:
    """The point-guard class of every position.

    Args:
        margins: margins and shifts of n positions.
        tolerance: float64 (n,), logits.
        nonfinite: bool (n,), whether either row holds NaN or infinities.
        unchosen: bool (n,), whether the candidate took another token than the best
            of its own row.
        left_out: bool (n,), rows of other experts than the oracle's.
    """
    # A greedy choice flips only where the shift outweighs the margin.
    unexplained = margins.flip & (margins.margin > tolerance)
    beyond = (np.abs(margins.shift) > tolerance) | unexplained | unchosen
    classes: list[PointClass] = []
    rerouted = np.zeros_like(unchosen) if left_out is None else left_out & ~unchosen
    for bad, flip, far, margin, other in zip(
        nonfinite, margins.flip, beyond, margins.margin, rerouted, strict=True
    ):
        if bad:
            classes.append("NONFINITE")
        elif far and other:
            classes.append("REROUTED")
        elif far:
            classes.append("DIVERGENT" if flip else "SILENT_DRIFT")
        elif flip:
            classes.append("TIE" if margin == 0.0 else "NEAR_TIE")
        else:
            classes.append("EXACT")
    return classes


def failing_positions(evidence: Evidence, kappa: float) -> dict[PointClass, int]:
    """The number of positions of each failing class that occurs."""
    far = [push > kappa for push in evidence.push]
    divergent = sum(int((f & flip).sum()) for f, flip in zip(far, evidence.flipped, strict=True))
    counts: dict[PointClass, int] = {
        "DIVERGENT": divergent,
        "NONFINITE": int(evidence.nonfinite.sum()),
        "SILENT_DRIFT": sum(int(f.sum()) for f in far) - divergent,
    }
    return {name: count for name, count in counts.items() if count}


def point_guard(evidence: Evidence, scales: Scales) -> Gate:
    """FAIL on any position whose margin moved more than noise explains."""
    counts, positions = failing_positions(evidence, scales.kappa), int(evidence.judged.sum())
    failing, flips = sum(counts.values()), int(evidence.flips.sum())
    judged = evidence.controls > 0
    status: Status = "FAIL" if failing else "PASS"
    if not judged:
        status, outcome = "NOT_RUN", message("gate.point_guard.missing")
    elif failing:
        classes = tuple(message("count.class", count=n, name=name) for name, n in counts.items())
        outcome = message(
            "gate.point_guard.fail",
            failing=failing,
            positions=positions,
            classes=classes,
            kappa=scales.kappa,
        )
    elif flips:
        outcome = message(
            "gate.point_guard.pass.flips", positions=positions, flips=flips, kappa=scales.kappa
        )
    else:
        outcome = message("gate.point_guard.pass", positions=positions, kappa=scales.kappa)
    return Gate(
        name="point_guard",
        status=status,
        value=float(failing) if judged else None,
        limit=0.0,
        message=outcome,
    )


def greedy_gate(evidence: Evidence) -> Gate:
    """FAIL where the device took another token than the largest of its own row: a
    sampler or a penalty chose. Rounding of its dtype is all that a choice may
    have; how far two devices differ says nothing of it."""
    chosen, below = int(evidence.chosen.sum()), int(evidence.unchosen.sum())
    status: Status = "FAIL" if below else "PASS" if chosen else "NOT_RUN"
    if below:
        first = int(np.argmax(evidence.unchosen > 0))
        outcome = message(
            "gate.greedy.fail",
            below=below,
            chosen=chosen,
            position=int(evidence.first_unchosen[first]),
            prompt=evidence.ids[first],
        )
    elif chosen:
        outcome = message("gate.greedy.pass", chosen=chosen)
    else:
        outcome = message("gate.greedy.missing")
    return Gate(
        name="greedy",
        status=status,
        value=float(below) if chosen else None,
        limit=0.0,
        message=outcome,
    )
