"""The report in a real browser: it shows the verdict and runs nothing but its own script."""

from __future__ import annotations

import http.server
import importlib.util
import re
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from harness.report import render

pytestmark = pytest.mark.browser

_BROWSER = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture(scope="module")
def made() -> ModuleType:
    """The unit tests' module: its alignments are the ones looked at here."""
    path = Path(__file__).parents[1] / "unit" / "test_report.py"
    spec = importlib.util.spec_from_file_location("report_alignments", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


class Browser:
    """Chromium without a window; a fresh profile for each test."""

    def __init__(self, profile: Path) -> None:
        self.profile = profile

    def _run(self, *arguments: str) -> str:
        assert _BROWSER is not None
        command = [
            _BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--disable-dev-shm-usage",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
            "--enable-logging=stderr",
            f"--user-data-dir={self.profile}",
            *arguments,
        ]
        done = subprocess.run(command, capture_output=True, timeout=120, check=True)
        self.log = done.stderr.decode("utf-8", "replace")
        return done.stdout.decode("utf-8")

    def dom(self, url: str) -> str:
        """The document after its scripts have run, as HTML."""
        return self._run("--dump-dom", url)

    def screenshot(self, url: str, width: int, height: int, *, dark: bool) -> Path:
        """A PNG of the window."""
        path = self.profile.parent / f"{width}-{dark}.png"
        scheme = "--blink-settings=preferredColorScheme=" + ("0" if dark else "1")
        self._run(scheme, f"--window-size={width},{height}", f"--screenshot={path}", url)
        return path


@pytest.fixture
def browser(tmp_path: Path) -> Browser:
    if _BROWSER is None:
        pytest.skip("no chromium on this machine")
    return Browser(tmp_path / "profile")


def title(dom: str) -> str:
    found = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert found is not None
    return found[1]


def test_hostile_text_runs_no_script(browser: Browser, tmp_path: Path, made: ModuleType) -> None:
    path = tmp_path / "report.html"
    render([made.alignment(text=made.HOSTILE)], path)
    dom = browser.dom(path.as_uri())
    assert title(dom).startswith("EQUIVALENT: ")
    assert "&lt;script&gt;document.title='owned'&lt;/script&gt;" in dom
    assert dom.count("<script") == dom.count("<style") == 1
    assert "<img" not in dom


def test_the_policy_stops_a_script_that_got_into_the_page(
    browser: Browser, tmp_path: Path, made: ModuleType
) -> None:
    path = tmp_path / "report.html"
    render([made.alignment()], path)
    canary = "<script>document.title='owned'</script><b onclick=1>x</b>"
    html = path.read_text("utf-8").replace("<main>", f"<main>{canary}", 1)
    path.write_text(html, "utf-8")
    dom = browser.dom(path.as_uri())
    assert canary.partition("<b")[0] in dom
    assert title(dom) == "EQUIVALENT: hf-cpu"
    # Proof that the canary would have sung: without the policy it runs.
    path.write_text(re.sub(r"<meta http-equiv[^>]*>", "", html), "utf-8")
    assert title(browser.dom(path.as_uri())) == "owned"


def test_the_reports_own_script_and_style_run(
    browser: Browser, tmp_path: Path, made: ModuleType
) -> None:
    path = tmp_path / "report.html"
    render([made.alignment(), made.alignment("DRIFT", text=made.HOSTILE)], path)
    dom = browser.dom(path.as_uri())
    # The script shows its tools and fills them.
    assert re.search(r'<p class="tools" id="a1-table-tools">', dom)
    assert dom.count('<option value="EQUIVALENT">') == 2
    assert "2 of 2</output>" in dom
    assert '<th scope="col"><button type="button">prompt</button></th>' in dom
    assert "Content Security Policy" not in browser.log


def test_a_link_to_a_prompt_opens_it(browser: Browser, tmp_path: Path, made: ModuleType) -> None:
    path = tmp_path / "report.html"
    render([made.alignment()], path)
    dom = browser.dom(path.as_uri() + "#a1-p1")
    assert re.search(r'<details class="prompt" id="a1-p1" open', dom)
    assert re.search(r'<details class="prompt" id="a1-p0">', dom)


class _Recorder(http.server.SimpleHTTPRequestHandler):
    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on the terminal."""


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[str, list[str]]]:
    """A local server over ``tmp_path``: its address and what it was asked for."""
    asked: list[str] = []

    class Handler(_Recorder):
        def __init__(self, *args: object, **kwargs: object) -> None:
            self.asked = asked
            super().__init__(*args, directory=str(tmp_path), **kwargs)  # type: ignore[arg-type]

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_the_page_is_all_that_a_server_is_asked_for(
    browser: Browser, tmp_path: Path, made: ModuleType, site: tuple[str, list[str]]
) -> None:
    address, asked = site
    canary = f"<img src={address}/stolen> ![x]({address}/stolen)"
    render([made.alignment(text=canary)], tmp_path / "report.html")
    assert "EQUIVALENT" in browser.dom(f"{address}/report.html")
    assert asked == ["/report.html"]


@pytest.mark.parametrize(("verdict", "tint"), [("EQUIVALENT", 1), ("DRIFT", 0)])
@pytest.mark.parametrize("dark", [False, True])
def test_the_banner_has_the_colour_of_its_verdict(
    browser: Browser, tmp_path: Path, made: ModuleType, *, verdict: str, tint: int, dark: bool
) -> None:
    path = tmp_path / "report.html"
    render([made.alignment(verdict)], path)
    pixels = png_rows(browser.screenshot(path.as_uri(), 1280, 300, dark=dark))
    page, banner = pixels[2][2:5], pixels[90][900 * 3 : 900 * 3 + 3]
    assert (sum(page) < 150) == dark
    # Green leads where it is good, red where it is bad.
    assert banner[tint] == max(banner)
    assert banner[tint] > banner[2 if tint else 1]


def test_long_texts_wrap_within_the_window(
    browser: Browser, tmp_path: Path, made: ModuleType
) -> None:
    path = tmp_path / "report.html"
    render([made.alignment(text="x" * 10_000)], path)
    html = path.read_text("utf-8")
    # Measured by a script of the test's own, so the policy is taken out.
    probe = (
        "<script>document.querySelectorAll('details').forEach((d) => (d.open = true));"
        "document.title = [document.documentElement.scrollWidth, innerWidth].join()</script></body>"
    )
    html = re.sub(r"<meta http-equiv[^>]*>", "", html).replace("</body>", probe)
    path.write_text(html, "utf-8")
    content, window = map(int, title(browser.dom(path.as_uri())).split(","))
    assert content <= window


def png_rows(path: Path) -> list[bytes]:
    """Rows of an 8-bit RGB or RGBA image, three bytes per pixel."""
    data = path.read_bytes()
    width, height, depth, colour = struct.unpack(">IIBB", data[16:26])
    assert depth == 8
    size = {2: 3, 6: 4}[colour]
    body, place = b"", 8
    while place < len(data):
        length = int.from_bytes(data[place : place + 4], "big")
        if data[place + 4 : place + 8] == b"IDAT":
            body += data[place + 8 : place + 8 + length]
        place += 12 + length
    raw, rows, before = zlib.decompress(body), [], bytes(width * size)
    for n in range(height):
        start = n * (width * size + 1)
        line = _unfiltered(
            raw[start], bytearray(raw[start + 1 : start + 1 + width * size]), before, size
        )
        rows.append(b"".join(line[x : x + 3] for x in range(0, len(line), size)))
        before = line
    return rows


def _unfiltered(kind: int, line: bytearray, above: bytes, size: int) -> bytes:
    """One row of a PNG with its filter (PNG specification, section 9) undone."""
    for i in range(len(line)):
        a = line[i - size] if i >= size else 0
        b, c = above[i], above[i - size] if i >= size else 0
        nearest = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
        line[i] = (line[i] + (0, a, b, (a + b) // 2, nearest)[kind]) & 255
    return bytes(line)
