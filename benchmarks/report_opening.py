"""How long the HTML report of a large suite takes to make, how large it is, how long it opens.

    python benchmarks/report_opening.py [100 1000 10000] [--positions 64]

The alignments are those of the unit tests, with so many prompts; the browser is the system's
Chromium. What is measured of it is the time of the page's own thread, from the beginning to the
first frame, on an empty profile, and the time until the last prompt with details has opened.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "unit"))

_FRAME = "new Promise((done) => requestAnimationFrame(() => done()))"
_WORDS = ("quick", "brown", "fox", "jumps", "over", "lazy", "dog", "rain", "falls", "stones", "old")


def page(prompts: int, positions: int) -> str:
    """The report of so many prompts; every tenth flips, every hundredth fails."""
    from report_alignments import alignment, prompt

    from harness.report import to_html

    made = tuple(
        prompt(
            f"prompt-{n}",
            " ".join(_WORDS[(n * k) % len(_WORDS)] for k in range(1, 21)),
            positions,
            verdict="DRIFT" if n % 100 == 0 else "EQUIVALENT",
            flip=5 + n % 20 if n % 10 == 0 else None,
            bad=9 if n % 100 == 0 else None,
            piece=n,
        )
        for n in range(prompts)
    )
    return to_html([alignment("DRIFT", prompts=made)])


def opened(html: str) -> dict[str, Any]:
    """Seconds of the page's own thread to its first frame, and to a prompt's details."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
    with sync_playwright() as library, tempfile.TemporaryDirectory() as folder:
        browser = library.chromium.launch(executable_path=chromium, args=arguments)
        view = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        path = Path(folder, "report.html")
        path.write_text("<title>empty</title>", "utf-8")
        view.goto(path.as_uri())
        session = view.context.new_cdp_session(view)
        session.send("Performance.enable", {"timeDomain": "threadTicks"})
        path.write_text(html, "utf-8")
        start = time.monotonic()
        view.reload()
        view.evaluate(_FRAME)
        took, first = time.monotonic() - start, _spent(session)
        last = view.locator("details.prompt").last
        last.evaluate("(d) => { d.open = true; d.scrollIntoView(); }")
        view.evaluate(_FRAME)
        found = {"opens_s": first, "details_s": _spent(session) - first, "clock_s": took}
        browser.close()
    return {name: round(value, 2) for name, value in found.items()}


def _spent(session: Any) -> float:
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", type=int, nargs="*", default=[100, 1_000, 10_000])
    parser.add_argument("--positions", type=int, default=64)
    options = parser.parse_args()
    for prompts in options.prompts:
        start = time.process_time()
        html = page(prompts, options.positions)
        made = round(time.process_time() - start, 1)
        told = {"prompts": prompts, "positions": prompts * options.positions, "made_s": made}
        print(json.dumps({**told, "bytes": len(html.encode()), **opened(html)}), flush=True)


if __name__ == "__main__":
    main()
