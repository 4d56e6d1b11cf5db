"""What a reader does with a report: filter, sort, open, choose, change, download."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from report_alignments import alignment, prompt

from harness.alignment.result import Alignment, alignment_bytes, load_alignment
from harness.report import to_html

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.browser
Visit = Callable[..., Any]


def made() -> Alignment:
    """Three prompts: one is as it should be, one flips, one fails."""
    prompts = (
        prompt("capital", verdict="TOKEN_EXACT"),
        prompt("second", flip=7),
        prompt("third", flip=4, bad=9, verdict="DRIFT"),
    )
    return alignment("DRIFT", prompts=prompts)


def shown(page: Page) -> list[str]:
    """Names of the prompts that can be seen, from top to bottom."""
    return [e.inner_text() for e in page.locator(".plist li .id").all() if e.is_visible()]


def figure(page: Page, prompt_id: str, name: str) -> str:
    return page.locator(f"#{prompt_id} .panel [data-f={name}]").first.inner_text()


def settled(page: Page, prompt_id: str, index: str) -> None:
    """Wait until the panel is that of a position; the page's policy forbids to ask in the page."""
    for _ in range(100):
        if figure(page, prompt_id, "index") == index:
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"{prompt_id} shows position {figure(page, prompt_id, 'index')}")


def test_the_filter_and_the_search_leave_the_prompts_that_fit(visit: Visit) -> None:
    opened = visit(to_html([made()]))
    page = opened.page
    assert shown(page) == ["third", "capital", "second"]  # the worst first
    page.click("[data-filter=DRIFT]")
    assert shown(page) == ["third"]
    assert page.locator(".shown").inner_text() == "1 of 3 shown"
    page.click("[data-filter='']")
    page.fill("input[type=search]", "SEC")
    assert shown(page) == ["second"]
    assert not opened.complaints


def test_a_heading_sorts_up_then_down_then_as_at_first(visit: Visit) -> None:
    page = visit(to_html([made()])).page
    page.click("[data-sort=vd]")
    assert shown(page) == ["third", "capital", "second"]
    page.click("[data-sort=vd]")
    assert shown(page) == ["capital", "second", "third"]
    page.click("[data-sort=vd]")
    page.click("[data-sort=ke]")
    assert shown(page)[-1] == "third"  # its error is the largest


def test_a_prompt_opens_by_a_click_and_shows_the_position_to_look_at(visit: Visit) -> None:
    page = visit(to_html([made()])).page
    assert not page.locator("#a1-p2 .cells").is_visible()
    page.click("#a1-p2 > summary")
    assert page.locator("#a1-p2 .cells").is_visible()
    assert figure(page, "a1-p2", "index") == "9"
    assert figure(page, "a1-p2", "class") == "SILENT_DRIFT"


def test_a_token_shows_its_figures_and_both_top_fives(visit: Visit) -> None:
    opened = visit(to_html([made()]))
    page = opened.page
    page.click("#a1-p1 > summary")
    page.locator("#a1-p1 .cells > *").nth(3).click()
    settled(page, "a1-p1", "3")
    assert figure(page, "a1-p1", "class") == "EXACT"
    assert figure(page, "a1-p1", "margin") == "0.75"
    assert figure(page, "a1-p1", "shift") == "—"  # position 3 has none
    assert figure(page, "a1-p1", "tolerance") == "0.1875"
    assert page.locator("#a1-p1 .tops tbody tr").count() == 5
    first = page.locator("#a1-p1 .tops tbody tr").first.locator("td").all_inner_texts()
    assert [first[1], first[3]] == ["18.25", "18.25"]
    assert page.url.endswith("#a1-p1.3")
    assert not opened.complaints


def test_what_the_script_fills_in_reads_as_what_stood_there(visit: Visit) -> None:
    """The panel of the shown position, chosen by hand, is the one of the page itself."""
    page = visit(to_html([made()])).page
    page.click("#a1-p2 > summary")
    panel = page.locator("#a1-p2 .panel")
    before = panel.inner_text()
    page.locator("#a1-p2 .cells > *").nth(2).click()
    settled(page, "a1-p2", "2")
    assert panel.inner_text() != before
    page.locator("#a1-p2 .cells > *").nth(9).click()
    settled(page, "a1-p2", "9")
    assert panel.inner_text() == before


def test_the_keyboard_walks_over_tokens_and_jumps_to_marked_ones(visit: Visit) -> None:
    page = visit(to_html([made()])).page
    page.locator("#a1-p2 > summary").focus()
    page.keyboard.press("Enter")
    page.locator("#a1-p2 [role=listbox]").wait_for()
    page.keyboard.press("Tab")
    chosen = "document.activeElement.getAttribute('aria-selected')"
    assert page.evaluate(chosen) == "true"
    for key, index in (("Home", 0), ("ArrowRight", 1), ("ArrowDown", 4), ("ArrowUp", 4),
                       ("ArrowLeft", 3), ("End", 23)):  # fmt: skip
        page.keyboard.press(key)
        settled(page, "a1-p2", str(index))
        assert page.evaluate("[...document.activeElement.parentNode.children]"
                             ".indexOf(document.activeElement)") == index  # fmt: skip
    assert page.locator("#a1-p2 .cells [tabindex='0']").count() == 1


