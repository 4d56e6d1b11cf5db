"""Reports: HTML, Markdown and JSON, from alignments alone.

A report must be true and harmless whatever the model said: every text that
reaches a template is made visible first (``harness.report.text``), and the
HTML page forbids itself every script and every request but its own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness import jsonfile
from harness.alignment.result import Alignment, save_alignment
from harness.errors import UsageError

if TYPE_CHECKING:
    from jinja2 import Environment

    from harness.report.view import AlignmentView

_TEMPLATES = Path(__file__).parent / "templates"

#: What a GitHub comment holds.
COMMENT_LIMIT = 65_536


def render(alignments: Sequence[Alignment], path: Path) -> None:
    """Write a report, whole or not at all; the format is that of the suffix.

    Raises:
        UsageError: if the suffix is none of .html, .md and .json, if there is
            no alignment, or if several are to go into one .json.
        HarnessError: if the file cannot be written.
    """
    check_report_path(path)
    suffix = path.suffix.lower()
    if not alignments:
        raise UsageError(f"{path}: there is no alignment to report; name at least one")
    if suffix == ".html":
        jsonfile.write_bytes(path, to_html(alignments).encode("utf-8"))
    elif suffix == ".md":
        jsonfile.write_bytes(path, to_markdown(alignments).encode("utf-8"))
    elif len(alignments) > 1:
        raise UsageError(
            f"{path}: one .json holds one alignment, not {len(alignments)}; "
            "choose .html or .md, or write one file for each"
        )
    else:
        save_alignment(alignments[0], path)


def check_report_path(path: Path) -> None:
    """See that there is a format of that suffix.

    Raises:
        UsageError: if it is none of .html, .md and .json.
    """
    if path.suffix.lower() not in {".html", ".md", ".json"}:
        raise UsageError(f"{path}: a report is .html, .md or .json; end its name in one of them")


def to_html(alignments: Sequence[Alignment]) -> str:
    """One self-contained page, encodable as UTF-8; several alignments begin
    with a table of their verdicts."""
    from markupsafe import Markup

    from harness.report import charts
    from harness.report.view import views

    shown = views(alignments)
    return (
        _html_environment()
        .get_template("report.html.j2")
        .render(
            alignments=shown,
            title=_title(shown),
            style=Markup(_source("report.css")),  # noqa: S704 - the project's own file
            script=Markup(_source("report.js")),  # noqa: S704 - the project's own file
            error_chart=charts.error_chart,
            heat_map=charts.heat_map,
            level_names=charts.LEVEL_NAMES,
            most_rows=charts.MOST_ROWS,
        )
    )


def to_markdown(alignments: Sequence[Alignment], limit: int = COMMENT_LIMIT) -> str:
    """Markdown for a comment of at most ``limit`` characters.

    Where there is too much, details of prompts go first, then rows of the
    parity tables, then whole alignments; a line says how many were left out.
    Characters are UTF-16 code units: never fewer than code points, and 65,536
    of them are never more than GitHub's 262,144 bytes.

    Raises:
        ValueError: if not even the first lines fit.
    """
    from harness.report.view import views

    shown = views(alignments)
    template = _markdown_environment().get_template("report.md.j2")

    def attempt(size: int) -> str:
        text = template.render(alignments=shown, cut=_cut(shown, size))
        return text.rstrip("\n") + "\n"

    return _largest_fitting(attempt, _steps(shown), limit)


@dataclass(frozen=True)
class _Cut:
    """How much of a Markdown report is kept: rows of the summary, whole
    alignments, and of each its rows of the parity table and prompts in detail."""

    summary: int
    sections: int
    rows: int
    details: int


def _sizes(shown: Sequence[AlignmentView]) -> tuple[int, int, int, int]:
    most_rows = max((len(view.prompts) for view in shown), default=0)
    most_details = max((len(view.noteworthy) for view in shown), default=0)
    return len(shown), len(shown), most_rows, most_details


def _steps(shown: Sequence[AlignmentView]) -> int:
    return sum(_sizes(shown))


def _cut(shown: Sequence[AlignmentView], size: int) -> _Cut:
    """The first ``size`` pieces in the order of their worth."""
    kept = []
    for most in _sizes(shown):
        kept.append(min(size, most))
        size -= kept[-1]
    return _Cut(*kept)


def _largest_fitting(attempt: Callable[[int], str], most: int, limit: int) -> str:
    """The longest text within the limit, by bisection over its pieces."""
    best = attempt(most)
    if _length(best) <= limit:
        return best
    low, high = 0, most
    best = attempt(low)
    if _length(best) > limit:
        raise ValueError(f"{limit} characters do not hold the first lines of a report")
    while high - low > 1:
        middle = (low + high) // 2
        text = attempt(middle)
        if _length(text) <= limit:
            low, best = middle, text
        else:
            high = middle
    return best


def _length(text: str) -> int:
    return len(text.encode("utf-16-le")) // 2


def _title(shown: Sequence[AlignmentView]) -> str:
    if len(shown) != 1:
        return f"{len(shown)} alignments"
    return f"{shown[0].verdict}: {shown[0].source.candidate.name}"


def _source(name: str) -> str:
    return (_TEMPLATES / name).read_text("utf-8")


def _csp(source: str) -> str:
    """The Content-Security-Policy source that allows exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(source.encode()).digest()).decode()


def _final(value: Any) -> Any:
    """What a template prints: no hidden character, no None, no bare float.

    The templates' filters do this already; this holds where one was forgotten.
    """
    from markupsafe import Markup

    from harness.report.text import NONE, number, visible

    if isinstance(value, Markup):
        return value
    if isinstance(value, str):
        return visible(value)
    if value is None:
        return NONE
    return number(value) if isinstance(value, float) else value


@lru_cache(maxsize=1)
def _html_environment() -> Environment:
    from harness.report import text

    environment = _environment(autoescape=True)
    environment.filters.update(
        text=text.html_text, token=text.html_token, number=text.number, csp=_csp
    )
    return environment


@lru_cache(maxsize=1)
def _markdown_environment() -> Environment:
    from harness.report import text

    # Markdown is no HTML: its own filters make each text a code span.
    environment = _environment(autoescape=False)
    environment.filters.update(
        code=text.markdown_code,
        cell=text.markdown_cell,
        prose=text.markdown_prose,
        number=text.number,
    )
    return environment


def _environment(*, autoescape: bool) -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=autoescape,  # noqa: S701 - off for Markdown only
        undefined=StrictUndefined,
        finalize=_final,
        trim_blocks=True,
        lstrip_blocks=True,
    )
