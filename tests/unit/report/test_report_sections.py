"""Parts that only some alignments have."""

from __future__ import annotations

from typing import Any

import pytest
from report_alignments import HOSTILE, Page, alignment

from harness.alignment.result import Alignment
from harness.doctor.finding import Finding
from harness.report import to_html, to_markdown
from harness.report.views.sections import sections


class Richer(Alignment):
    """An alignment with every optional part, as it may come from other parts of the harness."""

    doctor: Any = None
    matrix: Any = None
    magnifier: Any = None
    locate: Any = None


def richer(**parts: Any) -> Alignment:
    plain = alignment("DRIFT")
    kept = set(Alignment.model_fields) - {"schema_"} - set(parts)
    fields = {name: getattr(plain, name) for name in kept}
    return Richer(**fields, **parts)


def whole(text: str = "set_env.sh was not sourced") -> Alignment:
    return richer(
        doctor=[{"severity": "error", "what": text, "why": "no CANN", "remedy": "source it"}],
        matrix={"cells": [{"what": "batch 4", "status": "WARN", "rows": 128, "equal": 120}]},
        magnifier={"status": "PASS", "sentence": "In float16: 1.02.", "ratio": {"value": 1.02}},
        locate={"curve": [{"module": f"model.layers.{n}", "candidate": 0.1 * n, "noise": 0.05}
                          for n in range(4)]},
    )  # fmt: skip


def test_an_alignment_without_them_shows_none() -> None:
    page = Page(to_html([alignment()]))
    for heading in ("Matrix", "Magnifier", "Doctor findings", "Error over depth"):
        assert heading not in page.text


def test_each_part_that_is_there_is_shown_and_listed_in_the_contents() -> None:
    page = Page(to_html([whole()]))
    for name, text in {
        "matrix": "batch 4",
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
    assert "| `batch 4` | ! WARN | 128 | 120 |" in markdown
    assert "### Doctor findings" in markdown
    assert "✓ PASS: In float16: 1.02." in markdown


def test_hostile_text_in_them_stays_text() -> None:
    html = to_html([whole(HOSTILE)])
    assert Page(html).tags["script"] == 3
    assert "<script>document.title='owned'</script>" in Page(html).text


@pytest.mark.parametrize("part", [[], {}, "text", 7, [None], [3], {"cells": "x"}, {"curve": [{}]}])
def test_a_part_of_another_shape_breaks_nothing(part: Any) -> None:
    found = richer(doctor=part, matrix=part, magnifier=part, locate=part)
    sections(found)
    assert "DRIFT" in to_html([found])


def test_figures_that_are_no_numbers_draw_nothing() -> None:
    curve = [{"module": "a", "candidate": None}, {"module": "b", "candidate": float("nan")}]
    assert [d.error for d in sections(richer(locate={"curve": curve})).depth] == [None, None]
