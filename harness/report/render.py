"""Reports: HTML, Markdown and JSON, from alignments alone.

A report must be true and harmless for any model output: every text that
reaches a template is made visible first (``harness.report.text``), and the
HTML page forbids itself every script and every request but its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.alignment.result import Alignment, save_alignment
from harness.errors import UsageError
from harness.files.atomic import write_bytes
from harness.files.gzipped import name_of
from harness.report.html import to_html
from harness.report.language import Language
from harness.report.markdown import to_markdown

__all__ = ["check_report_path", "render", "to_html", "to_markdown"]

SUFFIXES = (".html", ".md", ".json")


def render(alignments: Sequence[Alignment], path: Path, language: Language = "en") -> None:
    """Write a report, whole or not at all; the format is that of the suffix.

    Raises:
        UsageError: if the suffix is not .html, .md or .json, if there is
            no alignment, or if several are to go into one .json.
        HarnessError: if the file cannot be written.
    """
    check_report_path(path)
    suffix = kind_of(path)
    if not alignments:
        raise UsageError(f"{path}: there is no alignment to report; name at least one")
    if suffix == ".html":
        write_bytes(path, to_html(alignments, language).encode("utf-8"))
    elif suffix == ".md":
        write_bytes(path, to_markdown(alignments, language=language).encode("utf-8"))
    elif len(alignments) > 1:
        raise UsageError(
            f"{path}: one .json holds one alignment, not {len(alignments)}; "
            "choose .html or .md, or write one file for each"
        )
    else:
        save_alignment(alignments[0], path)


def kind_of(path: Path) -> str:
    """The suffix that tells the format: of ``a.json.gz`` that is ``.json``."""
    plain = name_of(path)
    return plain.suffix.lower() if plain.suffix.lower() == ".json" else path.suffix.lower()


def check_report_path(path: Path) -> None:
    """See that there is a format of that suffix.

    Raises:
        UsageError: if it is not .html, .md or .json.
    """
    if kind_of(path) not in SUFFIXES:
        raise UsageError(f"{path}: a report is .html, .md or .json; end its name in one of them")
