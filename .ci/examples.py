"""Writes the report in docs/examples again from the alignment that it holds.

    python .ci/examples.py            # after a change of the report
    python .ci/examples.py --check    # ends with 1 where the files are not what the code writes

Benches have no such script: their pages do not hold the samples that they were made of.
"""

from __future__ import annotations

import base64
import re
import sys
import tempfile
import zlib
from pathlib import Path

from harness.alignment.result import load_alignment
from harness.report.html import to_html
from harness.report.markdown import to_markdown

EXAMPLE = Path(__file__).resolve().parent.parent / "docs" / "examples" / "vllm-cpu-mixed.html"
_HELD = re.compile(r'(<script type="application/x-deflate-base64"[^>]*>)([^<]+)(<)')


def held(page: str) -> bytes:
    """The alignment's JSON that a report holds for download."""
    found = _HELD.search(page)
    if found is None:
        sys.exit(f"{EXAMPLE}: no alignment in this report")
    return zlib.decompress(base64.b64decode(found[2]), -zlib.MAX_WBITS)


def rendered(page: str) -> tuple[str, str]:
    """The same alignment in HTML and Markdown, by today's code."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "alignment.json"
        file.write_bytes(held(page))
        alignments = [load_alignment(file)]
    return to_html(alignments), to_markdown(alignments)


def without_deflate(page: str) -> tuple[str, bytes]:
    """A page less its deflated bytes, in which builds of zlib differ, and what they hold."""
    return _HELD.sub(r"\1\3", page), held(page)


def main() -> None:
    """Write the files, or check them."""
    page = EXAMPLE.read_text("utf-8")
    html, markdown = rendered(page)
    beside = EXAMPLE.with_suffix(".md")
    same = without_deflate(page) == without_deflate(html) and beside.read_text("utf-8") == markdown
    if "--check" in sys.argv[1:]:
        sys.exit(0 if same else f"{EXAMPLE}: not what the code writes: run python .ci/examples.py")
    if not same:
        EXAMPLE.write_text(html, "utf-8")
        beside.write_text(markdown, "utf-8")


if __name__ == "__main__":
    main()
