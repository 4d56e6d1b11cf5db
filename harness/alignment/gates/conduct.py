"""Gates of how the run went: finite rows, coverage, repeats."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.alignment.evidence import Evidence
from harness.alignment.gates.decide import counted
from harness.alignment.outcomes import Status
from harness.alignment.result import Gate

#: Variables that make a kind of device repeat its bits, by the end of its name.
_REPEATABLE = {
    "npu": "HCCL_DETERMINISTIC=true LCCL_DETERMINISTIC=1 ATB_MATMUL_SHUFFLE_K_ENABLE=0 "
    "ATB_LLM_LCOC_ENABLE=0 CLOSE_MATMUL_K_SHIFT=1",
    "gpu": "CUBLAS_WORKSPACE_CONFIG=:4096:8",
}


def not_run(name: str, why: str) -> Gate:
    """A gate without data, and why it has none."""
    return Gate(name=name, status="NOT_RUN", value=None, threshold=None, sentence=why)


def nonfinite_gate(evidence: Evidence) -> Gate:
    """FAIL on any row of the candidate with NaN or infinite logits, whether it
    was judged or lies beyond another token; INCONCLUSIVE where the reference's
    alone has them, since nothing then judges the candidate."""
    rows = int(evidence.positions.sum())
    candidate = int(evidence.nonfinite.sum())
    beyond = int(evidence.unjudged_nonfinite.sum())
    reference = int(evidence.reference_nonfinite.sum())
    if candidate:
        first = int(np.argmax(evidence.first_nonfinite >= 0))
        hold = "row holds" if rows == 1 else "rows hold"
        where = f"position {evidence.first_nonfinite[first]} of prompt {evidence.ids[first]}"
        sentence = (
            f"{candidate} of {rows} {hold} NaN or infinite logits, "
            f"{'at' if candidate == 1 else 'first at'} {where}."
        )
    elif beyond:
        prompt = evidence.ids[int(np.argmax(evidence.unjudged_nonfinite > 0))]
        sentence = (
            f"All logits of {rows} judged rows are finite, and {counted(beyond, 'other row')} of "
            f"the candidate's {'holds' if beyond == 1 else 'hold'} NaN or infinite logits, "
            f"{'in' if beyond == 1 else 'first in'} prompt {prompt}."
        )
    elif reference:
        sentence = (
            f"The candidate is finite, {reference} of {rows} rows of the reference are not: "
            "the baseline cannot judge it."
        )
    else:
        sentence = f"All logits of {rows} rows are finite."
    return Gate(
        name="nonfinite",
        status="FAIL" if candidate or beyond else "INCONCLUSIVE" if reference else "PASS",
        value=float(candidate + beyond),
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
    shifts: Sequence[float | None],
    tolerances: Sequence[float | None],
    device: str = "",
) -> Gate:
    """Repeats: bit-equal PASS, within the tolerance WARN, beyond it FAIL.

    Args:
        rows, equal: rows that were computed twice, and those of them that
            gave the same bits.
        shifts: of the others, in logits; None where no noise explains one.
        tolerances: of the others, in logits; None where no tolerance is
            known, which can only warn.
        device: whose variables for repeatable kernels the warning names.
    """
    status: Status
    if not rows:
        status, sentence = "NOT_RUN", "No prompt was run twice."
    elif equal == rows:
        status, sentence = "PASS", f"A repeated run gave the same bits in all {rows} rows."
    else:
        unexplained = sum(d is None for d in shifts)
        beyond = [
            abs(d)
            for d, tau in zip(shifts, tolerances, strict=True)
            if d is not None and tau is not None and abs(d) > tau
        ]
        rate = f"{rows - equal} of {rows} rows differ between two runs"
        if unexplained:
            status = "FAIL"
            sentence = f"{rate}, {unexplained} of them by NaN, infinities or an early end."
        elif beyond:
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
