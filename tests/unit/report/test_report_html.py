"""The HTML page says what the alignment says, and no text of a model can change it."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import pytest
from report_alignments import HOSTILE, LINK, Page, alignment, arm, prompt

from harness.alignment.outcomes import VERDICTS
from harness.messages.message import message
from harness.messages.statement import remark
from harness.report import to_html, to_markdown
from harness.report.views.performance import performance_view


@pytest.mark.parametrize("verdict", VERDICTS)
def test_it_names_the_verdict_and_the_sentence(verdict: str) -> None:
    prompts: Any = () if verdict == "NOT_COMPARABLE" else (prompt(),)
    found = alignment(verdict, prompts=prompts)
    page = Page(to_html([found]))
    assert page.text.count(verdict) >= 1
    assert found.sentence in page.text


def test_a_refused_comparison_shows_the_differing_field_and_no_empty_table() -> None:
    found = alignment("NOT_COMPARABLE", prompts=(), gates=(), baseline=())
    page = Page(to_html([found]))
    assert "dtype hf-cpu" in page.text
    assert "No prompt was compared." in page.text
    assert "No gate was run." in page.text
    assert "dtype hf-cpu" in to_markdown([found])


def test_hostile_text_adds_no_element_to_the_page() -> None:
    hostile, harmless = to_html([alignment(text=HOSTILE)]), to_html([alignment(text="plain")])
    wild, tame = Page(hostile), Page(harmless)
    assert wild.tags["script"] == 3  # its own, and two blocks of data
    assert wild.tags["style"] == wild.tags["title"] == 1
    assert set(wild.tags) <= set(tame.tags) | {"br"}
    # Escapes, line breaks and texts that now differ from one another apart.
    assert {t: n for t, n in wild.tags.items() if t not in {"span", "br", "bdi", "text"}} == {
        t: n for t, n in tame.tags.items() if t not in {"span", "br", "bdi", "text"}
    }
    assert not [a for a in wild.attributes if a[1].startswith("on")]


def test_hostile_text_is_shown_as_text() -> None:
    page = Page(to_html([alignment(text=HOSTILE)]))
    assert "<script>document.title='owned'</script>" in page.text
    assert "</style></title></textarea>--></script>]]>" in page.text
    assert "{{7*7}} {% raw %}" in page.text
    for escape in (r"\u202e", r"\u2066", r"\u200f", r"\u061c", r"\u200b", r"\ud800", r"\udfff",
                   "↵", r"\r", r"\t", r"\0", r"\x1b", r"\u2028"):  # fmt: skip
        assert escape in page.text


def test_no_invisible_character_reaches_a_report() -> None:
    found = alignment(text=HOSTILE)
    for report in (to_html([found]), to_markdown([found])):
        report.encode("utf-8")
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e"
                             "\u2066-\u2069\ud800-\udfff]", report)  # fmt: skip


def test_the_page_asks_for_nothing_outside_itself() -> None:
    html = to_html([alignment(text=HOSTILE), alignment()])
    assert not re.search(r"https?://|\bsrc\s*=|url\(|@import", html)
    allowed = {("link", "data:,")}
    for tag, name, value in Page(html).attributes:
        if name in {"href", "src", "srcset", "action", "data", "poster"}:
            assert (value or "").startswith("#") or (tag, value) in allowed
        assert name != "style"  # the policy would ignore it


def test_links_in_texts_stay_text() -> None:
    page = Page(to_html([alignment(text=LINK)]))
    assert LINK in page.text
    assert all((v or "")[:1] == "#" for t, n, v in page.attributes if (t, n) == ("a", "href"))


def test_the_policy_allows_exactly_the_inline_script_and_style() -> None:
    page = Page(to_html([alignment()]))
    contents = [v or "" for t, n, v in page.attributes if (t, n) == ("meta", "content")]
    policy = next(value for value in contents if "src" in value)
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    for kind in ("script", "style"):
        digest = hashlib.sha256("".join(page.raw[kind]).encode()).digest()
        assert f"{kind}-src 'sha256-{base64.b64encode(digest).decode()}'" in policy


def test_ids_are_unique_and_links_lead_to_them() -> None:
    page = Page(to_html([alignment(), alignment(text=HOSTILE), alignment("DRIFT")]))
    assert max(page.ids.values()) == 1
    assert len(page.links) > 20
    assert set(page.links) <= set(page.ids)


def test_everything_that_a_label_names_is_there() -> None:
    page = Page(to_html([alignment(), alignment("DRIFT", text=HOSTILE)]))
    labels = [v or "" for _, n, v in page.attributes if n == "aria-labelledby"]
    assert len(labels) > 20
    assert set(labels) <= set(page.ids)


def test_a_forced_candidate_is_said_to_have_no_run_of_its_own() -> None:
    found = alignment(candidate=arm("candidate", replay="forced-decode"), prompts=(prompt(),))
    page = Page(to_html([found]))
    assert "There was no free run: these are the context tokens." in page.text
    assert "own run left the context" not in page.text
    assert "There was no free run" not in Page(to_html([alignment(prompts=(prompt(),))])).text


def test_several_alignments_stand_side_by_side_first() -> None:
    several = [alignment("DRIFT"), alignment("BIT_EXACT"), alignment("NOT_COMPARABLE", prompts=())]
    html = Page(to_html(several))
    assert html.tags["article"] == 3
    beginning = html.text.split("What was compared")[0]
    assert all(found.verdict in beginning for found in several)


@pytest.mark.slow
def test_ten_thousand_characters_are_shown_whole() -> None:
    long = "x" * 9_990 + "end-of-text"
    assert long in Page(to_html([alignment(text=long)])).text


@pytest.mark.slow
def test_a_report_of_thirty_two_prompts_by_128_positions_stays_below_its_limit() -> None:
    many = tuple(prompt(f"prompt-{n}", count=128, flip=20, bad=40) for n in range(32))
    html = to_html([alignment("DRIFT", prompts=many)])
    assert len(html.encode()) < 1_500_000
    assert Page(html).tags["details"] >= 4 * 32


@pytest.mark.slow
def test_prompts_beyond_the_detailed_ones_are_counted() -> None:
    good = [prompt(f"good-{n}", count=400) for n in range(30)]
    found = alignment("DRIFT", prompts=(*good, prompt("bad", verdict="DRIFT", bad=3)))
    page = Page(to_html([found]))
    left = re.search(r"(\d+) more prompts are in this list with figures only", page.text)
    assert left is not None
    assert f"Embedded: {31 - int(left[1])} of 31 prompts" in page.text
    assert "a1-p30" in page.ids  # the failing one is among those shown
    assert all(p.id in page.text for p in found.prompts)


def test_without_an_oracle_no_chart_of_errors_is_drawn_and_the_page_says_so() -> None:
    page = Page(to_html([alignment(prompts=(prompt(oracle=False),))]))
    assert "The baseline has no oracle" in page.text
    assert not [v for t, n, v in page.attributes if (t, n, v) == ("svg", "class", "heat")]


def test_a_position_of_no_known_class_is_a_dash_and_never_the_word_none() -> None:
    one = prompt(count=4)
    positions = one.positions.model_copy(update={"class_": [None] * 4})
    one = one.model_copy(update={"positions": positions, "class_": None})
    assert "None" not in Page(to_html([alignment(prompts=(one,))])).text
    assert "None" not in to_markdown([alignment(prompts=(one,))])


def test_performance_is_crossed_out_where_the_verdict_makes_it_worthless() -> None:
    found = alignment("DRIFT")
    # Three of each row, and the speed in words.
    assert Page(to_html([found])).tags["s"] == 3 * len(performance_view(found).rows) + 1
    assert Page(to_html([alignment("EQUIVALENT")])).tags["s"] == 0


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_same_alignment_in_the_same_language_gives_the_same_bytes(language: Any) -> None:
    one, two = (to_html([alignment("DRIFT", text=HOSTILE)], language) for _ in range(2))
    assert one.encode() == two.encode()


def test_every_chart_has_a_name_and_a_table_beneath_it() -> None:
    html = to_html([alignment("DRIFT")])
    figures = re.findall(r"<figure>.*?</figure>", html, re.DOTALL)
    assert len(figures) == 5  # heat map, scatter, survival, one per prompt
    for figure in figures:
        assert re.search(r"<svg[^>]*role=\"img\" aria-labelledby=", figure)
        assert "<table>" in figure


def test_a_chinese_page_says_everything_in_chinese() -> None:
    """Words of Latin letters that are left are names: verdicts, gates, fields, terms."""
    found = alignment("DRIFT", message=message("meaning.DRIFT"),
                      remarks=(remark(message("warning.prefill_only")),))  # fmt: skip
    said = Page(to_html([found], "zh"), "zh").text
    for word in ("Gates", "Prompts", "margin ", "Error", "How to", "candidate", "Positions by"):
        assert word not in said, word
    for word in ("判据", "提示", "领先量与偏移", "如何复现", "待测只运行了 forced-prefill"):
        assert word in said, word
