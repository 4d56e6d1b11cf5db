"""One prompt as the templates show it."""

from __future__ import annotations

import math

import pytest
from report_alignments import alignment, arm, prompt

from harness.report.views.alignment import view
from harness.report.views.prompt import MOST_CELLS, rms_ratio


def test_positions_around_the_shown_one_are_eight_on_either_side() -> None:
    shown = view(alignment(prompts=(prompt(count=40, flip=20), prompt("edge", flip=2))))
    assert [p.index for p in shown.prompts[0].window] == list(range(12, 29))
    assert [p.index for p in shown.prompts[1].window] == list(range(11))
    assert [p.index for p in shown.prompts[0].window if p.shown] == [20]
    assert len(shown.prompts[0].window[0].reference_top) == 5


def test_the_cells_mark_flips_failures_and_where_the_run_left_the_context() -> None:
    cells = view(alignment(prompts=(prompt(count=30, flip=11, bad=17),))).prompts[0].cells
    assert [c.index for c in cells if c.first] == [11]
    assert all(c.equal for c in cells[:11])
    assert not any(c.equal for c in cells[11:])
    assert [(c.index, c.marks) for c in cells if c.marks] == [(11, "f"), (17, "x")]


def test_long_runs_are_set_side_by_side_around_the_divergence() -> None:
    found = view(alignment(prompts=(prompt(count=2_000, flip=1_000),))).prompts[0]
    assert (found.cells_before, len(found.cells), found.cells_after) == (744, MOST_CELLS, 744)
    assert [c.index for c in found.cells if c.first] == [1_000]


def test_the_reach_is_the_shift_over_its_tolerance() -> None:
    position = view(alignment(prompts=(prompt(count=5, flip=1),))).prompts[0].position
    assert position is not None
    assert position.reach == 0.0625 / 0.1875


def test_a_forced_run_never_diverges() -> None:
    found = alignment(candidate=arm("candidate", replay="forced-decode"), prompts=(prompt(),))
    shown = view(found).prompts[0]
    assert not shown.free
    assert shown.divergence.en == "no free run"


def test_a_position_of_no_known_class_shows_a_dash() -> None:
    one = prompt(count=4)
    positions = one.positions.model_copy(update={"class_": [None] * 4})
    one = one.model_copy(update={"positions": positions, "class_": None})
    assert [p.class_ for p in view(alignment(prompts=(one,))).prompts[0].window] == ["—"] * 4


@pytest.mark.parametrize(
    ("ours", "theirs", "ratio"),
    [
        ([3.0, 4.0, None], [1.0, 0.0, 7.0], 5.0),
        ([3e200, 4e200], [1e200, 0.0], 5.0),  # whose squares no double holds
        ([3e-200, 4e-200], [1e-200, 0.0], 5.0),
        ([0.0], [0.0], None),
        ([1.0], [0.0], math.inf),
        ([None], [1.0], None),
    ],
)
def test_the_ratio_of_root_mean_squares(
    ours: list[float | None], theirs: list[float | None], ratio: float | None
) -> None:
    found = rms_ratio(ours, theirs)
    assert found == (None if ratio is None else pytest.approx(ratio))
