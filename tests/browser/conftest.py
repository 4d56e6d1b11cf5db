"""A headless Chromium of the system's, driven by the playwright library.

Not by pytest-playwright, which owns ``--device`` too.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# The alignments of the unit tests are the ones looked at here.
sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))

_CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@dataclass
class Opened:
    """A page and what it did: addresses asked for, complaints on its console."""

    page: Page
    requests: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One browser for all tests; each gets a fresh profile in it."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if _CHROMIUM is None:
        pytest.skip("no chromium on this machine")
    with playwright.sync_playwright() as library:
        browser = library.chromium.launch(
            executable_path=_CHROMIUM, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield browser
        browser.close()


@pytest.fixture
def visit(chromium: Browser, tmp_path: Path) -> Iterator[Callable[..., Opened]]:
    """Open an HTML text, or an address, in a window of its own."""
    contexts = []

    def _visit(html: str, fragment: str = "", **options: Any) -> Opened:
        options.setdefault("viewport", {"width": 1440, "height": 900})
        context = chromium.new_context(**options)
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.page.on("request", lambda request: opened.requests.append(request.url))
        opened.page.on(
            "console",
            lambda said: said.type in {"error", "warning"} and opened.complaints.append(said.text),
        )
        opened.page.on("pageerror", lambda error: opened.complaints.append(str(error)))
        address = html
        if not html.startswith("http"):
            path = tmp_path / "report.html"
            path.write_text(html, "utf-8")
            address = path.as_uri()
        opened.page.goto(address + fragment)
        return opened

    yield _visit
    for context in contexts:
        context.close()
