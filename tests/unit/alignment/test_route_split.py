"""The error of a mixture of experts, by its routes."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from factories import fake_baseline, fake_record, fake_suite, with_routes

from harness.alignment.align import compare
from harness.baseline.baseline import Baseline
from harness.devices.fake import FakeDevice
from harness.recording.context import Context
from harness.recording.format import Recording
from harness.recording.recorder import Options
from harness.statistics.routes import Routes

SUITE = fake_suite(prompts=12, tokens=6)
LAYERS = 3


@cache
def arms() -> Baseline:
    return fake_baseline(SUITE)


@cache
def made() -> Recording:
    return fake_record(FakeDevice(seed=9), SUITE, Options(context=Context.of(arms().reference)))


def baseline(reference: dict[tuple[str, int], int], margin: bool = True) -> Baseline:
    found = arms()
    assert found.oracle is not None
    return replace(
        found,
        reference=with_routes(found.reference, reference),
        oracle=with_routes(found.oracle, {}, margin),
    )


def test_rows_are_split_by_the_oracles_routes() -> None:
    mine = {("p1", 0): 1, ("p2", 3): 0, ("p3", 2): 2}
    found = compare(with_routes(made(), mine), baseline({("p1", 0): 1, ("p7", 0): 0})).routes
    assert found is not None
    assert (found.layers, found.rows) == (LAYERS, 72)
    assert (found.candidate_flips, found.reference_flips, found.same_rows) == (3, 2, 68)
    assert found.candidate_margin == pytest.approx(0.5)
    assert found.reference_margin == pytest.approx(0.01)
    assert found.median_margin == pytest.approx(0.5)
    assert found.same_ratio is not None
    assert found.other_ratio is not None


def test_the_ratios_are_of_the_rows_that_they_are_said_to_be_of() -> None:
    """Against the figures of the whole: their squares add up."""
    mine = {("p4", k): 0 for k in range(6)}
    aligned = compare(with_routes(made(), mine), baseline({}))
    assert aligned.routes is not None
    rows = [p.positions for p in aligned.prompts if p.id == "p4"]
    own = np.concatenate([np.array(r.error, float) for r in rows])
    base = np.concatenate([np.array(r.reference_error, float) for r in rows])
    expected = np.sqrt((own**2).sum() / (base**2).sum())
    assert aligned.routes.other_ratio == pytest.approx(expected)


def test_without_a_flip_one_sentence_says_so() -> None:
    aligned = compare(with_routes(made(), {}), baseline({}))
    told = [s for s in aligned.warnings if "router" in s.lower()]
    assert told == [
        "Every router of 3 layers chose the oracle's experts in all 72 rows, in the reference too."
    ]
    assert aligned.routes is not None
    assert aligned.routes.other_ratio is None
    assert aligned.routes.candidate_margin == 0.0


def test_margins_are_left_out_where_the_oracle_does_not_tell_them() -> None:
    found = compare(with_routes(made(), {("p1", 1): 0}), baseline({}, margin=False))
    assert found.routes is not None
    assert (found.routes.candidate_margin, found.routes.median_margin) == (None, None)
    assert not any("margin at which" in s for s in found.warnings)


def test_nothing_is_said_where_a_side_does_not_tell_its_routes() -> None:
    assert compare(made(), arms()).routes is None
    assert compare(made(), baseline({})).routes is None
    assert compare(with_routes(made(), {}), arms()).routes is None
    partly = with_routes(made(), {})
    first = partly.prompts[0]
    bare = first.model_copy(
        update={
            "free": first.free.model_copy(update={"routes": None}),
            "forced": first.forced and first.forced.model_copy(update={"routes": None}),
        }
    )
    partly = partly.model_copy(update={"prompts": (bare, *partly.prompts[1:])})
    assert compare(partly, baseline({})).routes is None


def test_another_count_of_layers_is_another_model_and_is_not_split() -> None:
    other = with_routes(made(), {})
    cut = tuple(
        p.model_copy(
            update={
                "free": p.free.model_copy(update={"routes": Routes(p.free.routes.chosen[:, :2])}),
                "forced": p.forced
                and p.forced.model_copy(update={"routes": Routes(p.forced.routes.chosen[:, :2])}),
            }
        )
        for p in other.prompts
    )
    assert compare(other.model_copy(update={"prompts": cut}), baseline({})).routes is None
