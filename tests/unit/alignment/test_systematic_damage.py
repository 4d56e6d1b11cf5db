"""Errors that point the same way: one token, a scale by parts, a constant."""

from __future__ import annotations

import numpy as np
import pytest
from factories import RNG, VOCABULARY, bfloat16
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
    gate,
    judged,
    statuses,
)

from harness.alignment.outcomes import ALIGNED, exit_status

SCALES = ("slope", "row_slope")
NEAREST = "nearest point between oracle and reference"


def shifted(rows: Rows, by: float, token: int = 5, names: tuple[str, ...] = ()) -> Rows:
    """One token's logit off at every position, of all prompts or of these."""
    made = {i: z.astype(np.float64) for i, z in rows.items()}
    for i in names or made:
        made[i][:, token] += by
    return {i: bfloat16(z) for i, z in made.items()}


def scaled(factors: np.ndarray, seed: int = 60) -> Rows:
    """A correct arm whose logits are scaled, by a factor for each row (PROMPTS, POSITIONS)."""
    truth = {i: z * factors[k][:, None] for k, (i, z) in enumerate(TRUTH.items())}
    return arm(seed, truth)


@pytest.mark.parametrize("token", [0, 5, 63])
@pytest.mark.parametrize("by", [3.0, -3.0])
def test_one_token_that_is_3_logits_off_everywhere_fails(token: int, by: float) -> None:
    found = judged(shifted(arm(60), by, token))
    assert statuses(found)["bucket"] == "FAIL"
    assert "a token or a few are off at every position" in gate(found, "bucket").sentence
    assert exit_status(found.verdict) == 1


@pytest.mark.parametrize("token", [0, 5, 63])
def test_one_token_that_is_off_by_no_more_than_noise_fails_by_its_bucket(
    token: int,
) -> None:
    """0.1 logits, twice what noise is, and one of 64 logits weighs little in an average."""
    exact = {i: z.astype(np.float64) for i, z in TRUTH.items()}
    for z in exact.values():
        z[:, token] += 2 * NOISE
    found = judged(arm(60, exact))
    assert {"bucket"} <= failing(found) <= {"bucket", "direction"}
    assert found.verdict == "DRIFT"


@pytest.mark.parametrize("name", ["p0", "p19"])
def test_one_token_that_is_off_in_one_prompt_is_not_off_everywhere(name: str) -> None:
    """The median prompt does not know of it; the prompt itself stands out."""
    found = judged(shifted(arm(60), 0.7, names=(name,)))
    assert statuses(found)["bucket"] == "PASS"
    assert "prompt_guard" in failing(found)


@pytest.mark.parametrize("seed", range(61, 67))
def test_the_buckets_of_a_correct_engine_are_as_the_controls(seed: int) -> None:
    mine = gate(judged(arm(seed)), "bucket")
    assert mine.status == "PASS"
    assert mine.value is not None
    assert mine.limit is not None
    assert 0.0 < mine.value < mine.limit


def test_a_token_that_reference_and_candidate_have_off_is_no_fault_of_the_candidate() -> None:
    """The head's weights in bfloat16, which all arms round alike."""
    truth = {i: z.copy() for i, z in TRUTH.items()}
    for z in truth.values():
        z[:, 5] += 0.5
    exact = baseline_of(arm(1, truth), TRUTH, {f"c{s}": arm(s, truth) for s in (2, 3)})
    assert statuses(judged(arm(60, truth), exact))["bucket"] == "PASS"
    # A port that has it right is nearer to the oracle than the reference is.
    better = judged(arm(60), exact)
    assert statuses(better)["bucket"] == "PASS"
    # And one that has another token off is charged with that.
    other = {i: z.copy() for i, z in TRUTH.items()}
    for z in other.values():
        z[:, 9] += 0.5
    assert statuses(judged(arm(60, other), exact))["bucket"] == "FAIL"


def test_a_scale_that_the_halves_of_an_output_undo_is_told() -> None:
    factors = np.where(np.arange(POSITIONS) < POSITIONS / 2, 1.01, 0.99)
    found = judged(scaled(np.tile(factors, (PROMPTS, 1))))
    assert statuses(found)["slope"] == "FAIL"
    mine = gate(found, "slope")
    assert "by +0.01" in mine.sentence
    assert "in the first half of the outputs" in mine.sentence
    assert exit_status(found.verdict) == 1


