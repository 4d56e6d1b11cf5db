"""Makes docs/images/report.png, the README's picture: the top of a real report.

    python docs/images/make_picture.py

It takes the alignment out of the committed report docs/examples/vllm-cpu-mixed.html, renders
it again with today's code, and takes a picture of the verdict and the first gates. It needs the
extra ``test`` (playwright) and the system's Chromium.
"""

from __future__ import annotations

import base64
import re
import shutil
import subprocess
import sys
import tempfile
import zlib
from pathlib import Path

from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
REPORT = HERE.parent / "examples" / "vllm-cpu-mixed.html"
PICTURE = HERE / "report.png"
#: Pixels of the page, and of the picture for each: GitHub shows a README about 830 wide.
WIDTH, SCALE = 1060, 1.25
LARGEST = 200_000
#: Shows the verdict and the first six gates; the rest of the page is for a larger screen.
STYLE = """
main > section { display: none !important; }
header, nav, footer, .asks, article > section:not(.hero):not(:has(> table.gates)),
table.gates ~ *, table.gates tbody tr:nth-child(n + 7) { display: none !important; }
main { padding: 12px 16px 8px !important; }
article, article > .hero { margin-top: 0 !important; }
article > section { margin-top: 16px !important; }
table.gates td.n { white-space: nowrap; }
"""


def alignment_of(report: str) -> bytes:
    """The JSON of the alignment that a report holds for download."""
    data = re.search(r'<script type="application/x-deflate-base64"[^>]*>([^<]+)<', report)
    if data is None:
        sys.exit(f"{REPORT}: no alignment in this report")
    return zlib.decompress(base64.b64decode(data[1]), -zlib.MAX_WBITS)


def photograph(page: Path, picture: Path) -> None:
    """``picture`` of the verdict and the gates of ``page``, as wide as WIDTH."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_playwright() as library:
        browser = library.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        window = browser.new_page(
            viewport={"width": WIDTH, "height": 600},
            device_scale_factor=SCALE,
            bypass_csp=True,
            color_scheme="light",
        )
        window.goto(page.as_uri())
        window.add_style_tag(content=STYLE)
        window.locator("main").screenshot(path=picture)
        browser.close()


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        alignment = Path(folder) / "vllm-cpu.alignment.json"
        alignment.write_bytes(alignment_of(REPORT.read_text("utf-8")))
        page = Path(folder) / "report.html"
        render = ["-m", "harness", "report", str(alignment), "--out", str(page), "--lang", "en"]
        subprocess.run([sys.executable, *render], check=True)
        photograph(page, PICTURE)
    size = PICTURE.stat().st_size
    if size > LARGEST:
        sys.exit(f"{PICTURE}: {size:,} bytes, at most {LARGEST:,}; make SCALE smaller")
    sys.stdout.write(f"{PICTURE}: {size:,} bytes\n")


if __name__ == "__main__":
    main()
