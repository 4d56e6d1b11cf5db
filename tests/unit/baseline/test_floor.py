"""The noise floor: what the baseline's own arms say that noise does."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from factories import RNG, arms, assert_scales_equal

from harness.baseline.baseline import Baseline
from harness.baseline.controls import RatioLimit
from harness.baseline.floor import (
    LARGE,
    arm_rows,
    choices,
    flip_probability,
    noise_floor,
)
from harness.baseline.scales import scales_of
from harness.statistics.margins import margins
from harness.statistics.noise import local_noise, row_spacing, top_k_rms_errors

BASELINE = arms(prompts=10, positions=6)


@pytest.mark.parametrize(
    ("margin", "deviation", "chance"),
    [
        (0.0, 1.0, 0.5),
        (1.0, 1.0, 0.15865525393145707),
        (1.0, 0.5, 0.022750131948179195),
        (3.0, 1.0, 0.0013498980316300933),
        (1.0, 0.0, 0.0),
        (0.0, 0.0, 0.0),
    ],
)
def test_the_chance_of_a_flip_is_the_normal_tail(
    margin: float, deviation: float, chance: float
) -> None:
    found = flip_probability(np.array([margin]), np.array([deviation]))
    assert found.tolist() == pytest.approx([chance])


def test_as_many_flip_as_are_predicted() -> None:
    random = RNG(3)
    margin, deviation = random.exponential(0.5, 20_000), random.uniform(0.1, 0.6, 20_000)
    flips = np.sum(random.normal(0.0, deviation) < -margin)
    assert flips == pytest.approx(flip_probability(margin, deviation).sum(), rel=0.05)


def test_a_control_is_held_against_the_reference_by_the_noise_of_the_other_arms() -> None:
    """Every figure of one prompt, from its definition."""
    floor = noise_floor(BASELINE)
    assert floor is not None
    assert BASELINE.oracle is not None
    assert floor.controls == 2
    prompt = BASELINE.reference.prompts[3]
    reference, truth = prompt.run.rows, arm_rows(BASELINE.oracle, prompt)
    controls = [arm_rows(c, prompt) for c in BASELINE.controls.values()]
    unit = row_spacing("bfloat16", reference)
    own, *errors = top_k_rms_errors([reference, *controls], truth)
    relative = []
    for rows, others in zip(controls, reversed(errors), strict=True):
        found = margins(reference, rows, choices(prompt.run), rows.top_ids[:, 0].astype(np.int64))
        relative.append(np.abs(found.shift) / local_noise([own, others], unit))
    mine = floor.prompts[prompt.id]
    assert mine.noise.tolist() == local_noise([own, *errors], unit).tolist()
    assert mine.arms.shift.tolist() == [r.tolist() for r in relative]
    assert mine.arms.positions.tolist() == list(range(6))
    assert truth.sketch is not None
    for rows, error in zip((reference, *controls), mine.arms.error, strict=True):
        assert rows.sketch is not None
        assert error.tolist() == (rows.sketch.astype(np.float64) - truth.sketch).tolist()
    assert mine.large.tolist() == np.mean([r > LARGE for r in relative], axis=0).tolist()


def test_the_tolerance_takes_one_scale_from_all_prompts() -> None:
    floor = noise_floor(BASELINE)
    assert floor is not None
    again = scales_of([p.arms for p in floor.prompts.values()], floor.limit)
    assert_scales_equal(floor.scales, again)
    limits = floor.tolerances()
    for name, part in floor.prompts.items():
        wanted = np.maximum(2 * part.unit, floor.scales.kappa * part.noise)
        assert limits[name].tolist() == wanted.tolist()


def test_no_shift_of_a_control_is_beyond_the_tolerance() -> None:
    floor = noise_floor(BASELINE)
    assert floor is not None
    furthest = max(float(p.arms.shift.max()) for p in floor.prompts.values())
    assert furthest < floor.scales.kappa < 5 * furthest


def test_a_row_that_is_not_finite_is_no_row_of_the_arms() -> None:
    """Neither in the errors nor in the shifts, of which one NaN would set the scale."""
    first = BASELINE.reference.prompts[0]
    rows = first.run.rows
    broken = replace(rows, nonfinite=np.array([0, 0, 1, 0, 0, 0], np.int32))
    run = first.run.model_copy(update={"rows": broken})
    prompts = (first.model_copy(update={"free": run}), *BASELINE.reference.prompts[1:])
    reference = BASELINE.reference.model_copy(update={"prompts": prompts})
    floor = noise_floor(replace(BASELINE, reference=reference))
    assert floor is not None
    arms_ = floor.prompts[first.id].arms
    assert arms_.positions.tolist() == [0, 1, 3, 4, 5]
    assert arms_.error.shape == (3, 5, 64)
    assert arms_.shift.shape == (2, 6)
    assert not arms_.shift[:, 2].any()


def test_more_noise_predicts_more_flips() -> None:
    floor = noise_floor(BASELINE)
    assert floor is not None
    assert floor.limit.inflations == RatioLimit().inflations == (1.0, 1.5)
    total = np.sum([p.predicted.sum(axis=0) for p in floor.prompts.values()], axis=0)
    assert 0.0 < total[0] < total[1] < 60
    assert all((p.predicted <= 0.5).all() for p in floor.prompts.values())


def test_without_oracle_or_with_one_control_there_is_no_floor() -> None:
    one = dict(list(BASELINE.controls.items())[:1])
    assert noise_floor(Baseline(BASELINE.reference, None, BASELINE.controls)) is None
    assert noise_floor(Baseline(BASELINE.reference, BASELINE.oracle, one)) is None


def test_normal_noise_has_the_scale_of_a_difference_of_four_errors() -> None:
    """A shift holds the errors of two tokens in two arms: 2 times one error."""
    wide = arms(prompts=40, positions=20, noise=0.2)
    floor = noise_floor(wide)
    assert floor is not None
    share = np.mean([p.large.mean() for p in floor.prompts.values()])
    beyond = math.erfc(LARGE / 2 / math.sqrt(2))
    # Less, since the reference's best token is chosen by its own errors too.
    assert 0.5 * beyond < share < 1.3 * beyond
