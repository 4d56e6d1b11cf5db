"""Numbers for readers, and untrusted text made visible and harmless.

Model output may hold anything: markup, control characters, marks that reverse
the reading direction, invisible characters, lone surrogates that no UTF-8 file
can hold. Each of those is shown as an escape such as ``\\u202e``, so a reader
sees what is there and a page cannot be changed by it.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from itertools import groupby

from markupsafe import Markup, escape

#: Placeholder for a missing figure.
NONE = "—"

#: Characters that draw nothing although their category says they would
#: (variation selectors, Hangul fillers, Khmer inherent vowels, blank braille).
_BLANK = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}.union(range(0x180B, 0x1810))
    .union(range(0xFE00, 0xFE10))
    .union(range(0xE0100, 0xE01F0))
)
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
#: Marks on one letter beyond these are escaped: a pile of them covers the page.
_MARKS = 4
#: Texts of at most this many characters are kept, for the next time.
_OFTEN = 1000
_NAMED = {"\n": "↵", "\r": "\\r", "\t": "\\t", "\0": "\\0"}


def number(value: float | int | None) -> str:
    """Four significant digits; an em dash for None, NaN and infinities."""
    if value is None or not math.isfinite(value):
        return NONE
    if isinstance(value, int) or 1e4 <= abs(value) < 1e9:
        return f"{value:,.0f}"
    return f"{value + 0.0:.4g}"  # adding 0.0 turns -0 into 0


def seconds(value: float | None) -> str:
    """A time with its unit: seconds from one second on, else milliseconds."""
    if value is None or not math.isfinite(value):
        return NONE
    return f"{number(value)} s" if abs(value) >= 1 else f"{number(value * 1000)} ms"


def size(value: float | None) -> str:
    """Bytes in binary units."""
    if value is None:
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            return f"{number(float(value))} {unit}"
        value /= 1024
    raise AssertionError  # the loop ends at GiB


def percent(value: float | None) -> str:
    """A share as a percentage, three significant digits."""
    return NONE if value is None or not math.isfinite(value) else f"{100 * value:.3g} %"


@lru_cache(maxsize=4096)
def _escape_of(char: str) -> str | None:
    """How a character is shown where it cannot stand for itself."""
    if char in _NAMED:
        return _NAMED[char]
    code = ord(char)
    category = unicodedata.category(char)
    odd_space = category == "Zs" and char not in " \u3000"
    if category not in _HIDDEN and code not in _BLANK and not odd_space:
        return None
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def segments(text: str) -> Iterator[tuple[bool, str]]:
    """The text in pieces: (are they escapes, what to show); ``↵`` stands alone.

    A combining mark with no letter of its own before it is escaped too, since
    it would be drawn over the page's own text.
    """
    for (hidden, _), group in groupby(_characters(text), key=lambda c: (c[0], c[1] == "↵")):
        if hidden:
            shown = [escape for _, escape in group]
            yield from ((True, s) for s in (shown if shown[0] == "↵" else ["".join(shown)]))
        else:
            yield False, "".join(char for _, char in group)


def _characters(text: str) -> Iterator[tuple[bool, str]]:
    """Each character: (is it an escape, what to show)."""
    marks = _MARKS  # none may open the text
    for char in text:
        shown = _escape_of(char)
        if shown is None and unicodedata.category(char) in {"Mn", "Me"}:
            marks += 1
            if marks > _MARKS:
                shown = f"\\u{ord(char):04x}"
        elif shown is None:
            marks = 0
        if shown is None:
            yield False, char
        else:
            marks = _MARKS
            yield True, shown


def visible(text: str) -> str:
    """The text with every hidden character as an escape; safe to encode."""
    if text.isascii() and text.isprintable():
        return text
    return _visible_again(text) if len(text) <= _OFTEN else _visible(text)


def _visible(text: str) -> str:
    return "".join(shown for _, shown in _characters(text))


@lru_cache(maxsize=8192)
def _visible_again(text: str) -> str:
    """Tokens and names come up again and again."""
    return _visible(text)


def shortened(text: str, limit: int) -> str:
    """The text, or its beginning and how long it is."""
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def html_text(text: str) -> Markup:
    """A text for HTML: isolated in direction, escapes marked, line breaks kept."""
    return Markup('<bdi class="t">{}</bdi>').format(_marked(text, breaks=True))


def html_token(text: str) -> Markup:
    """One token for HTML: also its outer spaces are shown, and no line breaks."""
    if not text:
        return Markup('<bdi class="t"><span class="esc">(empty)</span></bdi>')
    inner = text.strip(" ")
    before = len(text) - len(text.lstrip(" ")) if inner else len(text)
    after = len(text) - before - len(inner)
    return Markup('<bdi class="t">{}{}{}</bdi>').format(
        _spaces(before), _marked(inner, breaks=False), _spaces(after)
    )


def _spaces(count: int) -> Markup:
    return Markup('<span class="esc">{}</span>').format("␣" * count) if count else Markup()


def html_cell(text: str) -> Markup:
    """What stands within a token's own element: line breaks as marks, no wrapper."""
    if not text.strip(" "):
        return _spaces(len(text)) or Markup('<span class="esc">∅</span>')
    return _marked(text, breaks=False)


