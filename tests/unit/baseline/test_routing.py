"""How far the arms' routers leave the oracle's choice, on fake devices with made-up routes."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from factories import fake_baseline, fake_suite, with_routes

from harness.baseline.baseline import Baseline
from harness.baseline.controls import RatioLimit
from harness.baseline.floor import noise_floor
from harness.baseline.routing import Departure, RouteNoise, alike, departure, route_noise
from harness.statistics.routes import Routes

PROMPTS, TOKENS = 12, 6
SUITE = fake_suite(prompts=PROMPTS, tokens=TOKENS)
LIMIT = RatioLimit()


@cache
def arms() -> Baseline:
    return fake_baseline(SUITE)


def routed(flips: dict[str, dict[tuple[str, int], int]], margin: bool = True) -> Baseline:
    """``flips`` by arm; the oracle tells margins."""
    found = arms()
    assert found.oracle is not None
    return replace(
        found,
        reference=with_routes(found.reference, flips.get("reference", {})),
        oracle=with_routes(found.oracle, {}, margin),
        controls={n: with_routes(c, flips.get(n, {})) for n, c in found.controls.items()},
    )


def noise(flips: dict[str, dict[tuple[str, int], int]], margin: bool = True) -> RouteNoise:
    found = route_noise(routed(flips, margin), LIMIT)
    assert found is not None
    return found


def at(row: int, margin: float = 0.009) -> Departure:
    """A candidate's, of one row."""
    return Departure(row, margin, 1, np.arange(TOKENS) == row)


def test_without_a_departure_every_row_is_judged() -> None:
    found = noise({})
    assert found.left_out == "after"
    assert found.judged("p3", TOKENS, None).all()
    assert all((d.row, d.tokens) == (TOKENS, 0) for d in found.arms["p3"])
    assert found.noise is not None
    assert 0.0 < found.noise < 0.1


def test_rows_after_a_departure_of_an_arm_or_of_the_candidate_are_left_out() -> None:
    found = noise({"control-1": {("p3", 4): 1}})
    assert found.judged("p3", TOKENS, None).tolist() == [True] * 4 + [False] * 2
    assert found.judged("p3", TOKENS, at(2)).tolist() == [True] * 2 + [False] * 4
    assert found.judged("p3", 3, at(5)).tolist() == [True] * 3
    assert not found.judged("p4", TOKENS, at(0)).any()


def test_a_departure_at_a_wide_margin_leaves_nothing_out() -> None:
    found = noise({})
    assert found.widest is not None
    assert found.widest < 0.5
    far = at(1, margin=0.5)
    assert not found.explained(far)
    assert found.judged("p3", TOKENS, far).all()
    assert found.explained(at(TOKENS, margin=math.nan))


def test_where_all_prompts_depart_early_the_rows_of_other_experts_are_left_out() -> None:
    early = {(f"p{k}", 0): 0 for k in range(PROMPTS)}
    found = noise({"reference": early, "control-1": early, "control-2": early})
    assert found.left_out == "other"
    assert found.judged("p3", TOKENS, at(2)).tolist() == [False, True, False, True, True, True]


def test_where_nearly_all_rows_have_other_experts_none_is_left_out() -> None:
    every = {(f"p{k}", n): 0 for k in range(PROMPTS) for n in range(TOKENS - 1)}
    found = noise({"control-1": every})
    assert found.left_out == "none"
    assert found.judged("p3", TOKENS, at(2)).all()


def test_without_margins_any_departure_may_be_rounding() -> None:
    found = noise({"reference": {("p1", 1): 0}}, margin=False)
    assert (found.noise, found.widest) == (None, None)
    assert found.explained(at(0, margin=math.nan))


def test_too_few_choices_tell_no_margin() -> None:
    """One row, three layers, two arms: six choices, of which four might flip unseen."""
    made = fake_baseline(fake_suite(prompts=1, tokens=1))
    assert made.oracle is not None
    told = Baseline(
        with_routes(made.reference),
        with_routes(made.oracle),
        {"control-1": with_routes(made.controls["control-1"])},
    )
    found = route_noise(told, LIMIT)
    assert found is not None
    assert (found.noise, found.widest) == (None, None)


def test_an_arm_that_does_not_tell_leaves_nothing_to_say() -> None:
    whole = routed({})
    assert route_noise(replace(whole, oracle=None), LIMIT) is None
    control = {"control-1": arms().controls["control-1"]}
    assert route_noise(replace(whole, controls=control), LIMIT) is None
    assert route_noise(arms(), LIMIT) is None


def test_the_floor_leaves_out_what_the_routes_leave_out() -> None:
    floor = noise_floor(routed({"control-2": {("p3", 4): 1}}))
    assert floor is not None
    assert floor.prompts["p3"].arms.positions.tolist() == [0, 1, 2, 3]
    assert (floor.prompts["p3"].arms.shift[:, 4:] == 0.0).all()
    assert len(floor.prompts["p4"].arms.positions) == TOKENS


def told(rows: list[int]) -> Routes:
    margins = np.arange(1, len(rows) + 1, dtype=np.float32)[:, None] / np.float32(10)
    return Routes(np.array(rows, np.uint16)[:, None], margins)


@pytest.mark.parametrize(
    ("arm", "row", "margin", "tokens"),
    [
        ([7, 7, 7, 7, 7], 2, math.nan, 0),
        ([7, 7, 7, 7, 8], 1, 0.5, 1),
        ([7, 7, 7, 8, 8], 0, 0.4, 2),
        ([7, 8, 7, 7, 8], 0, 0.2, 2),  # a token of the prompt: every row follows it
    ],
)
def test_the_first_row_that_follows_another_choice(
    arm: list[int], row: int, margin: float, tokens: int
) -> None:
    found = departure(told(arm), told([7] * 5), rows=2)
    assert (found.row, found.tokens) == (row, tokens)
    assert found.other.tolist() == [a != 7 for a in arm[-2:]]
    assert found.margin == pytest.approx(margin, nan_ok=True)


def test_what_all_tell_is_the_end() -> None:
    [first, second] = alike([told([1, 2, 3]), told([9, 2, 3, 4])])
    assert first.chosen[:, 0].tolist() == [1, 2, 3]
    assert second.chosen[:, 0].tolist() == [2, 3, 4]
    assert alike([]) == []
