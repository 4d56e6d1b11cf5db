"""The gates err as often as they say, on arms whose noise is known.

Each case is 500 runs; the figures are those of ``benchmarks/known_answers.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from known_answers import World, draw, simulate

from harness.alignment.evidence import Evidence
from harness.alignment.gates.bias import bias_shares
from harness.alignment.gates.counts import calibration
from harness.alignment.judge import judge

RUNS = 500
#: For damage: what is found in nearly all suites needs fewer of them to show that it is
#: found in 95 of 100.
DAMAGED = 100
HARD = {"shared_tail": 4.0}
OUTLIERS = {"tail": 8.0}
WORST = {"tail": 5.0}
#: Gates without an interval: a headroom beyond the arms' largest.
GUARDS = ("point_guard", "row_guard", "prompt_guard", "place_guard", "direction")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "noise", "failing"),
    [
        (4, {}, 0.01),
        (8, {}, 0.01),
        (16, {}, 0.01),
        pytest.param(64, {"positions": 8}, 0.01, marks=pytest.mark.nightly),
        (8, HARD, 0.01),
        (32, HARD, 0.01),
        (32, OUTLIERS, 0.01),
        # Guards take the largest of many, and outliers of each arm's own are the
        # hardest for them: see docs/verdict.md.
        (32, WORST, 0.03),
        (4, WORST, 0.04),
    ],
)
def test_intervals_cover_what_they_say_and_correct_arms_do_not_fail(
    prompts: int, noise: dict[str, Any], failing: float
) -> None:
    found = simulate(World(prompts=prompts, **noise), RUNS)
    for gate in ("error_ratio", "top_k_error_ratio", "slope"):
        # 95 %, with twice the deviation of 500 runs below it; never much too wide.
        assert 0.93 <= found.coverage[gate] <= 0.995, (gate, found.coverage)
    assert found.failing <= failing
    for status, share in found.statuses.items():
        name, _, outcome = status.partition(":")
        if outcome == "FAIL":
            assert share <= (0.03 if name in GUARDS else 0.0025), status


@pytest.mark.slow
def test_an_error_exactly_at_the_limit_is_seldom_decided() -> None:
    """The limit is where both errors are as frequent as the intervals say."""
    found = simulate(World(prompts=32, scale=1.5, positions=8), RUNS)
    for gate in ("error_ratio", "top_k_error_ratio"):
        assert found.statuses.get(f"{gate}:FAIL", 0.0) <= 0.005
        # An error within the limit and beyond that of the controls is a warning.
        below = found.statuses.get(f"{gate}:PASS", 0.0) + found.statuses.get(f"{gate}:WARN", 0.0)
        assert 0.005 <= below <= 0.05
    assert found.statuses.get("exceedance:FAIL", 0.0) <= 0.005
    assert found.statuses.get("flip_calibration:FAIL", 0.0) <= 0.005


@pytest.mark.parametrize(
    ("change", "gate"),
    [
        ({"scale": 2.0}, "error_ratio"),
        ({"scale": 3.0}, "top_k_error_ratio"),
        ({"scale": 4.0}, "exceedance"),
        ({"slope": 0.01}, "slope"),
        ({"bias": 0.8, "spread": 0.1}, "bias"),
    ],
)
def test_a_fault_of_this_size_is_found(change: dict[str, float], gate: str) -> None:
    found = simulate(World(prompts=32, **change), 40)  # type: ignore[arg-type]
    assert found.statuses.get(f"{gate}:FAIL", 0.0) >= 0.95
    assert found.failing >= 0.95


def test_margins_and_noise_predict_the_flips_of_normal_arms() -> None:
    random = np.random.default_rng(3)
    runs = [draw(World(prompts=16), random) for _ in range(300)]
    flips = sum(float(run.flips.sum()) for run in runs)
    predicted = sum(float(run.predicted[:, 0].sum()) for run in runs)
    assert flips == pytest.approx(predicted, rel=0.1)
    assert np.mean([calibration(run) for run in runs]) == pytest.approx(1.0, abs=0.1)


def test_the_bias_of_noise_alone_is_nothing_on_average() -> None:
    random = np.random.default_rng(4)
    values = []
    for _ in range(400):
        against_reference, _ = bias_shares(draw(World(prompts=6, positions=4), random))
        values.append(against_reference.value or 0.0)
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert np.std(values) < 0.1


def one_row(found: Evidence, times: float) -> Evidence:
    """The row in the middle of the suite has so many times its error."""
    k = len(found) // 2
    standing = list(found.standing)
    standing[k] = np.where(np.arange(len(standing[k])) == 5, times * standing[k], standing[k])
    return replace(found, standing=tuple(standing))


def every_sixteenth_row(found: Evidence, times: float) -> Evidence:
    rows = np.arange(found.positions.sum()).reshape(len(found), -1) % 16 == 7
    standing = (np.where(r, times * s, s) for r, s in zip(rows, found.standing, strict=True))
    return replace(found, standing=tuple(standing))


def one_prompt(found: Evidence, times: float) -> Evidence:
    """All rows of one prompt have so many times their error."""
    standing = list(found.standing)
    standing[1] = times * standing[1]
    return replace(found, standing=tuple(standing))


def one_bucket(found: Evidence, off: float) -> Evidence:
    """One bucket of ids is off at every position, by so many deviations of its noise.

    Of the candidate alone: its mean is that of all rows, of prompts of different noise.
    """
    error = found.mean_error.copy()
    size = np.sqrt(found.reference_error.sum() / found.rows.sum() / 16)
    error[:, 3] += off * size * found.positions
    return replace(found, mean_error=error)


def changing_scale(found: Evidence, slope: float) -> Evidence:
    """Every row is scaled, up or down: the squares of row slopes alone tell it."""
    return replace(found, tilt=found.tilt + slope**2 * found.positions)


def opposed_halves(found: Evidence, slope: float) -> Evidence:
    along = found.along + found.power * slope * np.array([0.0, 1.0, -1.0, 0.0, 0.0])
    return replace(found, along=along)


#: Of each new gate: the damage, how large, and in how many prompts.
DAMAGE: list[tuple[str, Callable[[Evidence, float], Evidence], float]] = [
    ("row_guard", one_row, 8.0),
    ("row_guard", every_sixteenth_row, 4.0),
    ("prompt_guard", one_prompt, 2.5),
    ("bucket", one_bucket, 1.0),
    ("row_slope", changing_scale, 0.02),
    ("slope", opposed_halves, 0.01),
]
LOCAL = (
    "row_guard", "prompt_guard", "place_guard", "greedy", "bucket", "direction", "row_slope"
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [4, 16, pytest.param(64, marks=pytest.mark.nightly)])
def test_the_new_gates_seldom_fail_a_correct_arm(prompts: int) -> None:
    """At most one in a hundred by any gate, and of these one in 200 by one gate."""
    found = simulate(World(prompts=prompts), RUNS, seed=7)
    assert found.failing <= 0.01
    for gate in LOCAL:
        assert found.statuses.get(f"{gate}:FAIL", 0.0) <= 0.005, gate
        assert found.statuses.get(f"{gate}:WARN", 0.0) <= 0.05, gate
        assert found.statuses.get(f"{gate}:NOT_RUN", 0.0) == 0.0, gate
    assert found.statuses.get("bias:FAIL", 0.0) <= 0.005
    assert found.statuses.get("slope:FAIL", 0.0) <= 0.005
    assert found.statuses.get("point_guard:FAIL", 0.0) <= 0.005


@pytest.mark.slow
@pytest.mark.parametrize("prompts", [16, 64])
@pytest.mark.parametrize(
    ("gate", "damage", "size"), DAMAGE, ids=[damage.__name__ for _, damage, _ in DAMAGE]
)
def test_damage_of_a_stated_size_is_found(
    gate: str, damage: Callable[[Evidence, float], Evidence], size: float, prompts: int
) -> None:
    """In 95 of 100 suites at least."""
    random = np.random.default_rng(8)
    found = 0
    for _ in range(DAMAGED):
        gates = judge(damage(draw(World(prompts=prompts), random), size)).gates
        found += next(g.status for g in gates if g.name == gate) == "FAIL"
    assert found >= 0.95 * DAMAGED
