"""Every gate in every status that it can have, by evidence made for it."""

from __future__ import annotations

import numpy as np
from factories import by_part, diagnosed, evidence, scales

from harness.alignment.gates import determinism_gate
from harness.alignment.gates.bias import bias_gate, bucket_gate, slope_gate
from harness.alignment.gates.conduct import coverage_gate, nonfinite_gate
from harness.alignment.gates.counts import exceedance_gate, flip_gate
from harness.alignment.gates.guard import greedy_gate, point_guard
from harness.alignment.gates.local import prompt_guard, row_guard
from harness.alignment.gates.masks import masks_gate
from harness.alignment.gates.patterns import direction_gate, place_guard, tilt_gate
from harness.alignment.gates.ratio import (
    error_ratio_gate,
    path_ratio_gate,
    ratio_gate,
    top_k_ratio_gate,
)
from harness.alignment.gates.stops import stops_gate
from harness.alignment.gates.systematic import systematic_gate
from harness.alignment.result import Gate
from harness.alignment.tokens import token_guard
from harness.baseline.controls import RatioLimit
from harness.messages.message import message
from harness.recording.endings import FAULTS, Ending, Fault
from harness.statistics.intervals import Estimate

WHY = message("reason.no_oracle")
SPREAD = np.linspace(0.5, 1.5, 20)
#: Mean errors of prompts that share no direction.
LOOSE = np.zeros((8, 64))
LOOSE[:, 0] = 6.0, -2.0, 3.0, -4.0, 1.0, -3.0, 2.5, -3.5
#: Prompts that do not agree; 1 in the middle.
UNLIKE = np.linspace(-4, 6, 20)[:, None]


PLAIN = RatioLimit()
#: As of a baseline one of whose controls is rougher than the reference.
WIDENED = RatioLimit(value=1.9, arm="control-isa", largest=1.8, shown=1.9)


def ratio(
    value: float | None,
    error: float | None = None,
    prompts: int = 20,
    limit: RatioLimit = PLAIN,
) -> Gate:
    found = Estimate(value, error, max(prompts - 1, 1), log=True, prompts=prompts)
    return error_ratio_gate("error_ratio", "where.vocabulary", found, 10 * prompts, WHY, limit)


def one(prompts: int, index: int, value: float) -> np.ndarray:
    """0 for every prompt but one."""
    found = np.zeros(prompts)
    found[index] = value
    return found


def ending(fault: Fault, proven: bool = True) -> Ending:
    return Ending("p3", fault, tokens=2, limit=16, stop="abort", proven=proven)


def paths(scale: float, prompts: int = 20, spread: bool = False) -> np.ndarray:
    """Squared errors by path, of a candidate this much noisier."""
    own = np.linspace(0.5, 1.5, prompts) if spread else np.ones(prompts)
    return np.stack([own, 9 * own], axis=1) * scale**2


def on_one_row(prompts: int, value: float) -> tuple[np.ndarray, ...]:
    """Every row stands at 1, but the fourth of the second prompt."""
    return tuple(np.where((np.arange(10) == 3) & (k == 1), value, 1.0) for k in range(prompts))


def drifting(size: float, prompts: int = 20) -> np.ndarray:
    """One bucket that is off at every position, in every prompt the same."""
    return np.tile(10 * size * np.eye(64)[5], (prompts, 1))


def turned(size: float) -> np.ndarray:
    """Ten rows along one direction, up and down in turn; an eighth of it is usual."""
    return np.outer(np.where(np.arange(10) % 2, 1.0, -1.0), np.eye(64)[5]) * size / 8


#: Positions of rows of outputs of 10, 11, 12 ... tokens, the last ten of each.
ENDS = tuple(np.arange(10) + k for k in range(20))

