"""The HTML page: one file that forbids itself every script and request but its own."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from harness.alignment.result import Alignment
from harness.report import charts
from harness.report.environment import environment, in_one, source
from harness.report.language import LANGUAGES, MESSAGES, Language, Said, both, one, pair
from harness.report.views.environment import moment

if TYPE_CHECKING:
    from jinja2 import Environment

    from harness.report.views.alignment import AlignmentView


def to_html(alignments: Sequence[Alignment], language: Language = "en") -> str:
    """One self-contained page, encodable as UTF-8; several alignments begin
    with a table of their verdicts.

    The page holds both languages and opens in the given one. The same
    alignments in the same language give the same text.
    """
    from harness.report.embed import embed
    from harness.report.views.alignment import views
    from harness.report.views.overview import overview

    shown = views(alignments)
    page = _environment().get_template("report.html.j2")
    return page.render(
        alignments=shown,
        embedded=[embed(view) for view in shown],
        overview=overview(shown) if len(shown) > 1 else None,
        language=language,
        words=WORDS,
        title=_title(shown),
        style=Markup(stylesheet()),  # noqa: S704 - the project's own file
        script=Markup(source("report.js")),  # noqa: S704 - the project's own file
    )


def _title(shown: Sequence[AlignmentView]) -> str:
    if len(shown) != 1:
        return f"{len(shown)} × harness"
    return f"{shown[0].verdict}: {shown[0].source.candidate.name}"


#: Figures of a prompt's row that carry their name on a narrow screen.
_LABELS = {
    "kn": "tokens",
    "kd": "divergence",
    "kc": "class",
    "km": "margin",
    "ks": "shift",
    "kt": "tolerance",
    "ke": "error_ratio",
}


#: What the glossary of a page explains, in its order.
WORDS = (
    *("candidate", "reference", "oracle", "control", "baseline", "arm", "context"),
    *("position", "logit", "gate", "error", "error_ratio", "interval"),
    *("flip", "divergence", "margin", "shift", "tolerance", "class"),
)


@lru_cache(maxsize=1)
def stylesheet() -> str:
    """The style sheet, with the names of a row's figures in both languages:
    a thousand rows would else carry them a thousand times."""
    rules = [source("report.css").rstrip()]
    for language in LANGUAGES:
        for column, key in _LABELS.items():
            name = MESSAGES[language][key].replace("\\", "").replace('"', "")
            place = f":root[lang={language}] .r:not(.heads) > .{column}::before"
            rules.append(f'{place} {{ content: "{name} "; }}')
    return "\n".join(rules) + "\n"


def _csp(text: str) -> str:
    """The Content-Security-Policy source that allows exactly this inline text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _both_texts(value: Said) -> Markup:
    """A text of the alignment in both languages, made harmless."""
    from harness.report.text import html_text

    return pair(html_text(value.en), html_text(value.zh))


def _ours(value: Said) -> Markup:
    """A text that the report put together, of words and figures of its own."""
    return pair(escape(value.en), escape(value.zh))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    from harness.report import text
    from harness.report.views import overview

    made = environment(autoescape=True)
    made.filters.update(
        text=text.html_text,
        token=text.html_token,
        cell=text.html_cell,
        number=text.number,
        moment=moment,
        both=_both_texts,
        ours=_ours,
        csp=_csp,
    )
    extra: dict[str, Any] = {"t": both, "charts": charts, "speed": overview.speed}
    made.globals.update(extra)
    return made


@dataclass(frozen=True)
class _Part:
    """A page in one language."""

    title: Markup
    heading: Markup
    main: Markup


def page(template: str, language: Language, values: Callable[[Language], Mapping[str, Any]]) -> str:
    """A page of another report, under the same guards: it holds both languages, and opens
    in the given one.

    Args:
        template: of the blocks ``title``, ``heading`` and ``main``.
        values: what the template shows, in one language.
    """
    parts = {name: _part(template, name, values(name)) for name in LANGUAGES}
    return (
        _environment()
        .get_template("standalone.html.j2")
        .render(
            language=language,
            title=parts[language].title,
            parts=parts,
            style=Markup(source("report.css") + source("bench.css")),  # noqa: S704 - our own files
            script=Markup(source("report.js")),  # noqa: S704 - the project's own file
        )
    )


def _part(template: str, language: Language, values: Mapping[str, Any]) -> _Part:
    made = _environment().get_template(template)
    context = made.new_context({**in_one(language, one), **values})
    # What a block gives was made harmless within it.
    return _Part(*(Markup("".join(made.blocks[name](context))) for name in _BLOCKS))  # noqa: S704


_BLOCKS = ("title", "heading", "main")
