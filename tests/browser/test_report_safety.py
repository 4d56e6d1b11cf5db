"""The page runs nothing but its own script, asks for nothing, and any reader can use it."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from report_alignments import HOSTILE, LINK, alignment, prompt

from harness.alignment.result import Alignment
from harness.report import to_html

pytestmark = pytest.mark.browser
Visit = Callable[..., Any]


def large() -> Alignment:
    """32 prompts by 128 positions, as the limits of size and time are stated for."""
    prompts = tuple(prompt(f"prompt-{n}", count=128, flip=20 + n, bad=40) for n in range(32))
    return alignment("DRIFT", prompts=prompts)


def test_hostile_text_runs_no_script(visit: Visit) -> None:
    opened = visit(to_html([alignment(text=HOSTILE)]), "#a1-p0.6")
    page = opened.page
    page.locator("#a1-p0 [data-f=index] >> text=/^6$/").first.wait_for()
    assert page.title().startswith("EQUIVALENT: ")
    assert page.locator("img").count() == 0
    assert page.locator("script").count() == 3
    assert "<script>document.title='owned'</script>" in page.locator("body").inner_text()
    assert not opened.complaints


def test_hostile_tokens_stay_text_where_the_script_fills_them_in(visit: Visit) -> None:
    page = visit(to_html([alignment(text=HOSTILE)]), "#a1-p0.1").page
    page.locator("#a1-p0 [data-f=index] >> text=/^1$/").first.wait_for()
    page.click("#a1-p0 .every > summary")
    page.locator("#a1-p0 .every tbody tr").nth(23).wait_for()
    said = page.locator("#a1-p0 .tops").inner_text()
    assert "<script>document.title" in said
    assert r"\u202e" in page.evaluate("document.querySelector('#a1-p0').textContent")
    hidden = (
        "[\\x00-\\x09\\x0b-\\x1f\\x7f-\\x9f\\u061c\\u200b-\\u200f\\u2028-\\u202e\\u2066-\\u2069]"
    )
    assert not re.search(hidden, page.locator("body").inner_text().replace("\t", ""))
    assert page.locator("img").count() == 0


def test_the_policy_stops_a_script_that_got_into_the_page(visit: Visit) -> None:
    canary = "<script>document.title='owned'</script><b onclick=1>x</b>"
    html = to_html([alignment()]).replace('<main id="main">', f'<main id="main">{canary}', 1)
    opened = visit(html)
    assert opened.page.title() == "EQUIVALENT: hf-cpu"
    assert any("Content Security Policy" in said for said in opened.complaints)
    # Proof that the canary would have sung: without the policy it runs.
    assert visit(re.sub(r"<meta http-equiv[^>]*>", "", html)).page.title() == "owned"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A local server over ``tmp_path``: its address and what it was asked for."""
    asked: list[str] = []

    class Handler(_Quiet):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args, directory=str(tmp_path))

        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_the_page_is_all_that_a_server_is_asked_for(
    visit: Visit, tmp_path: Path, site: tuple[str, list[str]]
) -> None:
    address, asked = site
    canary = f"<img src={address}/stolen> ![x]({address}/stolen) {LINK}"
    (tmp_path / "r.html").write_text(to_html([alignment(text=canary)]), "utf-8")
    opened = visit(f"{address}/r.html", "#a1-p0.2")
    page = opened.page
    page.locator("#a1-p0 [data-f=index] >> text=/^2$/").first.wait_for()
    for control in ("[data-lang=zh]", "[data-theme=dark]", "[data-sort=ke]"):
        page.click(control)
    assert asked == ["/r.html"]
    assert {url.split("#")[0] for url in opened.requests} == {f"{address}/r.html"}
    assert not opened.complaints


def test_a_large_report_opens_within_two_seconds_and_without_a_complaint(visit: Visit) -> None:
    """Time of the page's own thread: on a busy machine the clock measures the neighbours."""
    html = to_html([large()])
    assert len(html.encode()) < 1_500_000
    opened = visit("<title>empty</title>")
    page = opened.page
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    Path(page.url.removeprefix("file://")).write_text(html, "utf-8")
    page.reload()
    page.evaluate("new Promise((done) => requestAnimationFrame(() => done()))")
    found = session.send("Performance.getMetrics")["metrics"]
    spent = {metric["name"]: metric["value"] for metric in found}
    assert page.title().startswith("DRIFT")
    assert 0.0 < spent["TaskDuration"] < 2.0
    assert not opened.complaints
    assert len(opened.requests) == 2  # the empty page, and this one


@pytest.mark.parametrize(
    ("width", "theme", "language"),
    [(1440, "light", "en"), (1440, "dark", "zh"), (390, "light", "zh"), (390, "dark", "en")],
)
def test_axe_finds_no_serious_violation(
    visit: Visit, width: int, theme: str, language: Any
) -> None:
    pytest.importorskip("axe_playwright_python")
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
    prompts = (prompt(count=6, flip=2), prompt("second", count=6, bad=3, verdict="DRIFT"))
    two = [alignment("DRIFT", prompts=prompts), alignment(prompts=(prompt(HOSTILE, HOSTILE, 6),))]
    html = to_html(two, language)
    size = {"width": width, "height": 900}
    page = visit(html, "#a1-p0.2", color_scheme=theme, viewport=size, bypass_csp=True).page
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    page.evaluate(axe)
    found = page.evaluate("axe.run().then((r) => r.violations)")
    bad = [v for v in found if v["impact"] in ("serious", "critical")]
    told = [(v["id"], v["help"], [n["html"][:200] for n in v["nodes"][:3]]) for v in bad]
    assert not told


@pytest.mark.parametrize("width", [1440, 768, 390])
@pytest.mark.parametrize("language", ["en", "zh"])
def test_nothing_is_wider_than_the_window(visit: Visit, width: int, language: Any) -> None:
    html = to_html([alignment(text="x" * 3_000), alignment("DRIFT")], language)
    page = visit(html, viewport={"width": width, "height": 900}).page
    page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_of_a_long_list_only_what_is_in_sight_is_laid_out(visit: Visit) -> None:
    prompts = tuple(prompt(f"prompt-{n}", count=8) for n in range(2_000))
    page = visit(to_html([alignment(prompts=prompts)])).page
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable")
    found = session.send("Performance.getMetrics")["metrics"]
    laid_out = next(m["value"] for m in found if m["name"] == "LayoutObjects")
    assert 0 < laid_out < 20 * len(prompts)  # each row has more than 30
    page.locator(".plist input[type=search], .search input").first.fill("prompt-1999")
    assert page.locator(".plist li:not([hidden])").count() == 1
    assert page.locator(".plist li:not([hidden]) .id").inner_text() == "prompt-1999"
