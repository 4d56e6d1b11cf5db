"""Damage with a pattern: a place in all outputs, a direction whose sign changes, one
prompt's scale. Means over rows or prompts do not see it."""

from __future__ import annotations

import numpy as np
import pytest
from factories import RNG, VOCABULARY, evidence, scales
from small_world import (
    BASELINE,
    NOISE,
    POSITIONS,
    PROMPTS,
    TRUTH,
    arm,
    at,
    damaged,
    failing,
    gate,
    judged,
    statuses,
)

from harness.alignment.gates.patterns import direction_gate, place_guard, scale_standing
from harness.alignment.outcomes import exit_status
from harness.baseline.controls import RatioLimit
from harness.baseline.floor import noise_floor
from harness.baseline.scales import scales_of

PATTERNS = ("place_guard", "direction", "row_slope")
INDEX = np.arange(POSITIONS)
#: Where a fault's sign changes: of the index of a prompt.
SIGNS = {
    "rows": lambda _: np.where(INDEX % 2, 1.0, -1.0),
    "halves": lambda _: np.where(INDEX < POSITIONS // 2, 1.0, -1.0),
    "prompts": lambda k: np.full(POSITIONS, 1.0 if k % 2 else -1.0),
    "at random": lambda k: RNG(900 + k).choice([-1.0, 1.0], POSITIONS),
}


@pytest.mark.parametrize("seed", range(70, 80))
def test_a_correct_engine_has_no_pattern(seed: int) -> None:
    found = judged(arm(seed))
    assert {name: statuses(found)[name] for name in PATTERNS} == dict.fromkeys(PATTERNS, "PASS")
    for name in ("place_guard", "direction"):
        mine = gate(found, name)
        assert mine.value is not None
        assert mine.limit is not None
        assert mine.value < 0.85 * mine.limit


@pytest.mark.parametrize(
    ("position", "words"), [(0, "position 0 of each"), (7, "position 7 of each"), (3, "position 3")]
)
def test_the_same_position_of_every_output_fails(position: int, words: str) -> None:
    """Three times the error at one position in eight, which the error ratio allows."""
    found = judged(damaged(arm(60), {f"p{i}": at(position, 3.0) for i in range(PROMPTS)}))
    assert "place_guard" in failing(found)
    assert "error_ratio" not in failing(found)
    assert words in gate(found, "place_guard").sentence
    assert exit_status(found.verdict) == 1


def test_one_prompt_that_is_far_out_is_no_place() -> None:
    found = judged(damaged(arm(60), {"p3": np.full(POSITIONS, 20.0)}))
    assert "prompt_guard" in failing(found)
    assert statuses(found)["place_guard"] == "PASS"


@pytest.mark.parametrize("signs", sorted(SIGNS))
def test_a_direction_whose_sign_changes_fails(signs: str) -> None:
    """Of the noise's own size, so that 0.4 of the squared error lie in it, among all ids."""
    direction = RNG(5).standard_normal(VOCABULARY)
    direction *= 0.8 * NOISE * np.sqrt(VOCABULARY) / np.linalg.norm(direction)
    rows = {
        name: z + SIGNS[signs](k)[:, None] * direction for k, (name, z) in enumerate(TRUTH.items())
    }
    found = judged(arm(60, rows))
    assert "direction" in failing(found)
    assert not {"error_ratio", "bias"} & failing(found)
    assert exit_status(found.verdict) == 1


def test_a_direction_of_one_prompt_is_for_the_guard_of_prompts() -> None:
    rows = dict(TRUTH)
    rows["p5"] = TRUTH["p5"] + 20 * NOISE * np.eye(VOCABULARY)[7]
    found = judged(arm(60, rows))
    assert statuses(found)["direction"] == "PASS"
    assert "prompt_guard" in failing(found)


@pytest.mark.parametrize("by", [-0.03, 0.03])
def test_the_scale_of_one_prompt_fails(by: float) -> None:
    rows = {**TRUTH, "p9": (1.0 + by) * TRUTH["p9"]}
    found = judged(arm(60, rows))
    assert "row_slope" in failing(found)
    assert "slope" not in failing(found)
    assert f"prompt p9 are scaled by {by:+.3f}"[:-1] in gate(found, "row_slope").sentence


def test_a_row_that_is_far_out_does_not_scale_its_prompt() -> None:
    found = judged(damaged(arm(60), {"p9": at(3, 24.0)}))
    assert statuses(found)["row_slope"] == "PASS"


def test_the_arms_stand_as_the_candidate_does() -> None:
    mine, arms = scale_standing(evidence())
    assert mine.shape == (20,)
    assert arms.shape == (20, 3)
    assert not mine.any()
    assert not arms.any()


def test_limits_come_from_the_arms() -> None:
    floor = noise_floor(BASELINE)
    assert floor is not None
    found = floor.scales
    assert found.place_limit == max(1.8, 1.5 * found.place_largest)
    assert 1.0 < found.place_largest < 1.5
    assert found.direction_limit == pytest.approx(1.4 * found.direction_largest)
    assert 1.0 < found.direction_largest < 2.0
    assert found.white is not None
    assert found.white.shape == (64, 64)


def test_arms_that_share_errors_allow_another_computation_more() -> None:
    """What they show of a direction is understated as much as their noise is."""
    arms = [part for part in evidence().arms if part is not None]
    alone, shared = (scales_of(arms, RatioLimit(hidden=h)) for h in (1.0, 1.4))
    assert shared.direction_limit == pytest.approx(1.4 * alone.direction_limit)
    assert shared.direction_largest == alone.direction_largest


def test_gates_take_the_limits_of_the_scales() -> None:
    assert place_guard(evidence(), scales(place_limit=0.9), None).status == "FAIL"
    assert direction_gate(evidence(), scales(direction_limit=0.5), None).status == "FAIL"
