"""The gates: each turns evidence into a status and a message.

Pure functions. A gate without data is NOT_RUN, never a pass.
"""

from __future__ import annotations

from harness.alignment.evidence import PATHS, Evidence
from harness.alignment.gates.bias import bias_gate, bucket_gate, slope_gate
from harness.alignment.gates.conduct import coverage_gate, determinism_gate, nonfinite_gate, not_run
from harness.alignment.gates.counts import exceedance_gate, flip_gate
from harness.alignment.gates.guard import classify, greedy_gate, point_guard
from harness.alignment.gates.local import prompt_guard, row_guard
from harness.alignment.gates.masks import masks_gate
from harness.alignment.gates.patterns import direction_gate, place_guard, tilt_gate
from harness.alignment.gates.ratio import path_ratio_gate, ratio_gate, top_k_ratio_gate
from harness.alignment.result import Gate
from harness.baseline.scales import Scales
from harness.messages.message import Message

#: Gates by name, in the order of a report; determinism has a test of its own.
GATES = (
    "error_ratio",
    *(f"error_ratio_{path}" for path in PATHS),
    "top_k_error_ratio",
    "prompt_guard",
    "row_guard",
    "place_guard",
    "point_guard",
    "exceedance",
    "flip_calibration",
    "greedy",
    "bias",
    "bucket",
    "direction",
    "slope",
    "row_slope",
    "nonfinite",
    "masks",
    "coverage",
)

__all__ = ["GATES", "classify", "determinism_gate", "gates_of", "not_run"]


def gates_of(
    evidence: Evidence,
    scales: Scales,
    *,
    why_no_ratio: Message | None = None,
    missing_prompts: int = 0,
    missing: int = 0,
) -> tuple[Gate, ...]:
    """Every gate of GATES, in that order.

    Args:
        scales: of the guards.
        why_no_ratio: the reason, where the errors cannot be told.
        missing_prompts, missing: prompts of the baseline that the evidence
            lacks, and their positions.
    """
    return (
        ratio_gate(evidence, why_no_ratio),
        *(path_ratio_gate(evidence, which, why_no_ratio) for which in range(len(PATHS))),
        top_k_ratio_gate(evidence, why_no_ratio),
        prompt_guard(evidence, scales, why_no_ratio),
        row_guard(evidence, scales, why_no_ratio),
        place_guard(evidence, scales, why_no_ratio),
        point_guard(evidence, scales),
        exceedance_gate(evidence),
        flip_gate(evidence),
        greedy_gate(evidence),
        bias_gate(evidence, why_no_ratio),
        bucket_gate(evidence, why_no_ratio),
        direction_gate(evidence, scales, why_no_ratio),
        slope_gate(evidence, why_no_ratio),
        tilt_gate(evidence, why_no_ratio),
        nonfinite_gate(evidence),
        masks_gate(evidence),
        coverage_gate(
            judged=int(evidence.positions.sum()),
            expected=int(evidence.expected.sum()) + missing,
            prompts_not_run=missing_prompts,
            diverged=int(((evidence.positions < evidence.expected) & ~evidence.ended).sum()),
            ended=int(evidence.ended.sum()),
        ),
    )
