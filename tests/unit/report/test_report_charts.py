"""Charts are pure functions of figures and never tell by colour alone."""

from __future__ import annotations

import math
import re

import pytest
from report_alignments import prompt

from harness.report import charts
from harness.report.charts.frame import ticks
from harness.report.charts.heat import MOST_ROWS
from harness.report.views.prompt import Series
from harness.report.views.sections import Depth, HeadRow
from harness.statistics.intervals import Interval


def series(candidate: object, reference: object, *marks: tuple[int, ...]) -> Series:
    failing, flips = marks or ((), ())
    return Series("p", candidate, reference, failing, flips)  # type: ignore[arg-type]


@pytest.mark.slow
def test_many_positions_are_binned_and_missing_ones_break_the_line() -> None:
    many = series(tuple([0.1, None, 0.3] * 1_000), (0.1,) * 3_000, (5,), (6,))
    assert len(charts.error_chart(many, "x")) < 20_000
    heat = charts.heat_map([many] * 300, "x")
    assert heat is not None
    assert (len(heat.rows), heat.left_out) == (MOST_ROWS, 100)
    assert len(heat.svg) < 4_000_000
    line = re.search(
        r'candidate" d="([^"]*)"', charts.error_chart(series((0.1, None, 0.3), ()), "x")
    )
    assert line is not None
    assert line[1].count("M") == 2


def test_what_fails_is_told_by_a_mark_and_not_by_colour_alone() -> None:
    one = series((1.0, 9.0, 1.0), (1.0, 1.0, 0.0), (1,), (2,))
    heat = charts.heat_map([one], "x")
    assert heat is not None
    assert re.search(r'class="cross" d="M[^"]+"', heat.svg)
    assert re.search(r'class="dot" d="M[^"]+"', heat.svg)
    assert 'class="h4"' in heat.svg
    assert (heat.rows[0].largest, heat.rows[0].at, heat.rows[0].failing) == ("∞", "2", 1)
    drawn = charts.error_chart(one, "x")
    assert re.search(r'class="flip" d="M[^"]+"', drawn)
    assert re.search(r'class="cross" d="M[^"]+"', drawn)


def test_nothing_is_drawn_of_nothing() -> None:
    empty = series((), ())
    assert charts.error_chart(empty, "x") == ""
    assert charts.heat_map([empty], "x") is charts.heat_map([], "x") is None
    assert charts.scatter([], "x") is charts.survival([], 4, "x") is None
    assert charts.depth_chart([Depth("a", None, None)], "x") == ""
    assert charts.trend_chart([Interval(value=None, low=None, high=None)], 1.5, "x") == ""
    assert charts.gauge(Interval(value=None, low=None, high=None), 1.5) == ""


def test_the_scatter_counts_flips_by_margin() -> None:
    one = prompt(count=8, flip=2, bad=5)
    margins = [0.0, 0.1, 0.125, 0.2, 1.5, 3.0, 9.0, None]
    positions = one.positions.model_copy(update={"margin": margins, "shift": [0.0625] * 8})
    found = charts.scatter([one.model_copy(update={"positions": positions})], "x")
    assert found is not None
    assert found.positions == 7
    assert [row.positions for row in found.bins] == [1, 2, 1, 0, 0, 1, 1, 1]
    assert [row.flips for row in found.bins] == [0, 1, 0, 0, 0, 0, 0, 0]
    assert [row.failing for row in found.bins] == [0, 0, 0, 0, 0, 0, 1, 0]
    assert found.bins[1].rate == "50 %"
    assert re.search(r'class="flip" d="M[^"]+"', found.svg)
    assert re.search(r'class="cross" d="M[^"]+"', found.svg)


def test_dots_beyond_the_range_are_counted_and_drawn_at_the_edge() -> None:
    found = charts.scatter([prompt(count=50)], "x")
    assert found is not None
    assert found.outside == 0
    one = prompt(count=50)
    far = one.positions.model_copy(update={"margin": [0.5] * 49 + [400.0]})
    found = charts.scatter([one.model_copy(update={"positions": far})], "x")
    assert found is not None
    assert found.outside == 1
    xs = [int(x) for x in re.findall(r"M(\d+) \d+h0", found.svg)]
    assert max(xs) == 708


def test_survival_falls_where_prompts_diverge() -> None:
    found = charts.survival([None, 0, 3, 3], 10, "x")
    assert found is not None
    assert found.rows == ((0, 3, "75 %"), (1, 3, "75 %"), (2, 3, "75 %"), (4, 1, "25 %"),
                          (8, 1, "25 %"), (9, 1, "25 %"))  # fmt: skip
    assert found.svg.count("V") >= 2


@pytest.mark.parametrize("length", [10**9, 10**300])
def test_a_claimed_length_is_not_counted_to(length: int) -> None:
    found = charts.survival([None, 0, 3, 3], length, "x")
    assert found is not None
    assert found.rows[-1] == (length - 1, 1, "25 %")
    assert found.svg.count("V") >= 2


def test_a_depth_chart_draws_both_lines() -> None:
    drawn = charts.depth_chart([Depth("a", 0.1, 0.05), Depth("b", 0.4, 0.05)], "x")
    assert 'class="line candidate"' in drawn
    assert 'class="line reference"' in drawn


def test_a_head_beyond_chance_has_a_dot_and_a_colour() -> None:
    rows = [HeadRow("2", (1.0, 5.0, 7.0, 12.3)), HeadRow("<3", (0.0, 0.0))]
    drawn = charts.head_chart(rows, 6.0, "x")
    found = dict(re.findall(r'class="(h\d|dot)" d="([^"]*)"', drawn))
    assert {name: path.count("M") for name, path in found.items()} == {
        "h0": 3, "h1": 0, "h2": 1, "h3": 1, "h4": 1, "dot": 2,
    }  # fmt: skip
    assert re.findall(r">([^<>]+)</text>", drawn) == ["2", "&lt;3", "0", "3"]
    assert charts.head_chart([], 6.0, "x") == ""
    assert charts.head_chart([HeadRow("2", ())], 6.0, "x") == ""


@pytest.mark.parametrize(("value", "over"), [(0.4, False), (1.0, False), (1.7, True)])
def test_the_reach_is_over_beyond_the_whole_tolerance(value: float, over: bool) -> None:
    assert ('class="fill over"' in charts.reach_bar(value)) == over


def test_ticks_are_round_and_within_their_ends() -> None:
    assert ticks(0, 10) == [0, 2, 4, 6, 8, 10]
    assert ticks(0.0, 0.09, 4) == pytest.approx([0, 0.02, 0.04, 0.06, 0.08])
    assert ticks(3, 3) == [3]
    assert ticks(0, math.inf) == [0]
    assert ticks(-1.1, 1.1, 5)[0] >= -1.1
