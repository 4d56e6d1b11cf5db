"""A control that is a fault is none, nor is any beside a reference that is one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import RNG, VOCABULARY, Logits, bfloat16, forced_recording, free_recording

from harness.alignment.align import compare
from harness.baseline.baseline import Baseline
from harness.baseline.controls import (
    ERROR_RATIO_LIMIT,
    MOST_SHARED,
    RatioLimit,
    contradiction,
    control_of,
    control_ratio,
    disagreement,
    ratio_limit,
)
from harness.baseline.floor import noise_floor
from harness.baseline.folder import load_baseline
from harness.errors import BaselineError
from harness.recording.format import Recording, save_recording

TRUTH = {f"p{i}": 3 * RNG(60 + i).standard_normal((8, VOCABULARY)) for i in range(20)}


def arm(seed: int, noise: float = 0.05) -> dict[str, Logits]:
    random = RNG(seed)
    return {i: bfloat16(z + noise * random.standard_normal(z.shape)) for i, z in TRUTH.items()}


def baseline(*noises: float, reference_noise: float = 0.05, dtype: str = "bfloat16") -> Baseline:
    reference = free_recording(arm(1, reference_noise), dtype=dtype)
    exact = {i: z.astype("float32") for i, z in TRUTH.items()}
    controls = {
        f"control-{k}": forced_recording(arm(2 + k, noise), reference, dtype=dtype)
        for k, noise in enumerate(noises)
    }
    return Baseline(reference, forced_recording(exact, reference, dtype="float32"), controls)


def by_prefill(oracle: Recording | None) -> Recording:
    assert oracle is not None
    prompts = [
        p.model_copy(update={"forced": p.run.model_copy(update={"replay": "forced-prefill"})})
        for p in oracle.prompts
    ]
    return oracle.model_copy(update={"prompts": tuple(prompts)})


def said(found: Baseline, name: str = "control-0") -> str | None:
    assert found.oracle is not None
    return disagreement(found.controls[name], found.reference, found.oracle)


def test_the_ratio_is_that_of_the_noise() -> None:
    made = baseline(0.1)
    assert made.oracle is not None
    found = control_ratio(made.controls["control-0"], made.reference, made.oracle)
    assert found.value == pytest.approx(2.0, rel=0.1)
    assert found.prompts == 20


@pytest.mark.parametrize("noise", [0.04, 0.05, 0.06])
def test_a_control_of_the_references_noise_is_one(noise: float) -> None:
    assert said(baseline(noise)) is None


def test_a_control_of_five_times_the_noise_is_none() -> None:
    found = said(baseline(0.25))
    assert found is not None
    assert "times the reference's (99.9 % interval" in found


def test_a_reference_of_five_times_the_noise_has_no_control() -> None:
    found = said(baseline(0.05, reference_noise=0.25))
    assert found is not None
    assert "so this is not noise: one of the two is faulty" in found


def test_nothing_is_refused_in_float32_where_orders_of_summing_differ_by_more() -> None:
    assert said(baseline(0.25, dtype="float32")) is None


def test_a_candidate_hides_under_no_broken_control() -> None:
    """Three runner-ups 1.5 logits up, which the sound controls' noise never does."""
    broken = baseline(0.25, 0.05, 0.05)
    rows = arm(9)
    for name in ("p0", "p1", "p2"):
        second = rows[name][3].argsort()[-2]
        rows[name][3, second] += 1.5
    candidate = forced_recording(rows, broken.reference)
    assert compare(candidate, broken).verdict == "DIVERGENT"
    few = noise_floor(replace(broken, controls=dict(list(broken.controls.items())[:2])))
    assert few is None


def test_a_baseline_with_a_broken_control_is_not_loaded(tmp_path: Path) -> None:
    made = baseline(0.05, 0.05, 0.25)
    folder = tmp_path / "m" / "s" / "bfloat16"
    arms: dict[str, Recording] = {**dict(made.arms()), "oracle": by_prefill(made.oracle)}
    folder.mkdir(parents=True)
    for name, recording in arms.items():
        save_recording(recording, folder / f"{name}.json")
    with pytest.raises(BaselineError, match=r"control-2: its error is 5 times .*make the"):
        load_baseline(folder)
    (folder / "control-2.json").unlink()
    assert len(load_baseline(folder).controls) == 2


