"""From a message to a text in one language.

Texts are Python's format strings, with three additions:

- ``{flips:flips|flip}`` is the first word where the value is 1 (or a list of
  one), else the second: singular and plural.
- ``{reasons:list}`` and ``{parts:clauses}`` join a list, the second without
  the full stops of its sentences; ``{sentence:clause}`` drops a full stop.
- A format for a message within a message, as ``{ratio:.3f}``, is that of its
  numbers.
"""

from __future__ import annotations

import string
from collections.abc import Mapping
from typing import Any

from harness.messages.message import Message
from harness.messages.tables import MESSAGES, Language

#: How the items of a list are joined.
_BETWEEN: dict[Language, dict[str, str]] = {
    "en": {"list": ", ", "clauses": "; "},
    "zh": {"list": "、", "clauses": "；"},
}
_STOPS = ".。"


class Formatter(string.Formatter):
    """Fills a text of the tables; ``digits`` is the format of numbers without one."""

    def __init__(self, language: Language, digits: str = "") -> None:
        self._language = language
        self._digits = digits

    def format_field(self, value: Any, format_spec: str) -> str:
        if "|" in format_spec:
            return _counted(value, format_spec)
        if isinstance(value, tuple | list):
            inner = "clause" if format_spec == "clauses" else ""
            items = [self.format_field(item, inner) for item in value]
            return _BETWEEN[self._language][format_spec].join(items)
        if format_spec == "clause":
            return self.format_field(value, "").rstrip(_STOPS)
        if isinstance(value, Message):
            return render(value, self._language, format_spec)
        if isinstance(value, int | float):
            return str(super().format_field(value, format_spec or self._digits))
        return str(super().format_field(value, format_spec))


def render(found: Message, language: Language, digits: str = "") -> str:
    """The message in one language.

    Raises:
        KeyError: if there is no such message, or it needs a value more.
        ValueError: if a value cannot be shown as the text asks for.
    """
    return fill(MESSAGES[language][found.key], found.values, Formatter(language, digits))


def fill(text: str, values: Mapping[str, Any], formatter: Formatter) -> str:
    """A text of the tables with its values; errors as of :func:`render`."""
    return formatter.vformat(text, (), values)


def _counted(value: Any, words: str) -> str:
    one, _, other = words.partition("|")
    count = len(value) if isinstance(value, tuple | list) else value
    return one if str(count) == "1" else other