#: Every status that a gate can have.
STATUSES: dict[str, set[str]] = {
    "systematic": {"PASS", "WARN", "FAIL"},
    **{name: {"PASS", "WARN", "FAIL", "INCONCLUSIVE", "NOT_RUN"}
       for name in ("error_ratio", "error_ratio_prefill", "error_ratio_decode",
                    "top_k_error_ratio")},
    "prompt_guard": {"PASS", "FAIL", "NOT_RUN"},
    "row_guard": {"PASS", "FAIL", "NOT_RUN"},
    "place_guard": {"PASS", "FAIL", "NOT_RUN"},
    "point_guard": {"PASS", "FAIL", "INCONCLUSIVE", "NOT_RUN"},
    "exceedance": {"PASS", "WARN", "FAIL", "NOT_RUN"},
    "flip_calibration": {"PASS", "WARN", "FAIL", "NOT_RUN"},
    "greedy": {"PASS", "FAIL", "NOT_RUN"},
    "bias": {"PASS", "WARN", "FAIL", "INCONCLUSIVE", "NOT_RUN"},
    "bucket": {"PASS", "WARN", "FAIL", "NOT_RUN"},
    "direction": {"PASS", "FAIL", "NOT_RUN"},
    "slope": {"PASS", "WARN", "FAIL", "INCONCLUSIVE", "NOT_RUN"},
    "row_slope": {"PASS", "WARN", "FAIL", "NOT_RUN"},
    "nonfinite": {"PASS", "FAIL", "INCONCLUSIVE"},
    "masks": {"PASS", "FAIL", "INCONCLUSIVE", "NOT_RUN"},
    "coverage": {"PASS", "INCONCLUSIVE"},
    "determinism": {"PASS", "WARN", "FAIL", "NOT_RUN"},
    "stops": {"PASS", "FAIL", "INCONCLUSIVE"},
}  # fmt: skip

