"""One report file, of the format that its suffix names."""

from __future__ import annotations

from pathlib import Path

import pytest
from report_alignments import HOSTILE, alignment

from harness.alignment.result import load_alignment
from harness.errors import UsageError
from harness.report import render, to_html, to_markdown


@pytest.mark.parametrize("suffix", [".html", ".md", ".json"])
def test_render_writes_the_format_of_the_suffix(tmp_path: Path, suffix: str) -> None:
    found = alignment(text=HOSTILE)
    path = tmp_path / "deep" / f"report{suffix}"
    render([found], path)
    content = path.read_bytes().decode("utf-8")
    if suffix == ".json":
        assert load_alignment(path) == found
    else:
        assert content == {".html": to_html, ".md": to_markdown}[suffix]([found])
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_render_refuses_what_it_cannot_write(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.html, \.md or \.json"):
        render([alignment()], tmp_path / "report.pdf")
    with pytest.raises(UsageError, match="one alignment, not 2"):
        render([alignment(), alignment()], tmp_path / "report.json")
    with pytest.raises(UsageError, match="no alignment"):
        render([], tmp_path / "report.html")
    assert not list(tmp_path.iterdir())


def test_the_language_reaches_both_formats(tmp_path: Path) -> None:
    for suffix, word in ((".html", '<html lang="zh">'), (".md", "所有判据")):
        render([alignment()], tmp_path / f"r{suffix}", "zh")
        assert word in (tmp_path / f"r{suffix}").read_text("utf-8")
