"""A suite of 1,000 prompts: the report leaves out details, says so, and stays small."""

from __future__ import annotations

import re
import time

import pytest
from report_alignments import Page, alignment, prompt, units

from harness.report import to_html, to_markdown


@pytest.mark.slow
def test_a_thousand_prompts_by_64_positions() -> None:
    """Time of the processor: on a busy machine the clock measures the neighbours."""
    many = [prompt(f"prompt-{n}", count=64, flip=n % 64) for n in range(990)]
    bad = [prompt(f"bad-{n}", count=64, bad=n, verdict="DRIFT") for n in range(10)]
    found = alignment("DRIFT", prompts=(*many, *bad))
    start = time.process_time()
    html, markdown = to_html([found]), to_markdown([found])
    assert time.process_time() - start < 45.0
    assert len(html.encode()) < 5_000_000
    assert units(markdown) <= 65_536
    page = Page(html)
    left = re.search(r"([\d,]+) more prompts are in this list", page.text)
    assert left is not None
    kept = 1_000 - int(left[1].replace(",", ""))
    assert f"Embedded: {kept} of 1,000 prompts" in page.text
    assert kept >= 100
    assert "800 prompts have no row in this chart" in page.text
    assert all(f"a1-p{990 + n}" in page.ids for n in range(10))
    assert "prompts are left out of this table" in markdown
