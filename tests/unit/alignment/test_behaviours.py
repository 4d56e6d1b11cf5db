"""What the verdict is there for, through ``compare``, on small real rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import pytest
from factories import RNG, bfloat16, forced_recording, free_recording, run
from small_world import (
    BASELINE,
    NOISE,
    POSITIONS,
    PROMPTS,
    REFERENCE,
    TRUTH,
    Rows,
    arm,
    baseline_of,
    failing,
    judged,
    statuses,
)

from harness.alignment.align import compare
from harness.alignment.outcomes import exit_status
from harness.alignment.result import Alignment
from harness.baseline.baseline import Baseline
from harness.baseline.floor import noise_floor
from harness.recording.format import Difference, PromptRecord, Recording, Repeat
from harness.statistics.rows import RowStatistics


def tolerances_of(baseline: Baseline) -> Mapping[str, np.ndarray]:
    floor = noise_floor(baseline)
    assert floor is not None
    return floor.tolerances()


def flips(found: Alignment) -> int:
    return sum(
        a != b
        for p in found.prompts
        for a, b in zip(p.positions.reference_token, p.positions.candidate_token, strict=True)
    )


@pytest.mark.parametrize("seed", range(10, 16))
def test_a_correct_engine_is_equivalent_with_every_gate_judged(seed: int) -> None:
    found = judged(arm(seed))
    assert found.verdict == "EQUIVALENT"
    assert set(found.classes) <= {"EXACT", "NEAR_TIE", "TIE"}
    assert statuses(found)["error_ratio_prefill"] == statuses(found)["error_ratio_decode"] == "PASS"


def test_equal_tokens_with_a_broken_computation_are_drift() -> None:
    """All but the three likeliest tokens are off, as a broken head leaves them."""
    random = RNG(20)
    rows = {}
    for i, kept in REFERENCE.items():
        likely = np.argsort(-kept, axis=1)[:, :3]
        wrong = np.minimum(kept + 0.2 * random.standard_normal(kept.shape), likely_floor(kept))
        np.put_along_axis(wrong, likely, np.take_along_axis(kept, likely, axis=1), axis=1)
        rows[i] = wrong.astype(np.float32)
    found = judged(rows)
    assert flips(found) == 0
    assert found.classes == {"EXACT": PROMPTS * POSITIONS}
    assert found.verdict == "DRIFT"
    assert "error_ratio" in failing(found)
    assert exit_status(found.verdict) == 1


def likely_floor(rows: np.ndarray) -> np.ndarray:
    """The third largest logit of each row."""
    return np.asarray(np.sort(rows, axis=1)[:, -3:-2])


def test_a_near_tie_that_a_correct_engine_flips_is_equivalent() -> None:
    """Its best two tokens change places where the reference's are closest."""
    rows = arm(21)
    gaps = {i: top_gap(r) for i, r in REFERENCE.items()}
    name = min(gaps, key=lambda i: float(gaps[i][gaps[i] > 0].min()))
    position = int(np.argmin(np.where(gaps[name] > 0, gaps[name], 99.0)))
    exchange(rows[name][position], *best_two(REFERENCE[name][position]), largest_second=True)
    found = judged(rows)
    prompt = next(p for p in found.prompts if p.id == name)
    assert prompt.positions.class_[position] == "NEAR_TIE"
    assert found.verdict == "EQUIVALENT"


def test_an_exact_tie_that_is_flipped_is_equivalent() -> None:
    reference = {i: r.copy() for i, r in REFERENCE.items()}
    first, second = best_two(reference["p5"][4])
    reference["p5"][4][[first, second]] = reference["p5"][4].max()
    truth = {i: r.copy() for i, r in TRUTH.items()}
    truth["p5"][4][[first, second]] = reference["p5"][4].max()
    rows = arm(22, truth)
    # The lower id wins a tie: the candidate is one unit above it at the other.
    low, high = sorted((first, second))
    rows["p5"][4][low] = reference["p5"][4].max()
    rows["p5"][4][high] = reference["p5"][4].max() + 2.0**-5
    found = judged(rows, baseline_of(reference, truth))
    prompt = next(p for p in found.prompts if p.id == "p5")
    assert prompt.positions.class_[4] == "TIE"
    assert found.verdict == "EQUIVALENT"


def test_one_nan_row_is_a_failure_that_names_the_position() -> None:
    rows = arm(23)
    rows["p17"][6, 3] = np.nan
    found = judged(rows)
    assert found.verdict == "DIVERGENT"
    assert found.classes["NONFINITE"] == 1
    assert "1 of 256 rows holds NaN or infinite logits, at position 6 of prompt p17" in (
        found.sentence
    )


def test_a_forced_row_without_any_finite_logit_is_a_failure_too() -> None:
    rows = arm(23)
    rows["p2"][5] = np.nan
    found = judged(rows)
    assert found.verdict == "DIVERGENT"
    assert "at position 5 of prompt p2" in found.sentence


