"""Several alignments together."""

from __future__ import annotations

import pytest
from report_alignments import Page, alignment, arm, prompt

from harness.recording.format import SuiteFacts
from harness.report import to_html, to_markdown
from harness.report.views.alignment import views
from harness.report.views.overview import overview
from harness.statistics.intervals import Interval


def dated(day: int, ratio: float, **changes: object) -> object:
    created = f"2025-01-{day:02d}T00:00:00+00:00"
    environment = {"torch": f"2.{day}.0", "processor": "x", "driver": None}
    return alignment(
        candidate=arm("candidate", created=created, environment=environment),
        error_ratio=Interval(value=ratio, low=ratio - 0.1, high=ratio + 0.1),
        **changes,
    )


def test_runs_of_one_device_are_a_trend_oldest_first() -> None:
    found = overview(views([dated(3, 1.3), dated(1, 1.1), dated(2, 1.2)]))  # type: ignore[list-item]
    (trend,) = found.trends
    assert [one.value for one in trend.intervals] == [1.1, 1.2, 1.3]
    assert trend.points[0].changed is None
    assert trend.points[1].changed == (("environment.torch", "2.1.0", "2.2.0"),)
    assert trend.limit == 1.5


def test_different_devices_stand_side_by_side_without_a_trend() -> None:
    two = [alignment(), alignment("DRIFT", candidate=arm("candidate", "npu"))]
    found = overview(views(two))
    assert not found.trends
    assert found.alike
    (row, other) = found.prompts
    assert row.id == "capital"
    assert [cell[2] for cell in row.cells if cell] == ["EQUIVALENT", "EQUIVALENT"]
    assert other.cells[1] is not None
    assert other.cells[1][3].en == "7"


def test_a_prompt_that_one_does_not_have_is_a_dash() -> None:
    two = [alignment(), alignment(prompts=(prompt("second"), prompt("third")))]
    rows = {row.id: row.cells for row in overview(views(two)).prompts}
    assert rows["capital"][1] is None
    assert rows["third"][0] is None


def test_alignments_of_different_suites_are_said_not_to_compare() -> None:
    other = arm("candidate", suite=SuiteFacts(name="long", digest="00" * 32))
    two = [alignment(), alignment(candidate=other)]
    assert not overview(views(two)).alike
    assert "figures of different rows cannot be compared" in Page(to_html(two)).text
    assert "figures of different rows cannot be compared" in to_markdown(two)


def test_a_trend_is_drawn_and_tabled_in_both_formats() -> None:
    found = [dated(1, 1.1), dated(2, 1.2)]
    html = to_html(found)  # type: ignore[arg-type]
    assert 'aria-labelledby="trend-1-c"' in html
    assert "environment.torch: 2.1.0 → 2.2.0" in Page(html).text
    assert "`environment.torch`: `2.1.0` → `2.2.0`" in to_markdown(found)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_details_of_several_keep_to_one_budget() -> None:
    many = tuple(prompt(f"p{n}", count=128, flip=3) for n in range(60))
    html = to_html([alignment(prompts=many), alignment(prompts=many), alignment(prompts=many)])
    assert len(html.encode()) < 5_000_000
    assert "prompts are in this list with figures only" in html.replace("more ", "")


def test_weights_that_a_server_does_not_tell_are_not_another_model() -> None:
    unknown = arm("candidate").model.model_copy(update={"weights": None})
    served = alignment(candidate=arm("candidate").model_copy(update={"model": unknown}))
    assert overview(views((alignment(), served))).alike
    other = arm("candidate").model.model_copy(update={"weights": "f" * 64})
    third = alignment(candidate=arm("candidate").model_copy(update={"model": other}))
    assert not overview(views((alignment(), served, third))).alike
