"""The gate on paired times: known answers, and its error rates by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from harness.bench.gate import LOOKS, Paired, decided, judge_pairs, log_ratio
from harness.messages.render import render

RNG = np.random.default_rng


def _sequence(random: np.random.Generator, effect: float, spread: float) -> Paired:
    """Blocks until the gate decides. Each has heavy tails, as a shared host's."""
    ratios: list[float] = []
    while True:
        ratios.append(math.log(effect) + spread * float(random.standard_t(4)) / math.sqrt(2))
        found = decided(ratios)
        if found is not None:
            return found


def test_a_block_cancels_a_linear_drift() -> None:
    times = [1.0, 1.1, 1.2, 1.3]  # A B B A while the host slows down
    assert log_ratio([times[0], times[3]], [times[1], times[2]]) == pytest.approx(0.0, abs=8e-3)
    assert log_ratio([2.0, 2.0], [1.0, 1.0]) == pytest.approx(-math.log(2))


@pytest.mark.parametrize("sides", [([], [1.0]), ([1.0], []), ([0.0], [1.0]), ([1.0], [-1.0])])
def test_a_block_without_times_is_refused(sides: tuple[list[float], list[float]]) -> None:
    with pytest.raises(ValueError, match="above 0"):
        log_ratio(*sides)


def test_known_interval() -> None:
    found = judge_pairs([0.01, 0.03])
    # Mean 0.02, standard error 0.01, t(0.99, 1) = 63.6567.
    assert found.ratio == pytest.approx(math.exp(0.02))
    assert found.high == pytest.approx(math.exp(0.02 + 0.636567), rel=1e-5)
    assert found.outcome == "INCONCLUSIVE"
    with pytest.raises(ValueError, match="two blocks"):
        judge_pairs([0.1])


@pytest.mark.parametrize(
    ("value", "outcome"),
    [(math.log(1.05), "REGRESSED"), (math.log(0.95), "IMPROVED"), (0.0, "EQUIVALENT")],
)
def test_blocks_that_agree_decide_at_the_first_look(value: float, outcome: str) -> None:
    ratios = [value + 1e-4 * (-1) ** i for i in range(LOOKS[0])]
    assert decided(ratios[:-1]) is None
    found = decided(ratios)
    assert found is not None
    assert found.outcome == outcome


def test_what_is_not_decided_goes_on_to_the_last_look() -> None:
    ratios = [0.2 * (-1) ** i for i in range(LOOKS[-1])]
    assert all(decided(ratios[:n]) is None for n in range(2, LOOKS[-1]))
    last = decided(ratios)
    assert last is not None
    assert last.outcome == "INCONCLUSIVE"
    assert "not decided" in render(last.message, "en")


@pytest.mark.parametrize("spread", [0.005, 0.02, 0.04])
def test_a_configuration_against_itself_is_hardly_ever_called_slower(spread: float) -> None:
    random = RNG(1)
    outcomes = [_sequence(random, 1.0, spread).outcome for _ in range(1000)]
    assert outcomes.count("REGRESSED") + outcomes.count("IMPROVED") <= 10  # 1 %


@pytest.mark.parametrize(("spread", "least"), [(0.005, 1.0), (0.02, 0.99), (0.03, 0.9)])
def test_a_slowdown_of_five_percent_is_found(spread: float, least: float) -> None:
    random = RNG(2)
    outcomes = [_sequence(random, 1.05, spread).outcome for _ in range(500)]
    assert outcomes.count("REGRESSED") >= least * 500
    assert "EQUIVALENT" not in outcomes


def test_the_detectable_slowdown_is_detected_in_half_of_the_cases() -> None:
    random = RNG(3)
    n, spread = 16, 0.02
    # The reach of the interval varies with the sample; take its typical value.
    typical = np.median(
        [judge_pairs(spread * random.standard_normal(n)).detectable for _ in range(500)]
    )
    hits = [
        judge_pairs(math.log(typical) + spread * random.standard_normal(n)).outcome == "REGRESSED"
        for _ in range(500)
    ]
    assert 0.4 < np.mean(hits) < 0.6