def test_nan_beyond_another_token_is_a_failure_though_the_replay_is_finite() -> None:
    """The device's own run: an other token at a near tie, two tokens later NaN.
    The replay on the reference's tokens, which is what is judged, is right."""
    rows = arm(26)
    record = forced_recording(rows, BASELINE.reference).prompt("p4")
    assert record is not None
    own = rows["p4"].copy()
    second = own[1].argsort()[-2]
    own[1, second], own[3] = own[1].max() + 2.0, np.nan
    free = run(own[:4], [*(int(t) for t in own[:3].argmax(axis=1)), 0])
    candidate = forced_recording(arm(26), BASELINE.reference)
    prompts = tuple(
        p.model_copy(update={"free": free}) if p.id == "p4" else p for p in candidate.prompts
    )
    found = compare(candidate.model_copy(update={"prompts": prompts}), BASELINE)
    assert statuses(found)["nonfinite"] == "FAIL"
    assert found.verdict == "DIVERGENT"
    gate = next(g for g in found.gates if g.name == "nonfinite")
    assert "1 other row of the candidate's holds NaN or infinite logits, in prompt p4" in (
        gate.sentence
    )


def test_a_repeat_of_another_text_is_held_against_the_largest_tolerance() -> None:
    """A shift between the tolerance of its position and the baseline's largest:
    too much where the device follows the context, none of it beyond another token."""
    limits = tolerances_of(BASELINE)
    widest = max(float(limit.max()) for limit in limits.values())
    name = next(i for i, limit in limits.items() if limit[1:3].max() < 0.99 * widest)
    shift = 0.995 * widest
    own = arm(30)[name]
    context = BASELINE.reference.prompt(name)
    assert context is not None
    own[0, context.run.token_ids[0]] -= 10.0  # another token at once
    apart = run(own)
    candidate = forced_recording(arm(30), BASELINE.reference)
    for free, status in ((None, "FAIL"), (apart, "WARN")):
        prompts = tuple(
            p.model_copy(update={"free": free}) if p.id == name else p for p in candidate.prompts
        )
        repeat = Repeat(
            prompt_id=name,
            rows_compared=8,
            rows_equal=7,
            differences=(Difference(position=2, shift=shift),),
        )
        repeated = candidate.model_copy(update={"prompts": prompts, "repeats": (repeat,)})
        assert statuses(compare(repeated, BASELINE))["determinism"] == status


def test_a_reference_that_is_not_finite_judges_nothing() -> None:
    rows = arm(1)
    rows["p3"][2, 7] = np.nan
    broken = baseline_of(rows)
    found = judged(arm(27), broken)
    assert found.verdict == "INCONCLUSIVE"
    assert statuses(found)["nonfinite"] == "INCONCLUSIVE"
    prompt = next(p for p in found.prompts if p.id == "p3")
    assert (prompt.verdict, prompt.positions.class_[2]) == ("INCONCLUSIVE", None)


def test_a_masked_token_hides_no_noise_and_no_scale() -> None:
    """A model that writes a dtype's lowest number where a token never comes."""

    def masked(rows: Rows, lowest: float) -> dict[str, np.ndarray]:
        made = {i: z.copy() for i, z in rows.items()}
        for z in made.values():
            z[:, 5] = lowest
        return made

    truth = masked(TRUTH, float(np.finfo(np.float32).min))
    lowest = float(bfloat16(np.array([-3.38e38]))[0])
    arms = {s: masked(arm(s), lowest) for s in (1, 2, 3, 28)}
    reference = free_recording(arms[1])
    baseline = Baseline(
        reference,
        forced_recording(
            {i: z.astype(np.float32) for i, z in truth.items()}, reference, dtype="float32"
        ),
        {f"control-{s}": forced_recording(arms[s], reference) for s in (2, 3)},
    )
    assert judged(arms[28], baseline).verdict == "EQUIVALENT"
    noisy = masked(arm(28, noise=0.2), lowest)
    assert "error_ratio" in failing(judged(noisy, baseline))
    scaled = {i: bfloat16(1.02 * z.astype(np.float64)) for i, z in arm(28).items()}
    assert "slope" in failing(judged(masked(scaled, lowest), baseline))


def test_prompts_left_out_change_no_tolerance() -> None:
    """One control's outlier is in p1; the candidate's in p0, as far or hardly beyond noise."""

    def bumped(rows: dict[str, np.ndarray], name: str, by: float) -> dict[str, np.ndarray]:
        lead = np.sort(REFERENCE[name], axis=1)
        at = int((lead[:, -1] - lead[:, -2]).argmax())
        rows[name][at, REFERENCE[name][at].argsort()[-2]] += by
        return {i: bfloat16(z.astype(np.float64)) for i, z in rows.items()}

    controls = {
        "control-2": forced_recording(bumped(arm(2), "p1", 0.6), BASELINE.reference),
        "control-3": BASELINE.controls["control-3"],
    }
    baseline = replace(BASELINE, controls=controls)
    for by, status in ((0.3, "PASS"), (0.8, "FAIL")):
        whole = forced_recording(bumped(arm(29), "p0", by), BASELINE.reference)
        part = whole.model_copy(update={"prompts": tuple(p for p in whole.prompts if p.id != "p1")})
        both = [compare(candidate, baseline) for candidate in (whole, part)]
        for found in both:
            assert statuses(found)["point_guard"] == status
            assert (set(found.classes) <= {"EXACT", "NEAR_TIE", "TIE"}) == (status == "PASS")
        limits = [{p.id: p.positions.tolerance for p in found.prompts} for found in both]
        assert {i: limits[0][i] for i in limits[1]} == limits[1]
        for name in ("row_guard", "prompt_guard", "point_guard"):
            mine, theirs = (next(g for g in f.gates if g.name == name) for f in both)
            assert mine.limit == theirs.limit


