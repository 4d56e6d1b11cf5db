"""What is wrong is on the first screen of every page: within the first 900 pixels."""

from __future__ import annotations

from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from report_alignments import alignment, prompt

from harness.alignment.result import Gate
from harness.devices.fake import FakeDevice, fake_subject
from harness.recording.recorder import record
from harness.report import to_html
from harness.report.bench import render_bench
from harness.report.recording import render_recording
from harness.suite.read import load_suite

pytestmark = pytest.mark.browser
Visit = Callable[..., Any]

#: Every word that a reader sees without scrolling.
_SEEN = """() => {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const words = [];
  while (walker.nextNode()) {
    const range = document.createRange();
    range.selectNodeContents(walker.currentNode);
    const box = range.getBoundingClientRect();
    if (box.width > 1 && box.top >= 0 && box.bottom <= 900) words.push(walker.currentNode.data);
  }
  return words.join(" ").replace(/\\s+/g, " ");
}"""


def failing(verdict: str, gate: str, said: str, **changes: Any) -> str:
    """The page of a verdict whose gate of that name fails."""
    gates = (
        Gate(name="error_ratio", status="PASS", value=1.02, low=0.98, high=1.07, limit=1.5,
             sentence="The error is that of the reference."),
        Gate(name=gate, status="FAIL", value=3.0, limit=0.0, sentence=said),
    )  # fmt: skip
    return to_html([alignment(verdict, gates=gates, sentence=said, **changes)])


def zeroed(_: Path) -> str:
    bad = prompt("hello", count=24, bad=9, verdict="DRIFT")
    return failing("DRIFT", "prompt_guard", "The prompt hello stands out.", prompts=(bad,))


def nan(_: Path) -> str:
    bad = prompt("hello", count=24, bad=9, verdict="DIVERGENT")
    at = bad.positions.model_copy(update={"class_": ["NONFINITE"] * 24})
    bad = bad.model_copy(update={"positions": at, "class_": "NONFINITE"})
    return failing("DIVERGENT", "nonfinite", "All rows hold NaN.", prompts=(bad,),
                   classes={"NONFINITE": 24})  # fmt: skip


def restless(_: Path) -> str:
    return failing("NON_DETERMINISTIC", "determinism", "3 of 256 rows differ between two runs.")


def refused(_: Path) -> str:
    return to_html([alignment("NOT_COMPARABLE", sentence="The two are not comparable.")])


def several(_: Path) -> str:
    short = (prompt(count=6, flip=2),)
    kinds = ("DRIFT", "EQUIVALENT", "DIVERGENT")
    return to_html([alignment(verdict, prompts=short) for verdict in kinds])


def first_run(folder: Path) -> str:
    made = record(FakeDevice(), fake_subject(), load_suite("port", 4))
    render_recording(made, folder / "r.html", judging=["harness baseline make --context r.json"])
    return (folder / "r.html").read_text("utf-8")


def benched(folder: Path) -> str:
    from benches import bench

    render_bench([bench()], folder / "b.html")
    return (folder / "b.html").read_text("utf-8")


PAGES = {
    "zeroed head": (zeroed, ("DRIFT", "prompt_guard", "position 9", "harness diagnose")),
    "NaN": (nan, ("DIVERGENT", "nonfinite", "NaN or infinite", "harness locate")),
    "NON_DETERMINISTIC": (restless, ("NON_DETERMINISTIC", "determinism", "3 of 256 rows")),
    "NOT_COMPARABLE": (refused, ("NOT_COMPARABLE", "dtype hf-cpu", "--allow-dtype")),
    "first run": (first_run, ("NOT JUDGED", "no baseline yet", "harness baseline make")),
    "three devices": (several, ("✗ DRIFT", "✓ EQUIVALENT", "✗ DIVERGENT")),
    "bench": (benched, ("tokens: DIVERGENT", "crossed out")),
}


@pytest.mark.parametrize("width", [1440, 390])
@pytest.mark.parametrize("name", PAGES)
def test_what_is_wrong_is_on_the_first_screen(
    visit: Visit, tmp_path: Path, name: str, width: int
) -> None:
    pytest.importorskip("axe_playwright_python")
    make, words = PAGES[name]
    size = {"width": width, "height": 900}
    page = visit(make(tmp_path), viewport=size, bypass_csp=True).page
    seen = page.evaluate(_SEEN)
    for word in words:
        assert word in seen, (word, seen)
    for language in ("zh", "en"):
        page.click(f"[data-lang={language}]")
        page.evaluate("document.querySelectorAll('details').forEach((d) => (d.open = true))")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    if width == 1440:
        return  # seconds, for what the other width shows too
    page.evaluate(files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8"))
    found = page.evaluate("axe.run().then((r) => r.violations)")
    bad = [v for v in found if v["impact"] in ("serious", "critical")]
    assert not [(v["id"], [n["html"][:200] for n in v["nodes"][:3]]) for v in bad]


def test_a_word_explains_itself_by_keyboard_and_by_touch(visit: Visit) -> None:
    page = visit(to_html([alignment("DRIFT")]), has_touch=True).page
    word = page.locator(".term", has_text="error ratio").first
    told = word.locator("p")
    word.locator("summary").focus()
    page.keyboard.press("Enter")
    assert told.is_visible()
    word.locator("summary").tap()
    assert not told.is_visible()


def test_the_colours_of_a_failing_token_are_those_of_its_legend(visit: Visit) -> None:
    page = visit(to_html([alignment("DRIFT")]), "#a1-p1").page
    frame = "e => getComputedStyle(e).boxShadow"
    cell = page.locator("#a1-p1 .cells > .x").first.evaluate(frame)
    assert cell == page.locator("#a1-p1 .swatch.x").evaluate(frame)
    stroke = "e => getComputedStyle(e).stroke"
    legend = page.locator(".keys.heat .cross").evaluate(stroke)
    assert page.locator("svg.heat .cross").evaluate(stroke) == legend
