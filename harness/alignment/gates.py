"""The gates: each turns figures into a status and one sentence.

Pure functions. A gate without data is NOT_RUN, never a pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.alignment.margins import Margins
from harness.alignment.result import FAILING, Gate, Interval, PointClass, Status

#: Gates by name, in the order of a report; determinism has a test of its own.
GATES = ("error_ratio", "top_k_error_ratio", "point_guard", "nonfinite", "coverage")
#: The largest error of a correct port, relative to the reference's own.
ERROR_RATIO_LIMIT = 1.5
#: Variables that make a kind of device repeat its bits, by the end of its name.
_REPEATABLE = {
    "npu": "HCCL_DETERMINISTIC=true LCCL_DETERMINISTIC=1 ATB_MATMUL_SHUFFLE_K_ENABLE=0 "
    "ATB_LLM_LCOC_ENABLE=0 CLOSE_MATMUL_K_SHIFT=1",
    "gpu": "CUBLAS_WORKSPACE_CONFIG=:4096:8",
}


def error_ratio_gate(name: str, what: str, interval: Interval, missing: str) -> Gate:
    """PASS when the whole interval is at or below the limit, FAIL when it is
    above, INCONCLUSIVE between.

    Args:
        what: where the error is measured, for the sentence.
        missing: why there is no value, where there is none.
    """
    limit = ERROR_RATIO_LIMIT
    value, low, high = interval.value, interval.low, interval.high
    status: Status
    if value is None:
        status, outcome = "NOT_RUN", missing
    elif value == 0.0:
        status, outcome = "PASS", "the candidate equals the oracle"
    elif low is None or high is None:
        status = "INCONCLUSIVE"
        outcome = f"{value:.3f} times the reference's, too few prompts for an interval"
    else:
        span = f"{value:.3f} times the reference's (95 % interval {low:.3f} to {high:.3f})"
        if high <= limit:
            status, outcome = "PASS", f"{span}, at most {limit}"
        elif low > limit:
            status, outcome = "FAIL", f"{span}, more than {limit}"
        else:
            status = "INCONCLUSIVE"
            outcome = f"{span}, on both sides of {limit}: more prompts would decide"
    return Gate(
        name=name,
        status=status,
        value=value,
        low=low,
        high=high,
        threshold=limit,
        sentence=f"Error {what}: {outcome}.",
    )


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


def point_guard(classes: Sequence[PointClass | None], judged: bool) -> Gate:
    """FAIL on any position whose margin moved more than noise explains."""
    counts = Counter(c for c in classes if c is not None)
    failing = sum(counts[c] for c in FAILING)
    flips = counts["TIE"] + counts["NEAR-TIE"] + counts["DIVERGENT"]
    status: Status
    if not judged:
        status = "NOT_RUN"
        sentence = "No noise floor to judge single positions by: no oracle and controls."
    elif failing:
        status = "FAIL"
        parts = ", ".join(f"{counts[c]} {c}" for c in sorted(FAILING) if counts[c])
        sentence = f"{failing} of {len(classes)} positions fail: {parts}."
    else:
        status = "PASS"
        ties = f"; {flips} flipped tokens, all within it" if flips else ""
        sentence = (
            f"The margin moved no further than the noise explains at all "
            f"{len(classes)} positions{ties}."
        )
    return Gate(
        name="point_guard",
        status=status,
        value=float(failing) if judged else None,
        threshold=0.0,
        sentence=sentence,
    )


def nonfinite_gate(rows: int, candidate: int, reference: int) -> Gate:
    """FAIL on any row of the candidate with NaN or infinite logits."""
    if candidate:
        hold = "row holds" if rows == 1 else "rows hold"
        sentence = f"{candidate} of {rows} {hold} NaN or infinite logits."
    elif reference:
        sentence = (
            f"The candidate is finite, {reference} of {rows} rows of the reference are not: "
            "the baseline cannot judge it."
        )
    else:
        sentence = f"All logits of {rows} rows are finite."
    return Gate(
        name="nonfinite",
        status="FAIL" if candidate or reference else "PASS",
        value=float(candidate),
        threshold=0.0,
        sentence=sentence,
    )


def coverage_gate(
    judged: int, expected: int, prompts_not_run: int, diverged: int, ended: int = 0
) -> Gate:
    """INCONCLUSIVE while positions of the baseline were not judged.

    Args:
        judged, expected: positions.
        prompts_not_run: prompts of the baseline that the candidate left out.
        diverged: prompts that were run, but judged to their divergence only.
        ended: prompts whose free run ended elsewhere without another token,
            which no logit explains.
    """
    if judged == expected and not ended:
        status: Status = "PASS"
        sentence = f"All {expected} positions of the baseline were judged."
    else:
        status = "INCONCLUSIVE"
        reasons = []
        if prompts_not_run:
            reasons.append(f"{_counted(prompts_not_run, 'prompt')} not run")
        if diverged:
            reasons.append(
                f"{_counted(diverged, 'prompt')} judged up to the first other token only "
                "(record with --context to replay the rest)"
            )
        if ended:
            reasons.append(
                f"{_counted(ended, 'prompt')} stopped elsewhere without another token "
                "(compare the eos ids of both)"
            )
        sentence = (
            f"{judged} of {expected} positions of the baseline were judged: {', '.join(reasons)}."
        )
    return Gate(
        name="coverage",
        status=status,
        value=judged / expected,
        threshold=1.0,
        sentence=sentence,
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what} was" if count == 1 else f"{count} {what}s were"


def determinism_gate(
    rows: int,
    equal: int,
    shifts: Sequence[float],
    tolerances: Sequence[float | None],
    device: str = "",
) -> Gate:
    """Repeats: bit-equal PASS, within the tolerance WARN, beyond it FAIL.

    Args:
        rows, equal: rows that were computed twice, and those of them that
            gave the same bits.
        shifts, tolerances: of the others, in logits; None where no tolerance
            is known, which can only warn.
        device: whose variables for repeatable kernels the warning names.
    """
    status: Status
    if not rows:
        status, sentence = "NOT_RUN", "No prompt was run twice."
    elif equal == rows:
        status, sentence = "PASS", f"A repeated run gave the same bits in all {rows} rows."
    else:
        beyond = [
            abs(d)
            for d, tau in zip(shifts, tolerances, strict=True)
            if tau is not None and abs(d) > tau
        ]
        rate = f"{rows - equal} of {rows} rows differ between two runs"
        if beyond:
            status = "FAIL"
            sentence = f"{rate}, by up to {max(beyond):.4g} logits, more than the noise explains."
        else:
            status = "WARN"
            within = "with no tolerance known to judge them by" if None in tolerances else ""
            sentence = (
                f"{rate}, {within or 'all within the tolerance'}: "
                f"the device does not repeat bit for bit{_remedy(device)}."
            )
    return Gate(
        name="determinism",
        status=status,
        value=(rows - equal) / rows if rows else None,
        threshold=0.0,
        sentence=sentence,
    )


def _remedy(device: str) -> str:
    variables = _REPEATABLE.get(device.rpartition("-")[2])
    return f", which {variables} may mend" if variables else ""