def beside(rows: dict[str, Logits], dtype: str = "bfloat16") -> Baseline:
    """A baseline whose first control holds these rows, and whose second is sound."""
    made = baseline(0.05, 0.05, dtype=dtype)
    control = forced_recording(rows, made.reference, dtype=dtype)
    return replace(made, controls={**made.controls, "control-0": control})


def fully(found: Baseline, name: str = "control-0") -> str | None:
    assert found.oracle is not None
    return contradiction(found.controls[name], found.reference, found.oracle)


def mixed(own: float, shared: float, constant: float = 0.0, seed: int = 2) -> dict[str, Logits]:
    """The reference's own errors, others, and one that is the same at every position,
    by their shares."""
    first, random, fixed = RNG(1), RNG(seed), RNG(5).standard_normal(VOCABULARY)
    made = {}
    for i, z in TRUTH.items():
        theirs = first.standard_normal(z.shape)
        error = own * random.standard_normal(z.shape) + shared * theirs + constant * fixed
        made[i] = (z + 0.05 * error).astype(np.float32)
    return made


@pytest.mark.parametrize(("copied", "refused"), [(4, False), (5, True), (8, True)])
def test_a_control_that_holds_more_than_half_of_the_references_rows_is_a_copy(
    copied: int, refused: bool
) -> None:
    """Of 8 rows of each prompt: a correct candidate would fail by its small noise."""
    rows, theirs = arm(2), arm(1)
    for i in rows:
        rows[i][:copied] = theirs[i][:copied]
    made = beside(rows)
    found = said(made)
    assert (found is not None) == refused
    if found is not None:
        assert f"{100 * copied / 8:.0f} % of its rows are bit-equal to the reference's" in found
        assert fully(made) is None


@pytest.mark.parametrize(("own", "refused"), [(0.6, False), (0.25, True)])
def test_a_control_that_shares_the_references_error_shows_nothing(
    own: float, refused: bool
) -> None:
    made = beside(mixed(own, math.sqrt(1 - own**2)))
    assert made.oracle is not None
    seen = control_of(made.controls["control-0"], made.reference, made.oracle)
    assert seen.copies == 0.0
    assert (seen.shared > MOST_SHARED) == refused
    found = said(made)
    assert (found is not None) == refused
    if found is not None:
        assert f"correlates with the reference's at {seen.shared:.3f}" in found


def test_what_two_errors_share_is_their_correlation() -> None:
    made = beside(mixed(0.6, 0.8))
    assert made.oracle is not None
    seen = control_of(made.controls["control-0"], made.reference, made.oracle)
    # The reference's rows are rounded to bfloat16, which is an error of its own.
    assert 0.7 < seen.shared < 0.8
    independent = control_of(made.controls["control-1"], made.reference, made.oracle)
    assert abs(independent.shared) < 0.05


def test_a_control_with_a_systematic_error_contradicts_the_reference() -> None:
    """Its error is about twice the reference's, as a rougher path's may be, but most of
    it is the same at every position: a wrong constant, not noise."""
    made = beside(mixed(1.0, 0.0, constant=1.7))
    found = said(made)
    assert found is not None
    assert found == fully(made)
    assert "% of it points the same way in every prompt, so this is not noise" in found
    assert "the reference is nearer to the oracle" in found


def test_a_reference_with_a_systematic_error_is_contradicted_by_its_control() -> None:
    reference = free_recording(mixed(1.0, 0.0, constant=1.7))
    exact = {i: z.astype("float32") for i, z in TRUTH.items()}
    oracle = forced_recording(exact, reference, dtype="float32")
    found = contradiction(forced_recording(arm(3), reference), reference, oracle)
    assert found is not None
    assert "and it is nearer to the oracle" in found


def test_a_systematic_error_that_both_have_is_no_contradiction() -> None:
    """A rounding that all paths share, as of the head's weights."""
    reference = free_recording(mixed(1.0, 0.0, constant=1.7))
    exact = {i: z.astype("float32") for i, z in TRUTH.items()}
    oracle = forced_recording(exact, reference, dtype="float32")
    control = forced_recording(mixed(1.0, 0.0, constant=1.7, seed=4), reference)
    assert disagreement(control, reference, oracle) is None