def test_every_control_can_be_reached_and_worked_by_keyboard(visit: Visit) -> None:
    page = visit(to_html([made()])).page
    seen = set()
    for _ in range(80):
        page.keyboard.press("Tab")
        seen.add(page.evaluate("document.activeElement.outerHTML.slice(0, 60)"))
    for part in ("data-lang=", "data-theme=", "data-filter=", "search", "data-sort=", "summary",
                 "download"):  # fmt: skip
        assert any(part in element for element in seen), part


@pytest.mark.parametrize(("fragment", "index"), [("#a1-p2", "9"), ("#a1-p2.5", "5")])
def test_a_link_opens_its_prompt_and_token(visit: Visit, fragment: str, index: str) -> None:
    page = visit(to_html([made()]), fragment).page
    assert page.locator("#a1-p2").get_attribute("open") is not None
    assert page.locator("#a1-p0").get_attribute("open") is None
    settled(page, "a1-p2", str(index))


def test_a_cell_of_the_heat_map_opens_its_token(visit: Visit) -> None:
    page = visit(to_html([made()])).page
    heat = page.locator("svg.heat")
    box = heat.bounding_box()
    assert box is not None
    scale = box["width"] / 800
    # The second row, the sixth of 24 cells.
    heat.click(position={"x": (150 + 640 * 5.5 / 24) * scale, "y": (18 + 21) * scale})
    settled(page, "a1-p1", "5")
    assert page.url.endswith("#a1-p1.5")


def test_the_language_changes_without_loading_anything(visit: Visit) -> None:
    opened = visit(to_html([made()]))
    page = opened.page
    assert page.locator("#a1-gates").inner_text() == "Gates"
    page.click("[data-lang=zh]")
    assert page.locator("#a1-gates").inner_text() == "判据"
    assert page.evaluate("document.documentElement.lang") == "zh"
    assert page.locator("[data-lang=zh]").get_attribute("aria-pressed") == "true"
    assert len(opened.requests) == 1
    page = visit(to_html([made()], "zh")).page
    assert page.locator("#a1-gates").inner_text() == "判据"


def test_the_theme_follows_the_system_until_it_is_chosen(visit: Visit) -> None:
    page = visit(to_html([made()]), color_scheme="dark").page
    ground = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("[data-theme=light]")
    light = page.evaluate(ground)
    assert light == "rgb(255, 255, 255)"
    assert dark != light
    page.click("[data-theme=dark]")
    assert page.evaluate(ground) == dark
    page.click("[data-theme=auto]")
    page.emulate_media(color_scheme="light")
    assert page.evaluate(ground) == light


def test_the_download_is_the_alignment_byte_for_byte(visit: Visit, tmp_path: Path) -> None:
    found = made()
    page = visit(to_html([found])).page
    with page.expect_download() as download:
        page.click(".download")
    path = tmp_path / "again.json"
    download.value.save_as(path)
    assert download.value.suggested_filename == "hf-cpu.alignment.json"
    assert path.read_bytes() == alignment_bytes(found)
    assert load_alignment(path) == found


def test_the_table_under_a_chart_of_errors_holds_every_position(visit: Visit) -> None:
    page = visit(to_html([made()]), "#a1-p1").page
    page.click("#a1-p1 .every > summary")
    page.locator("#a1-p1 .every tbody tr").nth(23).wait_for()
    assert page.locator("#a1-p1 .every tbody tr").count() == 24


def test_without_scripts_the_page_still_tells_the_verdict_and_every_prompt(visit: Visit) -> None:
    page = visit(to_html([made()]), java_script_enabled=False).page
    assert page.locator("h2.word").inner_text() == "DRIFT"
    assert shown(page) == ["third", "capital", "second"]
    assert not page.locator(".controls").is_visible()
    page.click("#a1-p2 > summary")
    assert page.locator("#a1-p2 .panel").is_visible()


def test_print_shows_the_verdict_and_no_control(visit: Visit) -> None:
    page = visit(to_html([made()]), "#a1-p2", color_scheme="dark").page
    page.emulate_media(media="print")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator(".tools").first.is_visible()
    assert page.locator("h2.word").is_visible()
    assert page.locator("#a1-p2 .cells").is_visible()
    assert json.loads(page.evaluate("JSON.stringify(document.title)")).startswith("DRIFT")
