"""The summary of a CI step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from report_alignments import alignment

from harness.errors import HarnessError
from harness.report.step_summary import STEP_LIMIT, append_step_summary


def test_it_is_added_to_the_file_that_the_runner_names(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    path.write_text("before\n", "utf-8")
    there = {"GITHUB_STEP_SUMMARY": str(path)}
    assert append_step_summary([alignment("DRIFT")], "en", there) == path
    text = path.read_text("utf-8")
    assert re.match("before\n\n<!-- harness-report [^>]+ -->\n## ✗ DRIFT", text)
    append_step_summary([alignment("DRIFT")], "zh", there)
    assert "所有判据" in path.read_text("utf-8")


def test_nothing_is_written_where_no_runner_asks(tmp_path: Path) -> None:
    assert append_step_summary([alignment()], "en", {}) is None
    assert append_step_summary([alignment()], "en", {"GITHUB_STEP_SUMMARY": ""}) is None
    assert not list(tmp_path.iterdir())


def test_a_full_summary_stays_within_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "summary.md"
    there = {"GITHUB_STEP_SUMMARY": str(path)}
    path.write_text("x" * (STEP_LIMIT - 4_000), "utf-8")
    assert append_step_summary([alignment(text="四" * 300)], "zh", there) == path
    assert STEP_LIMIT - 4_000 < path.stat().st_size <= STEP_LIMIT
    path.write_text("x" * STEP_LIMIT, "utf-8")
    assert append_step_summary([alignment()], "en", there) is None
    assert path.stat().st_size == STEP_LIMIT


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    there = {"GITHUB_STEP_SUMMARY": str(tmp_path)}
    with pytest.raises(HarnessError, match=r"GITHUB_STEP_SUMMARY=.*cannot be written"):
        append_step_summary([alignment()], "en", there)
