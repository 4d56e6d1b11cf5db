"""The two languages of a report, and how a message comes to be in both.

An HTML page holds both languages and shows one, so its reader can change it;
Markdown is written in one. What is put into a message is escaped, what stands
in it is the project's own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from harness.errors import UsageError
from harness.messages.render import Formatter, fill
from harness.messages.statement import Stated, told
from harness.messages.tables import LANGUAGES, MESSAGES, Language

__all__ = ["LANGUAGES", "MESSAGES", "Language"]


@dataclass(frozen=True)
class Said:
    """A text in both languages, not yet made harmless."""

    en: str
    zh: str

    def to(self, language: Language) -> str:
        """The text in one language."""
        return self.zh if language == "zh" else self.en


class _Escaping(Formatter):
    """Makes every value harmless in HTML, unless it is markup already."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if isinstance(value, Markup) and "|" not in format_spec:
            return value
        return escape(super().format_field(value, format_spec))


def say(language: Language, key: str, **values: Any) -> str:
    """A message in one language, as plain text; a Said among the values comes
    in that language.

    Raises:
        KeyError: if there is no such message, or it needs a value more.
    """
    return fill(MESSAGES[language][key], _in(language, values), Formatter(language))


def said(key: str, **values: Any) -> Said:
    """A message in both languages."""
    return Said(say("en", key, **values), say("zh", key, **values))


def said_of(stated: Stated) -> Said:
    """What the judgement says, in both languages."""
    return Said(told(stated, "en"), told(stated, "zh"))


def both(key: str, **values: Any) -> Markup:
    """A message in both languages for HTML, of which the page shows one."""
    return pair(*(one(name, key, **values) for name in LANGUAGES))


def one(language: Language, key: str, **values: Any) -> Markup:
    """A message in one language for HTML."""
    # The messages are the project's own, and their values are escaped.
    return Markup(fill(MESSAGES[language][key], _in(language, values), _Escaping(language)))  # noqa: S704


def pair(english: Markup, chinese: Markup) -> Markup:
    """Two texts for HTML; one text where they are alike."""
    if english == chinese:
        return english
    return Markup('<span lang="en">{}</span><span lang="zh">{}</span>').format(english, chinese)


def _in(language: Language, values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v.to(language) if isinstance(v, Said) else v for k, v in values.items()}


def default_language(environment: Mapping[str, str] | None = None) -> Language:
    """The language of the locale: Chinese where that is Chinese, else English.

    As POSIX has it: the first of LC_ALL, LC_MESSAGES and LANG that is set
    decides. Where none is, the operating system's own setting does.
    """
    environment = os.environ if environment is None else environment
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if environment.get(name):
            return "zh" if environment[name].lower().startswith("zh") else "en"
    import locale

    name = locale.getlocale()[0] or ""
    return "zh" if name.lower().startswith(("zh", "chinese")) else "en"


def language_of(name: str | None) -> Language:
    """The language that ``--lang`` names; None is that of the locale.

    Raises:
        UsageError: if it is neither ``en`` nor ``zh``.
    """
    if name is None:
        return default_language()
    for known in LANGUAGES:
        if name == known:
            return known
    raise UsageError(f"--lang {name}: a report is in en (English) or zh (Chinese)")
