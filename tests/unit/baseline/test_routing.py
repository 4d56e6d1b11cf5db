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


def test_without_a_departure_they_are_rare_and_every_row_is_kept() -> None:
    found = noise({})
    assert found.rare
    assert found.kept("p3", TOKENS, None) == TOKENS
    assert all((d.row, d.tokens) == (TOKENS, 0) for d in found.arms["p3"])
    assert found.noise is not None
    assert 0.0 < found.noise < 0.1


def test_rows_after_a_rare_departure_of_an_arm_or_of_the_candidate_are_not_kept() -> None:
    found = noise({"control-1": {("p3", 4): 1}})
    assert found.kept("p3", TOKENS, None) == 4
    assert found.kept("p3", TOKENS, Departure(2, 0.009, 1)) == 2
    assert found.kept("p3", 3, Departure(5, 0.009, 1)) == 3
    assert found.kept("p4", TOKENS, Departure(0, 0.009, 3)) == 0


def test_a_departure_at_a_wide_margin_excuses_nothing() -> None:
    found = noise({})
    assert found.widest is not None
    assert found.widest < 0.5
    far = Departure(1, 0.5, 1)
    assert not found.explained(far)
    assert found.kept("p3", TOKENS, far) == TOKENS
    assert found.explained(Departure(TOKENS, math.nan, 0))


def test_where_arms_depart_often_their_rows_show_how_far_such_rows_go() -> None:
    often = {(f"p{k}", 2): 0 for k in range(PROMPTS)}
    found = noise({"reference": often, "control-1": often})
    assert not found.rare
    assert found.kept("p3", TOKENS, Departure(2, 0.009, 1)) == TOKENS


def test_few_prompts_of_which_all_depart_are_often_too() -> None:
    part = replace(routed({}), reference=routed({}).reference)
    every = {(f"p{k}", 2): 0 for k in range(PROMPTS)}
    flips = {"reference": every, "control-1": every, "control-2": every}
    first = routed(flips)
    kept = first.reference.prompts[:3]
    few = replace(part, reference=first.reference.model_copy(update={"prompts": kept}))
    few = replace(few, oracle=first.oracle, controls=first.controls)
    found = route_noise(few, LIMIT)
    assert found is not None
    assert sum(map(len, found.arms.values())) == 9
    assert not found.rare


def test_without_margins_any_departure_may_be_rounding() -> None:
    found = noise({"reference": {("p1", 1): 0}}, margin=False)
    assert (found.noise, found.widest) == (None, None)
    assert found.explained(Departure(0, math.nan, 1))


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
    assert found.margin == pytest.approx(margin, nan_ok=True)


def test_what_all_tell_is_the_end() -> None:
    [first, second] = alike([told([1, 2, 3]), told([9, 2, 3, 4])])
    assert first.chosen[:, 0].tolist() == [1, 2, 3]
    assert second.chosen[:, 0].tolist() == [2, 3, 4]
    assert alike([]) == []
