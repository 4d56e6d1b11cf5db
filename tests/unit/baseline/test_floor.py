"""The noise floor: what the baseline's own arms say that noise does."""

from __future__ import annotations

import math

import numpy as np
import pytest
from factories import RNG, arms

from harness.baseline.baseline import Baseline
from harness.baseline.floor import (
    INFLATIONS,
    LARGE,
    arm_rows,
    choices,
    flip_probability,
    noise_floor,
)
from harness.statistics.margins import margins
from harness.statistics.noise import local_noise, rms_error, row_spacing

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
    own, *errors = (rms_error(rows, truth, 64) for rows in (reference, *controls))
    relative = []
    for rows, others in zip(controls, reversed(errors), strict=True):
        found = margins(reference, rows, choices(prompt.run), rows.top_ids[:, 0].astype(np.int64))
        relative.append(np.abs(found.shift) / local_noise([own, others], unit))
    mine = floor.prompts[prompt.id]
    assert mine.noise.tolist() == local_noise([own, *errors], unit).tolist()
    assert mine.kappa == max(float(r.max()) for r in relative)
    assert mine.large.tolist() == np.mean([r > LARGE for r in relative], axis=0).tolist()


def test_the_tolerance_takes_the_largest_of_all_prompts() -> None:
    floor = noise_floor(BASELINE)
    assert floor is not None
    assert floor.kappa == max(p.kappa for p in floor.prompts.values())
    limits = floor.tolerances()
    for name, part in floor.prompts.items():
        assert (limits[name] >= 2 * part.unit).all()
        assert (limits[name] >= 2 * floor.kappa * part.noise * (1 - 1e-12)).all()


def test_more_noise_predicts_more_flips() -> None:
    floor = noise_floor(BASELINE)
    assert floor is not None
    assert INFLATIONS == (1.0, 1.5)
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