@pytest.mark.parametrize("seed", range(2, 8))
def test_a_rougher_path_is_a_control_and_widens_the_limit(seed: int) -> None:
    """1.8 times the noise, without a systematic part."""
    made = beside(mixed(1.8, 0.0, seed=seed))
    assert said(made) is None
    assert fully(made) is None
    assert made.oracle is not None
    found = ratio_limit(made.controls, made.reference, made.oracle)
    seen = control_ratio(made.controls["control-0"], made.reference, made.oracle)
    assert found.arm == "control-0"
    assert found.largest == seen.value == pytest.approx(1.8, rel=0.1)
    assert found.value == seen.interval().high
    assert found.shown == seen.value
    assert found.hidden == 1.0
    assert found.inflations == (1.0, found.value)
    assert found.widened == pytest.approx(found.value / 1.5)


def test_a_widened_limit_is_named_with_its_control() -> None:
    """A candidate as rough as that path is aligned, and the gate says by whom."""
    made = beside(mixed(1.8, 0.0))
    candidate = forced_recording(mixed(1.7, 0.0, seed=9), made.reference)
    found = compare(candidate, made)
    assert found.verdict == "EQUIVALENT"
    gate = next(g for g in found.gates if g.name == "error_ratio")
    assert gate.status == "PASS"
    assert gate.limit is not None
    assert gate.limit > 1.7
    assert "since the reference's own control-0 is at 1.8" in gate.sentence
    plain = compare(forced_recording(mixed(1.7, 0.0, seed=9), made.reference), baseline(0.05, 0.05))
    assert next(g.status for g in plain.gates if g.name == "error_ratio") == "FAIL"


def test_a_port_beyond_a_widened_limit_fails() -> None:
    made = beside(mixed(1.8, 0.0))
    found = compare(forced_recording(mixed(2.6, 0.0, seed=9), made.reference), made)
    gate = next(g for g in found.gates if g.name == "error_ratio")
    assert gate.status == "FAIL"
    assert "and the reference's own control-0 is at 1.8" in gate.sentence


def test_independent_controls_leave_the_limit_as_it_is() -> None:
    made = baseline(0.05, 0.05)
    assert made.oracle is not None
    found = ratio_limit(made.controls, made.reference, made.oracle)
    assert (found.value, found.arm, found.largest) == (ERROR_RATIO_LIMIT, None, None)
    assert found.hidden == found.widened == 1.0
    assert abs(found.shared) < 0.05
    assert 1.0 <= found.shown < ERROR_RATIO_LIMIT
    assert ratio_limit({}, made.reference, made.oracle) == RatioLimit()


def test_controls_that_share_the_error_understate_the_noise() -> None:
    """Errors that correlate at r differ by sqrt(2 (1 - r)); independent ones, whose
    oracle is as rough as they are, at 0.5."""
    made = baseline(0.05, 0.05, dtype="float32")
    controls = {
        f"control-{k}": forced_recording(
            mixed(0.5, math.sqrt(0.75), seed=20 + k), made.reference, dtype="float32"
        )
        for k in range(2)
    }
    assert made.oracle is not None
    found = ratio_limit(controls, made.reference, made.oracle)
    assert 0.7 < found.shared < math.sqrt(0.75)
    assert found.hidden == pytest.approx(math.sqrt(0.5 / (1 - found.shared)))
    assert found.value == pytest.approx(1.5 * found.hidden)
    assert found.arm is None
    assert found.inflations == pytest.approx((1.0, 1.5))


def test_a_copy_is_refused_in_float32_too() -> None:
    made = beside(arm(1), dtype="float32")
    assert "mostly a copy" in (said(made) or "")
    made = beside(mixed(0.1, math.sqrt(0.99)), dtype="float32")
    assert "is the same computation" in (said(made) or "")
    assert fully(beside(mixed(1.0, 0.0, constant=9.0), dtype="float32")) is None


def test_arms_without_a_finite_prompt_say_nothing() -> None:
    """A reference with NaN in every prompt: no ratio, no share, and no error."""
    rows = arm(1)
    for z in rows.values():
        z[3, 5] = np.nan
    reference = free_recording(rows)
    exact = {i: z.astype("float32") for i, z in TRUTH.items()}
    oracle = forced_recording(exact, reference, dtype="float32")
    seen = control_of(forced_recording(arm(2), reference), reference, oracle)
    assert seen.ratio.value is None
    assert seen.systematic.value is None
    assert (seen.shared, seen.copies) == (0.0, 0.0)
    assert disagreement(forced_recording(arm(2), reference), reference, oracle) is None
