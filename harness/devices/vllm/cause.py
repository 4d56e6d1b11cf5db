"""The cause of an engine's error in one line.

Errors arrive wrapped: torch names the back end that raised, pydantic and
vLLM-Ascend draw frames, an engine points to the log of its worker. The line
that says the cause stands below such a line, or in another error of the chain.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from harness.model.hub import first_line

#: Characters of the line at most; of the text so many are read.
LONGEST = 600
_READ = 100_000
#: Errors of a chain that are looked at.
_DEEPEST = 20

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
#: What frames and rules are drawn with.
_SIDES = "|\u2502\u2503\u2551"
_STARS = "=*#"
_DRAWN = "".join((_SIDES, _STARS, " -_~+`\"'<>^.", *map(chr, range(0x2500, 0x2580))))
#: A title that says only that something is wrong.
_TITLE = re.compile(
    r"(?:(?:fatal|critical|internal|runtime)\s)?(?:error|failure|warning|fatal)s?:?", re.IGNORECASE
)
#: Lines that point to the cause, or say where it was met, and not what it is.
_POINTS = re.compile(
    r"""
      .*\braised:$
    | Traceback\ \(most\ recent\ call\ last\):$
    | TraceBack\ \(most\ recent\ call\ last\):$
    | (?:[\w.]*\.)?\w*(?:Error|Exception|Warning|Exit|Interrupt):?$
    | (?:Value\ error|Assertion\ failed),$
    | The\ above\ exception\ was\ the\ direct\ cause\b.*
    | During\ handling\ of\ the\ above\ exception\b.*
    | (?:\w+\ )?(?:caused\ by|root\ cause|reason|from\ user\ code|details?):$
    | ray::.*\(.*pid=.*\)$
    | File\ ".*",\ line\ \d+.*
    | .*\bERR\d{5}\ \w+\ call\ \w+\ api\ failed\b.*
    | Engine\ ?core\ initialization\ failed\b.*
    | WorkerProc\ initialization\ failed\b.*
    | EngineCore\ encountered\ an\ issue\b.*
    | Worker\ failed\ with\ error\ '',.*
    | (?:please\ )?(?:see|check)\ (?:the\ )?(?:stack\ ?trace|traceback|root\ cause|logs?)\b.*
    | Set\ TORCH\w+=.*
    | You\ can\ suppress\ this\ exception\b.*
    | .*\(\d+\ sub-exceptions?\)$
    """,
    re.VERBOSE | re.IGNORECASE,
)
#: What vLLM puts around the error of a worker.
_AROUND = re.compile(
    r"^Worker failed with error '(?=.)"
    r"|',? please check the stack trace above for the root cause\.?$"
)
_PREFIX = re.compile(r"^(?:Value error|Assertion failed),\s+")
_KIND = re.compile(r"^[\w.]*(?:Error|Exception): ")


def reason(error: BaseException) -> str:
    """What went wrong, in one line of at most LONGEST characters.

    Of an error whose whole chain says nothing, the first line of its last.
    """
    return cause_of(error) or _bounded(first_line(list(_chain(error))[-1]))


def cause_of(error: BaseException) -> str | None:
    """As :func:`reason`; None where the error and its chain only point elsewhere."""
    for each in _chain(error):
        told = _told(each)
        if told is not None:
            return _bounded(told)
    return None


def _chain(error: BaseException) -> Iterator[BaseException]:
    """The error, then what it was raised from, each once."""
    waiting, seen = [error], set[int]()
    while waiting and len(seen) < _DEEPEST:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        context = None if each.__suppress_context__ else each.__context__
        kept = (getattr(each, "inner_exception", None), getattr(each, "cause", None))
        group = getattr(each, "exceptions", ())
        behind = (*kept, *(group if isinstance(group, (list, tuple)) else ()))
        behind = (*behind, each.__cause__, context)
        waiting += [one for one in behind if isinstance(one, BaseException)]


def _told(error: BaseException) -> str | None:
    text = _COLOUR.sub("", str(error)[:_READ])
    if isinstance(error, KeyError) and text:
        return f"{type(error).__name__}: {text}"
    field, message = _unframed(text)
    line = _line(message)
    return f"{field}: {line}" if field and line else line


def _unframed(text: str) -> tuple[str, str]:
    """The field and the message of pydantic's first error; else no field and the text."""
    lines = [line for line in text.splitlines() if line.strip()]
    if len(lines) < 2 or "validation error" not in lines[0]:
        return "", text
    # The second line is the message, or the name of the field that it is about.
    is_field = len(lines) > 2 and " " not in lines[1]
    message = "\n".join(lines[2 if is_field else 1 :]).partition(" [type=")[0]
    return lines[1].strip() if is_field else "", message


def _line(text: str) -> str | None:
    """The first line that says something; one that ends in a colon, with what follows it."""
    begun = ""
    code_at: int | None = None  # how far a traceback's code is indented
    for raw in text.splitlines():
        line = _undrawn(raw.strip())
        indent = len(raw) - len(raw.lstrip())
        if re.match(r'File ".*", line \d+', line):
            code_at = indent
            continue
        if code_at is not None and indent > code_at and line:
            continue
        code_at = None
        line = _PREFIX.sub("", _AROUND.sub("", line))
        if _says_nothing(line):
            continue
        if line.endswith(":") and not begun:
            begun = line
            continue
        return f"{begun} {line}".strip()
    return begun or None


def _undrawn(line: str) -> str:
    """Without the sides of a box around it, or the stars around a title."""
    if line[:1] and line[0] in _SIDES:
        return line.strip(_SIDES).strip()
    if len(line) > 2 and line[0] in _STARS and line[:3] == line[0] * 3:
        return line.strip(_STARS).strip()
    return line


def _says_nothing(line: str) -> bool:
    title = line.strip(_DRAWN)
    if not title or _TITLE.fullmatch(title):
        return True
    return any(_POINTS.fullmatch(each) for each in (line, _KIND.sub("", line)))


def _bounded(line: str) -> str:
    """Cut in the middle: the end of a long line often says more than its middle."""
    if len(line) <= LONGEST:
        return line
    half = (LONGEST - 3) // 2
    return f"{line[:half]} … {line[-(LONGEST - 3 - half) :]}"
