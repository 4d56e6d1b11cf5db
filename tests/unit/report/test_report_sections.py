"""Parts that only some alignments have."""

from __future__ import annotations

from typing import Any

import pytest
from factories import diagnosed
from pydantic import ValidationError
from report_alignments import HOSTILE, Page, alignment

from harness.alignment.diagnosis import Diagnosis
from harness.alignment.result import Alignment, DepthPoint, Located, Magnifier, MatrixCell
from harness.doctor.finding import Finding
from harness.messages.message import message
from harness.report import to_html, to_markdown
from harness.report.views.sections import sections
from harness.statistics.intervals import Interval


def whole(text: str = "set_env.sh was not sourced") -> Alignment:
    cell = MatrixCell(
        name="batch",
        change="batch 1 against 4",
        status="WARN",
        rows=128,
        rows_equal=120,
        shift=0.5,
        verdict="INCONCLUSIVE",
        error_ratio=None,
        message=message(
            "matrix.other_bits", different=8, rows=128, shift=0.5, verdict="INCONCLUSIVE"
        ),
    )
    closer = Magnifier(
        dtype="float16",
        status="PASS",
        sentence="In float16: 1.02.",
        error_ratio=Interval(value=1.02, low=None, high=None),
    )
    curve = tuple(
        DepthPoint(module=f"model.layers.{n}", candidate=0.1 * n, noise=0.05) for n in range(4)
    )
    return alignment(
        "DRIFT",
        doctor=(Finding("visible-devices", "error", text, "no CANN", "source it"),),
        matrix=(cell,),
        magnifier=closer,
        locate=Located(module="model.layers.3", sentence="It begins there.", curve=curve),
    )  # fmt: skip


@pytest.mark.parametrize("text", ["Head 3 of layer 2", HOSTILE])
def test_a_diagnosis_is_shown_with_its_causes(text: str) -> None:
    made = alignment("DRIFT", diagnosis=diagnosed("SYSTEMATIC", text))
    html, markdown = to_html([made]), to_markdown([made])
    page = Page(html)
    assert page.tags["script"] == 3
    assert "a1-diagnosis" in page.ids
    assert "Layer by layer, the largest t" in page.text
    assert "Layers (down) and heads (across)" in page.text
    assert 'class="chart heads"' in html
    for shown in (page.text, markdown):
        # Under the verdict, and where it is explained.
        assert shown.count("is weaker.") >= 2
        assert "Not to be told apart from:" in shown
        assert "The largest t is 12.3, where chance stays below 5.7, with 99.9 %" in shown
    assert (f"{text}, its values" in page.text) == (text != HOSTILE)  # else with escapes
    assert "document.title='owned'" in page.text or text != HOSTILE
    assert "无法与以下原因区分" in Page(to_html([made], "zh"), "zh").text
    assert "Diagnosis" not in Page(to_html([alignment()])).text


def test_a_diagnosis_of_before_has_no_heads() -> None:
    found = diagnosed("SYSTEMATIC").model_dump(mode="json")
    for layer in found["layers"]:
        del layer["heads"]
    made = alignment("DRIFT", diagnosis=Diagnosis.model_validate(found))
    assert "chart heads" not in to_html([made])
    assert "Layer by layer" in to_html([made])


def test_an_alignment_without_them_shows_none() -> None:
    page = Page(to_html([alignment()]))
    for heading in ("Matrix", "Magnifier", "Doctor findings", "Error over depth"):
        assert heading not in page.text


def test_each_part_that_is_there_is_shown_and_listed_in_the_contents() -> None:
    page = Page(to_html([whole()]))
    for name, text in {
        "matrix": "8 of 128 rows have other bits",
        "magnifier": "In float16: 1.02.",
        "doctor": "set_env.sh was not sourced",
        "depth": "model.layers.3",
    }.items():
        assert text in page.text
        assert f"a1-{name}" in page.links
        assert f"a1-{name}" in page.ids


def test_findings_of_the_doctor_are_shown_as_they_are() -> None:
    finding = Finding("visible-devices", "harmless", "seen: 4", "why: it is", "nothing to do")
    page = Page(to_html([alignment(doctor=(finding,))], "zh"), "zh")
    for text in ("无害", "seen: 4", "why: it is", "nothing to do"):
        assert text in page.text


def test_they_stand_in_markdown_too() -> None:
    markdown = to_markdown([whole()])
    assert "| `batch` | ! WARN | 128 | 120 |" in markdown
    assert "<summary>Doctor findings</summary>" in markdown
    assert "✓ PASS: In float16: 1.02." in markdown


def test_hostile_text_in_them_stays_text() -> None:
    html = to_html([whole(HOSTILE)])
    assert Page(html).tags["script"] == 3
    assert "<script>document.title='owned'</script>" in Page(html).text


@pytest.mark.parametrize("part", [{}, "text", 7, [None], [3], {"cells": "x"}, {"curve": [{}]}])
@pytest.mark.parametrize("name", ["matrix", "magnifier", "doctor", "locate"])
def test_a_part_of_another_shape_is_not_an_alignment(name: str, part: Any) -> None:
    document = whole().model_dump(mode="json", by_alias=True)
    with pytest.raises(ValidationError, match=name):
        Alignment.model_validate({**document, name: part})


def test_a_figure_that_is_missing_draws_nothing() -> None:
    curve = (DepthPoint(module="a", candidate=None, noise=None),)
    found = alignment(locate=Located(module=None, sentence="None.", curve=curve))
    assert [d.error for d in sections(found).depth] == [None]