def _marked(text: str, *, breaks: bool) -> Markup:
    parts = []
    for hidden, shown in segments(text):
        end = Markup("<br>") if breaks and shown == "↵" else Markup()
        parts.append(
            Markup('<span class="esc">{}</span>{}').format(shown, end) if hidden else escape(shown)
        )
    return Markup().join(parts)


#: Chinese punctuation, which means nothing in Markdown.
_STOPS = re.compile("([，。：；（）、])")
#: A signed number, or a percent sign with what closes a sentence or brackets.
_FIGURE = re.compile(r"(?:\(?[+\-−][0-9]+(?:\.[0-9]+)?(?:e[+-]?[0-9]+)?%?|%)[),.;:]{0,3}")
#: Words that Markdown and GitHub leave as they are: no markup, mention, link,
#: emoji name or reference can be made of these characters.
_PLAIN_WORD = re.compile(
    r"[(\"'“（]*[^\W_](?:[^\W_]|(?<=[A-Za-z0-9])_(?=[A-Za-z0-9])"
    r"|[.,;:()%±/+\-\u2013\u2014−='\"!?×≤≥：；，。、（）“”！？]){0,199}"
)

#: What GitHub and GitLab make a link of without any markup: an issue, the number of a commit, a
#: merge request.
_REFERENCE = re.compile(
    r"\bGH-[0-9]|(?<![^\W_])(?=[a-f]*[0-9])(?=[0-9]*[a-f])[0-9a-f]{7,64}(?![^\W_])|[0-9]{40}"
    r"|[^\W_]![0-9]",
    re.IGNORECASE,
)


def markdown_code(text: str, limit: int = 200) -> str:
    """The text as one code span, outside of tables."""
    shown = visible(shortened(text, limit)) or "(empty)"
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    fence = "`" * (longest + 1)
    # One space on both sides is taken off again by Markdown.
    pad = " " if shown[0] in "` " or shown[-1] in "` " else ""
    return f"{fence}{pad}{shown}{pad}{fence}"


def markdown_cell(text: str, limit: int = 200) -> str:
    """The text as one code span within a table.

    A table is cut at pipes before code spans are read, so pipes are escaped
    there, and a backslash before a pipe, which would undo that, is spelt out.
    """
    whole = re.sub(r"\\+(?=\|)", lambda run: r"\x5c" * len(run[0]), shortened(text, limit))
    return markdown_code(whole, limit=len(whole)).replace("|", "\\|")


def markdown_prose(text: str, limit: int = 600) -> str:
    """A sentence: plain words stay, any other word becomes a code span. Chinese
    punctuation, which no space follows, ends a word too."""
    # Right in a table and outside of one: no pipe stays a pipe.
    words = visible(shortened(text, limit)).replace("|", r"\x7c").split()
    return " ".join("".join(_prose(part, limit) for part in _STOPS.split(w)) for w in words)


def _prose(word: str, limit: int) -> str:
    plain = not word or _STOPS.fullmatch(word) or _is_plain(word)
    return word if plain else markdown_code(word, limit)


def _is_plain(word: str) -> bool:
    if word in {NONE, "-", "\u2013", "="} or _FIGURE.fullmatch(word):
        return True
    lowered = word.lower()
    return (
        _PLAIN_WORD.fullmatch(word) is not None
        and _REFERENCE.search(word) is None
        and "://" not in lowered
        and "www." not in lowered
        and lowered.count(":") < 2
    )