EVERY_GATE: list[tuple[Gate, str, str]] = [
    (ratio(1.0, 0.05), "PASS", "1.000 (95 % interval 0.901 to 1.110) times the reference's, at"),
    (ratio(0.0), "PASS", "equals the oracle"),
    (ratio(3.0, 0.1), "FAIL", "more than 1.5"),
    # 95 % lie above the limit and 99.9 % do not: a failure needs more.
    (ratio(2.0, 0.1), "INCONCLUSIVE", "not yet decided against 1.5: about 12 more prompts"),
    (ratio(1.4, 0.05), "INCONCLUSIVE", "more prompts like these ("),
    (ratio(1.5, 0.05), "INCONCLUSIVE", "at its limit, so more prompts would not decide"),
    (ratio(29.0, None, 1), "INCONCLUSIVE", "29.000 times the reference's, too few prompts"),
    (ratio(None), "NOT_RUN", "whole vocabulary: the baseline has no oracle to measure it against."),
    (ratio_gate(evidence(), None), "PASS", "1.000 (95 % interval 1.000 to 1.000)"),
    (ratio_gate(evidence(error=paths(3.0)), None), "FAIL", "3.000"),
    (top_k_ratio_gate(evidence(top_error=9 * np.ones(20)), None), "FAIL", "among the likeliest"),
    (path_ratio_gate(evidence(), 0, None), "PASS", "Error of the prefill path: 1.000"),
    (path_ratio_gate(evidence(error=paths(3.0)), 1, None), "FAIL", "of the decode path: 3.000"),
    (path_ratio_gate(evidence(15), 0, None), "NOT_RUN", "15 prompts and 15 rows, and 16 of each"),
    (
        path_ratio_gate(evidence(rows=np.tile([10, 0], (20, 1)), error=paths(1) * [1, 0],
                                 reference_error=paths(1) * [1, 0]), 1, None),
        "NOT_RUN",
        "no row came by decode",
    ),
    (ratio(1.3, 0.02), "WARN", "at most 1.5, but more than the 1.15 that controls and correct"),
    (ratio(1.12, 0.02), "PASS", "at most 1.5."),
    (ratio(1.3, 0.02, limit=WIDENED), "PASS", "at most 1.9, since the reference's own control-isa"),
    (ratio(2.5, 0.02, limit=WIDENED), "FAIL", "more than 1.9, and the reference's own control-isa"),
    (ratio(1.7, 0.1, limit=WIDENED), "INCONCLUSIVE", "not yet decided against 1.9: about"),
    (ratio_gate(evidence(error=paths(1.3)), None), "WARN", "more than the 1.15"),
    (top_k_ratio_gate(evidence(top_error=1.69 * np.ones(20)), None), "WARN", "more than the 1.15"),
    *((path_ratio_gate(evidence(error=paths(1.3)), i, None), "WARN", "more than the 1.15")
      for i in (0, 1)),
    (prompt_guard(evidence(), scales(), None), "PASS",
     "p0, has 1 times the error of the baseline's arms, theirs at most 1.1 times; the limit is"),
    (prompt_guard(evidence(standing=(*[np.ones(10)] * 4, np.full(10, 5.0))), scales(), None),
     "FAIL", "p4, has 5 times the error of the baseline's arms, theirs at most 1.1 times: 1 p"),
    (prompt_guard(evidence(standing=(np.full(10, 2.0),) * 20), scales(), None), "FAIL",
     "20 prompts are beyond"),
    (prompt_guard(evidence(controls=0), scales(), None), "NOT_RUN", "the baseline has no controls"),
    (prompt_guard(evidence(standing=(np.zeros(0),) * 20), scales(), WHY), "NOT_RUN", "no oracle"),
    (row_guard(evidence(), scales(), None), "PASS",
     "1 times the error of the baseline's arms there (position 0 of prompt p0), theirs at most"),
    (row_guard(evidence(standing=on_one_row(20, 24.0)), scales(), None), "FAIL",
     "24 times the error of the baseline's arms there (position 3 of prompt p1), theirs at most "
     "1.5 times: beyond the limit of 3."),
    (row_guard(evidence(standing=(np.where(np.arange(10) < 2, 2.0, 1.0),) * 20), scales(), None),
     "FAIL", "40 of 200 rows have more than 1.8 times the error of the baseline's arms at their "
     "position, where at most 2 may."),
    (row_guard(evidence(controls=0), scales(), None), "NOT_RUN", "the baseline has no controls"),
    (row_guard(evidence(2, standing=(np.zeros(0),) * 2), scales(), WHY), "NOT_RUN", "no oracle"),
    (place_guard(evidence(), scales(), None), "PASS",
     "most, position 0 of each output, has 1 times the error of the baseline's arms, theirs at"),
    (place_guard(evidence(standing=(np.where(np.arange(10) == 9, 3.0, 1.0),) * 20), scales(), None),
     "FAIL", "position 9 of each output, has 3 times the error of the baseline's arms, theirs at "
     "most 1.05 times: beyond the limit of 1.8."),
    (place_guard(evidence(expected=np.arange(20) + 10, at=ENDS,
                          standing=(np.where(np.arange(10) == 9, 3.0, 1.0),) * 20), scales(), None),
     "FAIL", "most, position 1 from the end of each output, has 3 times"),
    (place_guard(evidence(3), scales(), None), "NOT_RUN", "at least 4 outputs must reach"),
    (place_guard(evidence(controls=0), scales(), None), "NOT_RUN", "the baseline has no controls"),
    (place_guard(evidence(standing=(np.zeros(0),) * 20, at=(np.zeros(0, int),) * 20), scales(),
                 WHY), "NOT_RUN", "no oracle"),
    (direction_gate(evidence(), scales(), None), "PASS",
     "the error is 0.577 times that of the baseline's arms, each of theirs at most 1.25"),
    (direction_gate(evidence(bounded=(turned(2.0),) * 20), scales(), None), "FAIL",
     "the error is 2 times that of the baseline's arms, each of theirs at most 1.25 times that of "
     "the others: beyond the limit of 1.75"),
    (direction_gate(evidence(bounded=(turned(9.0), *[turned(1.0)] * 19)), scales(), None), "PASS",
     "the error is 1 times"),
    (direction_gate(evidence(controls=0), scales(), None), "NOT_RUN", "baseline has no controls"),
    (direction_gate(evidence(), scales(white=None), WHY), "NOT_RUN", "no oracle"),
    (direction_gate(evidence(bounded=(np.zeros((0, 64)),) * 20), scales(), WHY), "NOT_RUN",
     "no oracle"),
    (point_guard(evidence(), scales()), "PASS",
     "no further than 8 times the local noise at all 200 positions; 20 tokens flip within that."),
    (point_guard(evidence(3, flips=np.zeros(3)), scales()), "PASS", "noise at all 30 positions."),
    (point_guard(evidence(controls=0), scales()), "NOT_RUN", "no oracle and controls"),
    (
        point_guard(evidence(2, push=(np.full(10, 8.01), np.full(10, 8.0))), scales()),
        "FAIL",
        "10 of 20 positions fail, beyond 8 times the local noise: 1 DIVERGENT, 9 SILENT_DRIFT.",
    ),
    (point_guard(evidence(3, nonfinite=one(3, 1, 4)), scales()), "FAIL",
     "4 of 30 positions fail, beyond 8 times the local noise: 4"),
    (exceedance_gate(evidence()), "PASS", "at 40 positions (20.0 %), the controls' at 40"),
    (exceedance_gate(evidence(large=np.tile([5.0, 1.0], (20, 1)))), "WARN", "more large shifts"),
    (exceedance_gate(evidence(large=np.tile([9.0, 7.0], (20, 1)))), "FAIL", "inflated by 1.5"),
    (exceedance_gate(evidence(2, large=np.tile([5.0, 3.0], (2, 1)))), "WARN", "too few to tell"),
    (exceedance_gate(evidence(controls=0)), "NOT_RUN", "the baseline has no controls"),
    (flip_gate(evidence()), "PASS", "20 tokens flip, where margins and noise predict 20 and"),
    (flip_gate(evidence(flips=2.5 * np.ones(20))), "WARN", "more flips than"),
    (flip_gate(evidence(flips=6 * np.ones(20))), "FAIL", "more flips than their noise explains"),
    (exceedance_gate(evidence(0)), "NOT_RUN", "nothing to compare with"),
    (flip_gate(evidence(200, flips=1.4 * np.ones(200))), "WARN", "not more than 1.5 times"),
    (flip_gate(evidence(controls=0)), "NOT_RUN", "the baseline has no controls"),
    (flip_gate(evidence(predicted=np.zeros((20, 2)))), "NOT_RUN", "nothing to compare with"),
    (greedy_gate(evidence()), "PASS", "Each of 200 tokens that the device chose is the largest"),
    (greedy_gate(evidence(3, unchosen=np.array([0, 2, 1]), first_unchosen=np.array([-1, 4, 0]))),
     "FAIL", "3 of 30 tokens that the device chose are not the largest of their rows, first at "
     "position 4 of prompt p1: a sampler or a penalty chose."),
    (greedy_gate(evidence(2, unchosen=np.array([0, 1]), first_unchosen=np.array([-1, 6]))),
     "FAIL", "1 of 20 tokens that the device chose is not the largest of its row, at position 6"),
    (greedy_gate(evidence(2, chosen=np.zeros(2, int))), "NOT_RUN", "chose no token by itself"),
    (bias_gate(evidence(), None), "PASS", "the reference is 0.0000 (95 % interval 0.0000 to 0.00"),
    (bias_gate(evidence(mean_error=np.ones((20, 64))), None), "FAIL", "more than 0.05"),
    (bias_gate(evidence(mean_error=np.outer(SPREAD, one(64, 0, 2.5))), None), "INCONCLUSIVE",
     "0.0622"),
    # As noise alone, whose interval is wide with four prompts.
    (bias_gate(evidence(4, mean_error=LOOSE[:4]), None), "WARN", "not yet decided against 0.05"),
    (bias_gate(evidence(8, mean_error=3 * LOOSE), None), "INCONCLUSIVE", "decide"),
    (bias_gate(evidence(2), None), "NOT_RUN", "at least 3 prompts"),
    (bias_gate(evidence(rows=np.zeros((20, 2), int)), WHY), "NOT_RUN", "ic error: the baseline"),
    (bucket_gate(evidence(), None), "PASS",
     "of the worst 1.6 % of the ids is 0 logits, the controls' 0.1, at most 0.2."),
    (bucket_gate(evidence(mean_error=drifting(0.5)), None), "FAIL", "is 0.5 logits, the controls'"),
    (bucket_gate(evidence(mean_error=drifting(0.4) * UNLIKE), None), "WARN",
     "is 0.4 logits, the controls' 0.1, more than 0.2, but the prompts do not agree on it."),
    (bucket_gate(evidence(controls=0), None), "NOT_RUN", "the baseline has no controls"),
    (bucket_gate(evidence(rows=np.zeros((20, 2), int)), WHY), "NOT_RUN", "no oracle"),
    (slope_gate(evidence(), None), "PASS", "that of the reference by +0.00000 (95 % interval"),
    (slope_gate(evidence(along=by_part(10 * np.ones(20))), None), "FAIL", "by +0.01000"),
    (slope_gate(evidence(along=by_part(-10 * np.ones(20))), None), "FAIL", "by -0.01000"),
    *((slope_gate(evidence(along=np.outer(np.ones(20), parts)), None), "FAIL", where)
      for parts, where in (
          ([0, 5, -5, 0, 0], "by +0.01000 (95 % interval +0.01000 to +0.01000) in the first half"),
          ([0, 0, -5, 0, 0], "by -0.01000 (95 % interval -0.01000 to -0.01000) in the second half"),
          ([0, 0, 0, 9, -9], "of the prefill path"),
          ([0, 0, 0, 0, -9], "of the decode path"),
      )),
    (slope_gate(evidence(along=by_part(2.8 * SPREAD)), None), "INCONCLUSIVE", "would decide"),
    (slope_gate(evidence(along=by_part(-3.2 * SPREAD)), None), "INCONCLUSIVE", "would decide"),
    (slope_gate(evidence(4, along=by_part(np.array([9.0, -9.0, 9.0, -9.0]))), None), "WARN",
     "not yet decided against 0.003"),
    (slope_gate(evidence(1, along=by_part(np.ones(1))), None), "INCONCLUSIVE", "too few prompts"),
    (slope_gate(evidence(power=np.zeros((20, 5))), WHY), "NOT_RUN", "logits: the baseline has no"),
    (tilt_gate(evidence(along=by_part(np.where(np.arange(20) == 7, 30.0, 0.0)),
                        tilt=np.where(np.arange(20) == 7, 1e-2, 1e-4),
                        arm_tilt=np.full((20, 3), 1e-4)), None), "FAIL",
     "prompt p7 are scaled by +0.030, which is 30 times what single rows explain, the "
     "arms' at most 0 times: beyond the limit of 15."),
    (tilt_gate(evidence(), None), "PASS", "scatters 1.000 (95 % interval 1.000 to 1.000) times as"),
    (tilt_gate(evidence(tilt=9 * np.ones(20)), None), "FAIL", "scaled, up in some rows and down"),
    (tilt_gate(evidence(tilt=1 + one(20, 3, 1e9) + one(20, 4, 1e9)), None), "WARN",
     "not more than chance allows"),
    (tilt_gate(evidence(tilt=1 + one(20, 3, 10)), None), "PASS", "not shown to exceed 1.5."),
    (tilt_gate(evidence(controls=0), None), "NOT_RUN", "the baseline has no controls"),
    (tilt_gate(evidence(arm_tilt=np.zeros((20, 3))), None), "NOT_RUN", "Scale of single rows: the"),
    (nonfinite_gate(evidence(2)), "PASS", "All logits of 20 rows are finite."),
    (
        nonfinite_gate(evidence(3, nonfinite=one(3, 1, 2), first_nonfinite=np.array([-1, 7, -1]))),
        "FAIL",
        "2 of 30 rows hold NaN or infinite logits, first at position 7 of prompt p1.",
    ),
    (
        nonfinite_gate(evidence(3, reference_nonfinite=one(3, 0, 1))),
        "INCONCLUSIVE",
        "1 of 30 rows of the",
    ),
    (
        nonfinite_gate(evidence(3, unjudged_nonfinite=one(3, 2, 2))),
        "FAIL",
        "30 judged rows are finite, and 2 other rows of the candidate's hold NaN or infinite "
        "logits, first in prompt p2.",
    ),
    (masks_gate(evidence(2)), "PASS", "No id is masked in any of the 20 rows."),
    (
        masks_gate(evidence(2, masked_rows=np.array([[10, 10], [3, 3]]))),
        "PASS",
        "mask the same ids in each of the 20 rows; 13 rows have masks.",
    ),
    (
        masks_gate(
            evidence(
                3,
                masked_rows=np.array([[0, 0], [9, 0], [2, 0]]),
                other_masks=np.array([0, 9, 2]),
                first_other_mask=np.array([-1, 1, 0]),
                masked_there=np.array([[0, 0], [5, 0], [7, 0]]),
            )
        ),
        "FAIL",
        "11 of 30 rows mask other ids than the reference, first at position 1 of prompt p1: "
        "5 ids against 0.",
    ),
    (
        masks_gate(
            evidence(2, masks_told=np.array([True, False]), masked_rows=np.array([[1, 1], [4, 0]]))
        ),
        "INCONCLUSIVE",
        "The candidate masks ids in 4 of 20 rows, and the baseline is older than",
    ),
    (masks_gate(evidence(2, masks_told=np.array([True, False]))), "NOT_RUN", "one side does not"),
    (masks_gate(evidence(0)), "NOT_RUN", "Masks were not compared"),
    (coverage_gate(8, 8, 0, 0), "PASS", "All 8 positions"),
    (coverage_gate(6, 8, 0, 1), "INCONCLUSIVE", "6 of 8 positions of the baseline were judged: 1 "),
    (coverage_gate(6, 8, 0, 2), "INCONCLUSIVE", "--context"),
    (coverage_gate(4, 8, 2, 0), "INCONCLUSIVE", "were judged: 2 prompts were not run."),
    (coverage_gate(3, 8, 1, 1), "INCONCLUSIVE", "1 prompt was not run, 1 prompt was judged up to"),
    (coverage_gate(8, 8, 0, 0, 2), "INCONCLUSIVE", "8 of 8 positions of the baseline were judged"),
    (coverage_gate(8, 8, 0, 0, 1), "INCONCLUSIVE", "1 prompt was stopped elsewhere"),
    (determinism_gate(4, 3, [0.3], [0.3], "hf-npu"), "WARN", "LCCL_DETERMINISTIC=1"),
    (determinism_gate(4, 3, [0.3], [0.3], "hf-gpu"), "WARN", "and CUBLAS_WORKSPACE_CONFIG="),
    (determinism_gate(4, 3, [0.3], [0.3], "hf-cpu"), "WARN", "does not repeat bit for bit."),
    (determinism_gate(0, 0, [], []), "NOT_RUN", "No prompt was run twice."),
    (determinism_gate(4, 4, [], []), "PASS", "same bits in all 4 rows"),
    (determinism_gate(4, 2, [0.1, -0.2], [0.3, 0.3]), "WARN", "2 of 4 rows differ"),
    (determinism_gate(4, 3, [0.3], [0.3]), "WARN", "all within the tolerance"),
    (determinism_gate(4, 3, [0.3], [None]), "WARN", "without a known tolerance"),
    (determinism_gate(4, 3, [0.3], [0.3]), "WARN", "all within the tolerance"),
    (determinism_gate(4, 2, [0.1, -0.5], [0.3, 0.3]), "FAIL", "by up to 0.5 logits"),
    (determinism_gate(4, 2, [0.1, -0.5], [None, 0.3]), "FAIL", "more than the noise explains"),
    (determinism_gate(4, 2, [0.1, None], [0.3, 0.3]), "FAIL", "1 of them by NaN, infinities, oth"),
    (determinism_gate(4, 3, [None], [None]), "FAIL", "1 of 4 rows differs between two runs"),
    (point_guard(evidence(2, push=(np.full(10, 8.01), np.full(10, 8.0))), scales(kappa=8.2)),
     "PASS", "8.2 times the local noise at all 20 positions"),
    *((path_ratio_gate(evidence(error=paths(3.0)), i, None), "FAIL", "3.000") for i in (0, 1)),
    *((path_ratio_gate(evidence(error=paths(1.5, spread=True)), i, None), "INCONCLUSIVE", "decide")
      for i in (0, 1)),
    (path_ratio_gate(evidence(), 1, None), "PASS", "Error of the decode path: 1.000"),
    (top_k_ratio_gate(evidence(), None), "PASS", "among the likeliest tokens: 1.000"),
    (top_k_ratio_gate(evidence(top_error=2.1 * SPREAD), None), "INCONCLUSIVE", "decide"),
    (top_k_ratio_gate(evidence(top_error=np.zeros(20), top_reference=np.zeros(20)), None),
     "NOT_RUN", "the data to measure it are missing"),
    (determinism_gate(9, 8, [None], [0.3], causes=["token"]), "FAIL",
     "1 of 9 rows differs between two runs: 1 repeated run chose another token, which the row"),
    (determinism_gate(9, 6, [None] * 3, [0.3] * 3, causes=["ended", "ended", None]), "FAIL",
     "2 rows where one of the two runs had ended, or ended for another reason, 1 row with NaN"),
    (determinism_gate(9, 8, [None], [None], causes=["ended"]), "FAIL", "1 row where one of the"),
    (stops_gate([], 20), "PASS", "20 prompts ended as the recording says."),
    (stops_gate([], 1), "PASS", "1 prompt ended as the recording says."),
    *((stops_gate([ending(fault)], 20), "FAIL", "The ends of 1 of 20 prompts do not fit the")
      for fault in FAULTS),
    *((stops_gate([ending(fault, proven=False)] * 2, 20), "INCONCLUSIVE", "(prompt p3")
      for fault in FAULTS),
    (stops_gate([ending("cut", proven=False), ending("short")], 2), "FAIL",
     "1 run stopped for length too early (prompt p3: 2 of 16 tokens), 1 run followed tokens"),
    (token_guard(["DIVERGENT", None], 1, judged=True), "FAIL", "1 of 2 tokens flips across"),
    (token_guard(["TIE", None], 1, judged=True), "INCONCLUSIVE", "1 of 2 tokens flips, none"),
    (systematic_gate(diagnosed("SYSTEMATIC")), "FAIL",
     "Explained by head 3 of model.layers.2.self_attn: the error is what a factor of 0.8"),
    (systematic_gate(diagnosed("SLIGHT")), "WARN", "That is 3 % of the arms' rounding, so small"),
    (systematic_gate(diagnosed("NOTHING")), "PASS", "no part that rounding does not have"),
    (token_guard([None, None], 0, judged=False), "NOT_RUN", "it gives no noise floor"),
]  # fmt: skip
