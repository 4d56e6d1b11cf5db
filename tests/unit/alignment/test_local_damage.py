"""Damage of a row or of a prompt, which averages over a suite hide."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from factories import RNG, again, evidence, forced_recording, scales
from small_world import (
    BASELINE,
    NOISE,
    POSITIONS,
    PROMPTS,
    REFERENCE,
    TRUTH,
    arm,
    at,
    baseline_of,
    damaged,
    failing,
    gate,
    judged,
    statuses,
)

from harness.alignment.align import compare
from harness.alignment.gates.local import prompt_guard, prompt_standing, row_guard, standing_out
from harness.alignment.outcomes import exit_status

AVERAGES = {"error_ratio", "error_ratio_decode", "top_k_error_ratio", "bias", "slope"}


@pytest.mark.parametrize("seed", range(40, 46))
def test_rows_and_prompts_of_a_correct_engine_stand_as_the_arms_do(seed: int) -> None:
    found = judged(arm(seed))
    for name in ("row_guard", "prompt_guard"):
        mine = gate(found, name)
        assert mine.status == "PASS"
        assert mine.value is not None
        assert mine.limit is not None
        assert mine.value < 0.75 * mine.limit


@pytest.mark.parametrize(("name", "position"), [("p0", 0), ("p17", 3), ("p31", 7)])
def test_one_row_with_24_times_the_error_fails(name: str, position: int) -> None:
    """In 256, among ids that no list of likely tokens holds: averages do not see it."""
    found = judged(damaged(arm(40), {name: at(position, 24.0)}))
    assert failing(found) == {"row_guard"}
    assert f"(position {position} of prompt {name})" in gate(found, "row_guard").sentence
    assert found.verdict == "DRIFT"
    verdicts = {p.id: p.verdict for p in found.prompts}
    assert verdicts.pop(name) == "DRIFT"
    assert not {"DRIFT", "DIVERGENT"} & set(verdicts.values())


def test_one_row_with_4_times_the_error_fails_by_itself_alone() -> None:
    found = judged(damaged(arm(40), {"p17": at(3, 4.5)}))
    assert "row_guard" in failing(found)
    assert not AVERAGES & failing(found)


def every(period: int, times: float) -> dict[str, np.ndarray]:
    """One row of so many, in all prompts."""
    flat = np.arange(PROMPTS * POSITIONS).reshape(PROMPTS, POSITIONS)
    return {f"p{k}": np.where(rows % period == 5, times, 1.0) for k, rows in enumerate(flat)}


def test_every_sixteenth_row_with_4_times_the_error_fails() -> None:
    found = judged(damaged(arm(41), every(16, 4.0)))
    assert "row_guard" in failing(found)
    assert "error_ratio" not in failing(found)
    assert exit_status(found.verdict) == 1


def test_many_rows_that_stand_out_fail_together() -> None:
    """None of them is beyond the limit of one row."""
    found = judged(damaged(arm(41), every(8, 2.3)))
    mine = gate(found, "row_guard")
    assert mine.status == "FAIL"
    assert mine.value is not None
    assert mine.limit is not None
    assert mine.value < mine.limit
    assert "of 256 rows have more than 2.16 times the error" in mine.sentence
    assert "where at most 3 may" in mine.sentence


def test_a_few_rows_a_little_off_are_no_damage() -> None:
    """Fewer than the one in a hundred that arms have so far out."""
    few = {f"p{k}": at(2, 2.0) for k in (3, 9)}
    assert statuses(judged(damaged(arm(42), few)))["row_guard"] == "PASS"


def test_a_position_that_is_hard_for_all_arms_is_no_damage() -> None:
    """Every arm has ten times the noise there, and so has the candidate."""

    def hard(seed: int) -> dict[str, np.ndarray]:
        rows, random = arm(seed), RNG(1000 + seed)
        for name in ("p3", "p11"):
            rows[name][5] += 10 * NOISE * random.standard_normal(64).astype(np.float32)
        return rows

    baseline = baseline_of(hard(1), controls={f"control-{s}": hard(s) for s in (2, 3)})
    assert not {"row_guard", "prompt_guard"} & failing(judged(hard(43), baseline))
    # A position that is hard for the candidate alone is damage.
    own = {**hard(43), "p20": hard(43)["p20"].copy()}
    own["p20"][5] += 10 * NOISE * RNG(3).standard_normal(64).astype(np.float32)
    assert "row_guard" in failing(judged(own, baseline))


def test_an_outlier_of_one_arm_hides_no_row_of_the_candidate() -> None:
    controls = {
        "control-2": damaged(arm(2), {"p5": at(1, 24.0)}),
        "control-3": arm(3),
    }
    found = judged(damaged(arm(40), {"p9": at(4, 8.0)}), baseline_of(REFERENCE, controls=controls))
    assert "row_guard" in failing(found)
    assert statuses(judged(arm(40), baseline_of(REFERENCE, controls=controls)))["row_guard"] == (
        "PASS"
    )


@pytest.mark.parametrize("name", ["p0", "p30"])
def test_one_prompt_with_2_5_times_the_error_fails(name: str) -> None:
    found = judged(damaged(arm(44), {name: np.full(POSITIONS, 2.5)}))
    assert "prompt_guard" in failing(found)
    assert not AVERAGES & failing(found)
    assert f"most, {name}, has 2." in gate(found, "prompt_guard").sentence
    assert "1 prompt is beyond" in gate(found, "prompt_guard").sentence
    assert found.verdict == "DRIFT"
    assert {p.id for p in found.prompts if p.verdict == "DRIFT"} == {name}


def test_a_class_of_prompts_that_is_broken_fails_with_its_number() -> None:
    found = judged(damaged(arm(44), {f"p{k}": np.full(POSITIONS, 2.5) for k in range(5, 11)}))
    assert "6 prompts are beyond" in gate(found, "prompt_guard").sentence
    assert {p.id for p in found.prompts if p.verdict == "DRIFT"} == {f"p{k}" for k in range(5, 11)}


def test_one_prompt_with_1_3_times_the_error_is_no_damage() -> None:
    found = judged(damaged(arm(45), {"p4": np.full(POSITIONS, 1.3)}))
    assert not {"row_guard", "prompt_guard"} & failing(found)


def test_a_candidate_without_any_error_stands_at_nothing() -> None:
    exact = {i: z.astype(np.float32) for i, z in TRUTH.items()}
    found = compare(again(forced_recording(exact, BASELINE.reference)), BASELINE)
    assert gate(found, "row_guard").value == 0.0
    assert statuses(found)["row_guard"] == "PASS"
    # Its prompts have no error at all, of which nothing stands out.
    assert statuses(found)["prompt_guard"] == "NOT_RUN"


def test_a_prompt_stands_by_its_typical_row() -> None:
    """Two rows that carry nearly all of its squared error move it little."""
    made = evidence(1, standing=(np.array([1.0] * 8 + [10.0, 10.0]),))
    assert prompt_standing(made)[0] == pytest.approx(10**0.2)
    assert prompt_standing(replace(made, standing=(np.zeros(4),))).tolist() == [0.0]
    some = replace(made, standing=(np.array([0.0, 2.0, 2.0]),))
    assert prompt_standing(some)[0] == pytest.approx(2.0)


def test_what_stands_out_is_what_the_guards_fail() -> None:
    """By prompt as by row, on both sides of the limits."""
    one_row = [np.where(np.arange(10) == 2, v, 1.0) for v in (3.0, 3.01)]
    made = evidence(4, standing=(*one_row, np.full(10, 1.79), np.full(10, 1.81)))
    assert set(standing_out(made, scales())) == {"p1", "p3"}
    assert row_guard(made, scales(), None).status == "FAIL"
    assert prompt_guard(made, scales(), None).status == "FAIL"
    within = made.take([0, 2])
    assert standing_out(within, scales()) == {}
    assert prompt_guard(within, scales(), None).status == "PASS"
    assert standing_out(replace(made, controls=0), scales()) == {}


def test_limits_come_from_the_baseline_and_not_from_the_prompts_that_were_run() -> None:
    """A prompt whose arms stand far out is left out; its limit stays."""
    whole, part = judged(arm(40)), judged({i: z for i, z in arm(40).items() if i in ("p0", "p1")})
    for name in ("row_guard", "prompt_guard"):
        assert gate(part, name).limit == gate(whole, name).limit
    assert BASELINE.controls
