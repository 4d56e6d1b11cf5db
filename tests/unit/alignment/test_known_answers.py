"""The gates err as often as they say, on arms whose noise is known.

Each case is 500 runs; the figures are those of ``benchmarks/known_answers.py``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from known_answers import World, draw, simulate

from harness.alignment.gates.counts import calibration
from harness.alignment.judge import judge

RUNS = 500
HARD = {"shared_tail": 4.0}
OUTLIERS = {"tail": 8.0}
WORST = {"tail": 5.0}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prompts", "noise", "failing"),
    [
        (4, {}, 0.01),
        (8, {}, 0.01),
        (16, {}, 0.01),
        (64, {"positions": 8}, 0.01),
        (8, HARD, 0.01),
        (32, HARD, 0.01),
        (32, OUTLIERS, 0.01),
        (32, WORST, 0.01),
        # Fewer than 16 prompts and outliers of this kind: see docs/verdict.md.
        (4, WORST, 0.02),
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
        if status.endswith(":FAIL") and not status.startswith("point_guard"):
            assert share <= 0.0025, status


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
    found = simulate(World(prompts=32, **change), 100)  # type: ignore[arg-type]
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
        gates = judge(draw(World(prompts=6, positions=4), random)).gates
        values.append(next(g.value for g in gates if g.name == "bias") or 0.0)
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error
    assert np.std(values) < 0.1
