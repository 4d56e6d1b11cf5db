"""Candidates and baselines that keep more and less of a row, judged by what both keep."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from factories import forced_recording, free_recording, told_rows
from small_world import BASELINE, REFERENCE, TRUTH, Rows, arm, at, damaged, failing

from harness.alignment.align import compare, evidence_of
from harness.alignment.power import power_before
from harness.alignment.result import Alignment
from harness.baseline.baseline import Baseline, check_arm
from harness.baseline.detail import (
    alike,
    judged_baseline,
    reduced_baseline,
    reduced_recording,
)
from harness.baseline.floor import noise_floor
from harness.errors import BaselineError
from harness.recording.format import Recording
from harness.statistics.detail import DETAILS, detail_of
from harness.statistics.rows import NORMAL, Detail, row_statistics

SMALL, LARGE = DETAILS["small"], DETAILS["large"]


def remade(recording: Recording, rows: Rows, detail: Detail) -> Recording:
    """A recording of these logits in another detail."""
    prompts = []
    for prompt in recording.prompts:
        kind = "free" if prompt.forced is None else "forced"
        made = row_statistics(np.asarray(rows[prompt.id], np.float32), detail)
        changed = prompt.run.model_copy(update={"rows": made})
        prompts.append(prompt.model_copy(update={kind: changed}))
    return recording.model_copy(update={"prompts": tuple(prompts)})


def baseline_in(detail: Detail) -> Baseline:
    assert BASELINE.oracle is not None
    controls = {f"control-{s}": arm(s) for s in (2, 3)}
    return Baseline(
        remade(BASELINE.reference, REFERENCE, detail),
        remade(BASELINE.oracle, TRUTH, detail),
        {name: remade(BASELINE.controls[name], rows, detail) for name, rows in controls.items()},
    )


def candidate_in(detail: Detail, rows: Rows) -> Recording:
    return remade(forced_recording(rows, BASELINE.reference), rows, detail)


GOOD = arm(7)
BAD = {i: rows + np.float32(0.4) * np.sin(np.arange(64) * (1 + int(i[1:]) % 3))
       for i, rows in arm(8).items()}  # fmt: skip
BAD = {i: rows.astype(np.float32) for i, rows in BAD.items()}


def assert_judged_alike(found: Alignment, alone: Alignment) -> None:
    for one, other in zip(found.gates, alone.gates, strict=True):
        assert one.status == other.status, one.name
        if other.value is None:
            assert one.value is None
        else:
            assert one.value == pytest.approx(other.value, rel=1e-3, abs=1e-6), one.name


def said(found: Alignment) -> list[str]:
    return [m.key for m in (r.message for r in found.remarks) if m is not None]


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        (Detail(5, 8), Detail(5, 8)),
        (SMALL, SMALL),
        (LARGE, LARGE),
        (SMALL, LARGE),
        (NORMAL, Detail(20, 32)),
        (Detail(64, 512), SMALL),
    ],
)
def test_right_passes_and_wrong_fails_in_every_pair(mine: Detail, theirs: Detail) -> None:
    baseline = baseline_in(theirs)
    assert compare(candidate_in(mine, GOOD), baseline).verdict == "EQUIVALENT"
    found = compare(candidate_in(mine, BAD), baseline)
    assert found.verdict in ("DRIFT", "DIVERGENT")
    assert "error_ratio" in failing(found)


@pytest.mark.parametrize(
    ("mine", "theirs"), [(SMALL, NORMAL), (NORMAL, SMALL), (SMALL, LARGE), (Detail(5, 64), SMALL)]
)
def test_two_details_are_judged_as_if_neither_kept_more_and_it_is_said(
    mine: Detail, theirs: Detail
) -> None:
    found = compare(candidate_in(mine, GOOD), baseline_in(theirs))
    both = Detail(min(mine.listed, theirs.listed), min(mine.buckets, theirs.buckets))
    alone = compare(candidate_in(both, GOOD), baseline_in(both))
    assert_judged_alike(found, alone)
    assert "warning.detail" in said(found)
    assert "warning.detail" not in said(alone)


@pytest.mark.parametrize(("mine", "theirs"), [(LARGE, NORMAL), (NORMAL, LARGE), (LARGE, LARGE)])
def test_more_buckets_than_a_judgement_looks_at_change_nothing_and_are_not_spoken_of(
    mine: Detail, theirs: Detail
) -> None:
    found = compare(candidate_in(mine, GOOD), baseline_in(theirs))
    normal = compare(candidate_in(NORMAL, GOOD), baseline_in(NORMAL))
    assert_judged_alike(found, normal)
    assert "warning.detail" not in said(found)


@pytest.mark.parametrize("detail", [Detail(5, 8), SMALL, Detail(20, 256)], ids=str)
def test_equal_bits_are_seen_across_details(detail: Detail) -> None:
    mine = free_recording(REFERENCE, device="other", created="2026-01-01T00:00:00+00:00")
    found = compare(remade(mine, REFERENCE, detail), BASELINE.reference)
    assert found.verdict == "BIT_EXACT"


def test_a_row_far_out_fails_in_small_detail_too() -> None:
    rows = damaged(arm(9), {"p3": at(2, 60.0)})
    assert "row_guard" in failing(compare(candidate_in(SMALL, rows), baseline_in(SMALL))) or (
        compare(candidate_in(SMALL, rows), baseline_in(SMALL)).verdict == "DRIFT"
    )


def test_a_prompt_with_nan_beside_others_is_judged_in_every_detail() -> None:
    rows = {i: r.copy() for i, r in GOOD.items()}
    rows["p4"][1, 3] = np.nan
    for detail in (SMALL, LARGE):
        assert "nonfinite" in failing(compare(candidate_in(detail, rows), baseline_in(detail)))


def test_log_probabilities_are_judged_beside_a_small_baseline() -> None:
    """A server lists 20, and a small baseline 10 of them."""
    whole = candidate_in(NORMAL, GOOD)
    prompts = []
    for prompt in whole.prompts:
        told = prompt.run.model_copy(update={"rows": told_rows(prompt.run.rows)})
        prompts.append(prompt.model_copy(update={"forced": told}))
    served = whole.model_copy(update={"prompts": tuple(prompts)})
    for detail in (SMALL, NORMAL, LARGE):
        found = compare(served, baseline_in(detail))
        assert found.top_k_error_ratio.value == pytest.approx(1.0, abs=0.15)
        assert found.verdict in ("EQUIVALENT", "INCONCLUSIVE")
        assert "warning.detail" not in said(found)


def test_arms_of_another_detail_than_the_reference_s_are_refused() -> None:
    small = reduced_recording(BASELINE.controls["control-2"], SMALL)
    check_arm("control-2", BASELINE.controls["control-2"], BASELINE.reference)
    with pytest.raises(BaselineError, match="its detail is not the reference's; make it again"):
        check_arm("control-2", small, BASELINE.reference)


def test_what_is_alike_already_is_not_copied() -> None:
    mine = candidate_in(NORMAL, GOOD)
    assert alike(mine, BASELINE) == (mine, BASELINE)
    assert alike(mine, BASELINE)[0] is mine
    assert alike(mine, BASELINE)[1] is BASELINE
    assert judged_baseline(BASELINE) is BASELINE
    assert reduced_baseline(BASELINE, LARGE) is BASELINE


def test_a_reduced_baseline_has_every_arm_in_that_detail() -> None:
    found = reduced_baseline(replace(baseline_in(LARGE), folder=None), SMALL)
    for _, one in found.arms():
        assert {detail_of(run.rows) for run in one.runs} == {SMALL}


@pytest.mark.parametrize("detail", [SMALL, LARGE], ids=str)
def test_floor_power_and_evidence_are_of_what_is_judged(detail: Detail) -> None:
    baseline, buckets = baseline_in(detail), min(detail.buckets, 64)
    floor = noise_floor(baseline)
    assert floor is not None
    assert floor.scales.white is not None
    assert floor.scales.white.shape == (buckets, buckets)
    evidence = evidence_of(candidate_in(detail, GOOD), baseline)
    assert evidence.mean_error.shape[1] == buckets
    power = power_before(baseline)
    assert power is not None
    assert power.uniform == pytest.approx(power_before(BASELINE).uniform, rel=0.3)  # type: ignore[union-attr]
