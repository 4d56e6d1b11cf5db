"""Markdown for comments on GitHub, GitLab and GitCode, and for step summaries.

Only what all three draw is used: headings, tables, lists, code spans.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from harness.alignment.result import Alignment
from harness.report.environment import environment, in_one
from harness.report.language import Language, say

if TYPE_CHECKING:
    from jinja2 import Environment

    from harness.report.views.alignment import AlignmentView

#: What a GitHub comment holds; GitLab's and GitCode's hold more.
COMMENT_LIMIT = 65_536


def to_markdown(
    alignments: Sequence[Alignment], limit: int = COMMENT_LIMIT, language: Language = "en"
) -> str:
    """Markdown for a comment of at most ``limit`` characters.

    Where there is too much, details of prompts go first, then rows of the
    parity tables, then whole alignments; a line says how many were left out.
    Characters are UTF-16 code units: never fewer than code points, and 65,536
    of them are never more than GitHub's 262,144 bytes.

    Raises:
        ValueError: if not even the first lines fit.
    """
    from harness.report.views.alignment import views
    from harness.report.views.overview import overview

    shown = views(alignments)
    together = overview(shown) if len(shown) > 1 else None
    template = _environment().get_template("report.md.j2")

    def attempt(size: int) -> str:
        text = template.render(
            alignments=shown,
            overview=together,
            cut=_cut(shown, size),
            t=partial(say, language),
            to=lambda text: text.to(language),
            marker=marker(alignments),
        )
        return text.rstrip("\n") + "\n"

    return _largest_fitting(attempt, _steps(shown), limit)


def marker(alignments: Sequence[Alignment]) -> str:
    """The first line, which nobody sees: CI finds by it the comment to write anew, one for
    each device, model, suite and dtype."""
    arms = [alignment.candidate for alignment in alignments]
    words = {"-".join((a.device, a.model.name, a.suite.name, a.dtype)) for a in arms}
    return marker_of("report", *sorted(words))


def marker_of(kind: str, *words: str) -> str:
    """A comment of HTML with twenty letters that stand for the words. The words themselves are
    a stranger's: one could be a reference that a forge makes a link of."""
    digest = hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest()
    letters = "".join(chr(ord("a") + int(digit, 16)) for digit in digest[:20])
    return f"<!-- harness-{kind} {letters} -->"


@dataclass(frozen=True)
class _Cut:
    """How much of a Markdown report is kept: rows of the summary, trends, whole
    alignments, and of each its rows of the parity table and prompts in detail."""

    summary: int
    trends: int
    sections: int
    rows: int
    details: int


def _sizes(shown: Sequence[AlignmentView]) -> tuple[int, int, int, int, int]:
    most_rows = max((len(view.prompts) for view in shown), default=0)
    most_details = max((len(view.noteworthy) for view in shown), default=0)
    # There are never more trends than alignments.
    return len(shown), len(shown), len(shown), most_rows, most_details


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


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from harness.report import text
    from harness.report.views import overview

    # Not HTML: Markdown's own filters make each text a code span.
    made = environment(autoescape=False)
    made.filters.update(
        code=text.markdown_code,
        cell=text.markdown_cell,
        prose=text.markdown_prose,
        number=text.number,
    )
    made.globals.update(speed=overview.speed)
    return made


def plain(template: str, language: Language, **values: Any) -> str:
    """Markdown of another report in one language, under the same guards."""
    made = _environment().get_template(template)
    return made.render(**in_one(language, say), **values).rstrip("\n") + "\n"
