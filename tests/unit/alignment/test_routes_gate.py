"""Rows whose route flipped: excused where rounding explains it, told where it does not."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from factories import fake_baseline, fake_record, fake_suite, with_routes

from harness.alignment.align import compare, evidence_of
from harness.alignment.gates.routes import routes_gate
from harness.alignment.result import Alignment, Gate
from harness.baseline.baseline import Baseline
from harness.baseline.controls import RatioLimit
from harness.baseline.routing import Departure, route_noise
from harness.devices.fake import FakeDevice
from harness.recording.context import Context
from harness.recording.format import Recording
from harness.recording.recorder import Options
from harness.statistics.rows import concatenate

PROMPTS, TOKENS = 12, 6
SUITE = fake_suite(prompts=PROMPTS, tokens=TOKENS)


@cache
def baseline() -> Baseline:
    found = fake_baseline(SUITE)
    assert found.oracle is not None
    return replace(
        found,
        reference=with_routes(found.reference),
        oracle=with_routes(found.oracle),
        controls={n: with_routes(c) for n, c in found.controls.items()},
    )


@cache
def made(fault: str = "none") -> Recording:
    context = Context.of(baseline().reference)
    return fake_record(FakeDevice(seed=9, fault=fault), SUITE, Options(context=context))


def damaged(prompt: str, row: int) -> Recording:
    """The candidate with one row of eight times the noise, as another expert makes it."""
    good, bad = made().prompt(prompt), made("scale").prompt(prompt)
    assert good is not None
    assert good.free is not None
    assert bad is not None
    wrong = bad.on(good.free.token_ids).rows
    rows = concatenate([good.free.rows[:row], wrong[row : row + 1], good.free.rows[row + 1 :]])
    mended = good.model_copy(update={"free": good.free.model_copy(update={"rows": rows})})
    prompts = tuple(mended if p.id == prompt else p for p in made().prompts)
    return made().model_copy(update={"prompts": prompts})


def gate(alignment: Alignment, name: str) -> Gate:
    return next(g for g in alignment.gates if g.name == name)


def failed(alignment: Alignment) -> set[str]:
    return {g.name for g in alignment.gates if g.status == "FAIL"}


def test_a_row_that_is_far_out_fails_where_its_route_is_the_oracle_s() -> None:
    found = compare(with_routes(damaged("p4", 0)), baseline())
    assert "row_guard" in failed(found)
    assert gate(found, "routes").status == "PASS"


def test_the_same_row_is_not_judged_where_its_route_flipped_at_a_narrow_margin() -> None:
    found = compare(with_routes(damaged("p4", 0), {("p4", 0): 1}), baseline())
    assert failed(found) == set()
    assert gate(found, "routes").status == "PASS"
    assert gate(found, "routes").value == pytest.approx(0.01)
    assert found.routes is not None
    assert (found.routes.rows, found.routes.judged) == (72, 66)
    assert any(r.message is not None and r.message.key == "routes.judged" for r in found.remarks)
    [classes] = [p.positions.class_ for p in found.prompts if p.id == "p4"]
    assert not {"DIVERGENT", "SILENT_DRIFT"}.intersection(classes)


def test_it_fails_where_its_route_flipped_at_a_wide_margin() -> None:
    found = compare(with_routes(damaged("p4", 3), {("p4", 3): 1}), baseline())
    assert {"row_guard", "routes"} <= failed(found)
    assert gate(found, "routes").value == pytest.approx(0.5)
    assert found.verdict in ("DRIFT", "DIVERGENT")


def test_a_wide_flip_alone_fails() -> None:
    found = compare(with_routes(made(), {("p4", 3): 1}), baseline())
    assert failed(found) == {"routes"}


def test_many_narrow_flips_fail_where_the_arms_have_none() -> None:
    flips = {(f"p{k}", 0): 1 for k in range(PROMPTS)}
    assert gate(compare(with_routes(made(), flips), baseline()), "routes").status == "FAIL"
    one = {("p0", 0): 1}
    assert gate(compare(with_routes(made(), one), baseline()), "routes").status == "PASS"


def test_a_device_that_does_not_tell_is_judged_by_all_its_rows() -> None:
    found = compare(damaged("p4", 0), baseline())
    assert "row_guard" in failed(found)
    assert gate(found, "routes").status == "NOT_RUN"
    assert compare(made(), baseline()).verdict in ("EQUIVALENT", "TOKEN_EXACT", "INCONCLUSIVE")


def test_a_dense_model_has_no_such_gate() -> None:
    found = fake_baseline(SUITE)
    assert "routes" not in [g.name for g in compare(made(), found).gates]


def test_evidence_leaves_out_what_is_not_judged() -> None:
    whole = evidence_of(with_routes(made()), baseline())
    part = evidence_of(with_routes(made(), {("p4", 0): 1}), baseline())
    at = whole.ids.index("p4")
    assert whole.rows[at].sum() == TOKENS
    assert part.rows[at].sum() == 0
    assert not part.push[at].any()
    assert part.positions[at] == TOKENS  # the row is there, so the suite is covered
    others = np.arange(PROMPTS) != at
    np.testing.assert_array_equal(whole.error[others], part.error[others])


def test_margins_that_the_oracle_does_not_tell_leave_the_count() -> None:
    found = baseline()
    assert found.oracle is not None
    told = replace(found, oracle=with_routes(found.oracle, {}, margin=False))
    few = compare(with_routes(made(), {("p4", 3): 1}), told)
    assert gate(few, "routes").status == "PASS"
    assert gate(few, "routes").limit is None
    flips = {(f"p{k}", n): 1 for k in range(PROMPTS) for n in range(TOKENS)}
    assert gate(compare(with_routes(made(), flips), told), "routes").status == "FAIL"


def test_no_prompt_is_not_a_pass() -> None:
    noise = route_noise(baseline(), RatioLimit())
    assert noise is not None
    assert routes_gate({}, noise, RatioLimit()).status == "NOT_RUN"
    told = {"p0": Departure(TOKENS, float("nan"), 0, np.zeros(TOKENS, np.bool_)), "p1": None}
    assert routes_gate(told, noise, RatioLimit()).status == "NOT_RUN"


def test_a_device_that_does_not_tell_is_held_against_all_rows_of_the_arms() -> None:
    """Else the arms' own departures would widen nothing, and the device's would stand out."""
    found = baseline()
    arm = with_routes(found.controls["control-1"], {("p4", 0): 1})
    told = replace(found, controls={**found.controls, "control-1": arm})
    assert evidence_of(with_routes(made()), told).rows.sum() == (PROMPTS - 1) * TOKENS
    assert evidence_of(made(), told).rows.sum() == PROMPTS * TOKENS


def test_no_sentence_counts_rows_that_are_not_judged() -> None:
    found = compare(with_routes(made(), {("p4", 0): 1}), baseline())
    point = gate(found, "point_guard").message
    assert point is not None
    assert point.values["positions"] == (PROMPTS - 1) * TOKENS