def test_a_permuted_top_k_is_a_failure() -> None:
    """The rows are right; their likeliest ids stand in another order."""
    random = RNG(24)

    def shuffle(rows: RowStatistics) -> RowStatistics:
        return replace(rows, top_ids=random.permuted(rows.top_ids, axis=1))

    found = compare(changed(forced_recording(arm(25), BASELINE.reference), shuffle), BASELINE)
    assert found.verdict == "DIVERGENT"
    assert {"top_k_error_ratio", "point_guard", "flip_calibration"} <= failing(found)
    assert statuses(found)["error_ratio"] == "PASS"


def test_a_top_k_permuted_only_where_the_guard_cannot_see_is_a_failure() -> None:
    """The best two ids are exchanged wherever they lie close together: no
    position is beyond its tolerance, but so many flips are no noise."""
    close = {i: r / 3 for i, r in TRUTH.items()}
    baseline = baseline_of(arm(1, close), close)
    correct = judged(arm(26, close), baseline)
    limit = min(t for p in correct.prompts for t in p.positions.tolerance if t is not None)

    def exchange_near(rows: RowStatistics) -> RowStatistics:
        ids = rows.top_ids.copy()
        near = rows.top_logits[:, 0] - rows.top_logits[:, 1] < limit / 3
        ids[near, 0], ids[near, 1] = rows.top_ids[near, 1], rows.top_ids[near, 0]
        return replace(rows, top_ids=ids)

    made = changed(forced_recording(arm(26, close), baseline.reference), exchange_near)
    found = compare(made, baseline)
    assert correct.verdict == "EQUIVALENT"
    assert statuses(found)["point_guard"] == "PASS"
    assert "flip_calibration" in failing(found)
    assert exit_status(found.verdict) == 1


def test_a_last_norm_one_percent_off_fails_by_its_scale_alone() -> None:
    scaled = {i: 1.01 * r for i, r in TRUTH.items()}
    found = judged(arm(27, scaled))
    assert found.error_ratio.value == pytest.approx(1.16, abs=0.03)
    assert failing(found) == {"slope", "row_slope"}
    slope = next(g for g in found.gates if g.name == "slope")
    assert slope.value == pytest.approx(0.01, abs=0.001)
    assert found.verdict == "DRIFT"


@pytest.mark.parametrize("path", ["prefill", "decode"])
def test_an_error_of_one_path_is_seen_on_that_path(path: str) -> None:
    rows = arm(28)
    noisy = arm(29, noise=4 * NOISE)
    for i, own in rows.items():
        where = slice(0, 1) if path == "prefill" else slice(1, None)
        own[where] = noisy[i][where]
    found = judged(rows)
    other = "decode" if path == "prefill" else "prefill"
    assert statuses(found)[f"error_ratio_{path}"] == "FAIL"
    assert statuses(found)[f"error_ratio_{other}"] == "PASS"
    assert found.verdict in ("DRIFT", "DIVERGENT")


def test_few_prompts_are_judged_together_and_say_so() -> None:
    few = {i: TRUTH[i] for i in list(TRUTH)[:4]}
    baseline = baseline_of({i: REFERENCE[i] for i in few}, few)
    good = judged(arm(30, few), baseline)
    assert good.verdict == "EQUIVALENT"
    assert any(
        "4 prompts: too few to judge prefill and decode separately" in w for w in good.warnings
    )
    bad = judged(arm(31, few, noise=4 * NOISE), baseline)
    assert exit_status(bad.verdict) != 0


def changed(recording: Recording, change: Callable[[RowStatistics], RowStatistics]) -> Recording:
    """Every row of every forced run changed."""

    def prompt(record: PromptRecord) -> PromptRecord:
        assert record.forced is not None
        run = record.forced.model_copy(update={"rows": change(record.forced.rows)})
        return record.model_copy(update={"forced": run})

    return recording.model_copy(update={"prompts": tuple(map(prompt, recording.prompts))})


def best_two(row: np.ndarray) -> tuple[int, int]:
    first, second = np.argsort(-row, kind="stable")[:2]
    return int(first), int(second)


def top_gap(rows: np.ndarray) -> np.ndarray:
    ordered = np.sort(rows, axis=1)
    return np.asarray(ordered[:, -1] - ordered[:, -2])


def exchange(row: np.ndarray, first: int, second: int, *, largest_second: bool) -> None:
    """Put the larger of two logits, in place, where it is asked for."""
    low, high = sorted((row[first], row[second]))
    high = max(high, low + np.float32(2.0**-6))
    row[second if largest_second else first], row[first if largest_second else second] = high, low