@pytest.mark.parametrize(
    ("prefill", "decode", "where"),
    [(1.015, 1.0, " of the prefill path"), (1.0, 0.992, "")],
)
def test_a_scale_of_one_path_is_told(prefill: float, decode: float, where: str) -> None:
    """One row in eight, by which the scale of all rows moves less than its limit; of
    the other seven the whole moves as well."""
    factors = np.where(np.arange(POSITIONS) == 0, prefill, decode)
    found = judged(scaled(np.tile(factors, (PROMPTS, 1))))
    assert statuses(found)["slope"] == "FAIL"
    assert f"{where}, more than 0.003" in gate(found, "slope").sentence


@pytest.mark.parametrize("by", ["rows", "prompts"])
def test_a_scale_that_changes_its_sign_is_told_by_how_it_scatters(by: str) -> None:
    """1 % up and down in turn: no mean of all rows, of halves or of paths shows it."""
    sign = np.where(np.arange(PROMPTS) % 2, 1.0, -1.0)[:, None] * np.ones(POSITIONS)
    if by == "rows":
        sign = sign * np.where(np.arange(POSITIONS) % 2, 1.0, -1.0)
    found = judged(scaled(1.0 + 0.01 * sign))
    assert statuses(found)["row_slope"] == "FAIL"
    assert "slope" not in failing(found)
    assert "up in some rows and down in others" in gate(found, "row_slope").sentence
    assert exit_status(found.verdict) == 1


@pytest.mark.parametrize("seed", range(61, 65))
def test_the_scale_of_a_correct_engine_scatters_as_the_arms(seed: int) -> None:
    found = judged(arm(seed))
    assert [statuses(found)[name] for name in SCALES] == ["PASS", "PASS"]
    assert gate(found, "row_slope").value == pytest.approx(1.0, abs=0.2)


def test_a_scale_that_the_reference_has_is_no_fault_of_a_port_that_has_it_or_not() -> None:
    """Its last norm 1 % off in bfloat16: the port may be like it, or right."""
    truth = {i: 1.01 * z for i, z in TRUTH.items()}
    exact = baseline_of(arm(1, truth), TRUTH, {f"c{s}": arm(s, truth) for s in (2, 3)})
    for rows, against in ((arm(60, truth), "reference"), (arm(60), NEAREST)):
        found = judged(rows, exact)
        assert statuses(found)["slope"] == "PASS"
        assert f"that of the {against} by" in gate(found, "slope").sentence
        assert found.verdict in ALIGNED
    wrong = judged(arm(60, {i: 1.02 * z for i, z in TRUTH.items()}), exact)
    assert statuses(wrong)["slope"] == "FAIL"


def constant(seed: int, size: float = NOISE) -> dict[str, np.ndarray]:
    """The truth with one vector added at every position."""
    fixed = size * RNG(seed).standard_normal(VOCABULARY)
    return {i: z + fixed for i, z in TRUTH.items()}


def test_a_systematic_error_that_the_reference_has_is_no_fault_of_a_port() -> None:
    """The reference's own constant is as large as its noise. A port that has it, and
    one that is better, are right; one that has another is wrong."""
    theirs = constant(7)
    exact = baseline_of(arm(1, theirs), TRUTH, {f"c{s}": arm(s, theirs) for s in (2, 3)})
    for rows, against in ((arm(60, theirs), "reference"), (arm(60), NEAREST)):
        found = judged(rows, exact)
        assert failing(found) == set()
        assert found.verdict in ALIGNED
        assert f"The mean difference from the {against} is" in gate(found, "bias").sentence
    other = judged(arm(60, constant(8)), exact)
    assert statuses(other)["bias"] == "FAIL"
    assert exit_status(other.verdict) == 1


def test_a_systematic_error_of_the_candidates_own_fails() -> None:
    """Half as large as the noise, so that the error ratio is hardly moved."""
    found = judged(arm(60, constant(8, 0.5 * NOISE)))
    assert "bias" in failing(found)
    assert "error_ratio" not in failing(found)
    assert BASELINE.reference.prompts[0].id in REFERENCE
