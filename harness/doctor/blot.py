"""Blotting secrets out of what may be sent to somebody: by their names, and by their looks."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

#: Without a space, and in the brackets of a placeholder: blotting twice changes nothing.
BLOT = "<blotted-out>"

_WORDS = ("TOKEN", "KEY", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH", "COOKIE")
#: Shorter values of secret variables are not looked for elsewhere: they are words.
_SHORTEST = 8

#: Secrets that show by themselves: tokens of hubs and clouds, a key as a text.
_LOOKS = re.compile(
    r"""
      (?<![A-Za-z0-9])hf_(?:(?=[A-Za-z0-9]*[0-9A-Z])[A-Za-z0-9]{8,}|[A-Za-z0-9]{16,})
    | (?<![A-Za-z0-9])(?:sk|glpat|xox[abprs])-[A-Za-z0-9_-]{16,}
    | (?<![A-Za-z0-9])(?:gh[opsru]_|github_pat_)[A-Za-z0-9_]{16,}
    | (?<![A-Za-z0-9])(?:AKIA|ASIA)[0-9A-Z]{16}(?![A-Za-z0-9])
    | (?<![A-Za-z0-9])eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*
    | -----BEGIN\ [A-Z ]*PRIVATE\ KEY-----[\s\S]*?(?:-----END\ [A-Z ]*PRIVATE\ KEY-----|\Z)
    | (?<=Bearer\ )[A-Za-z0-9._~+/=-]{8,}
    """,
    re.VERBOSE,
)
#: The user and the password of a URL.
_IN_URL = re.compile(r"(?<=://)[^\s/@'\"<>]{1,500}(?:@[^\s/@'\"<>]{1,500})*(?=@)")
#: The end of a name with its value: ``…_KEY=v``, ``"api_key": "v"``, ``--api-key v``. The
#: rest of the name is in capitals.
_NAMED = re.compile(
    r"""
    (?P<word>(?i:token|key|secret|password|passwd|credentials?|auth|authorization|cookie))
    (?P<rest>[A-Z0-9_]{0,60})
    (?P<sep>\\*["']?[ \t]*(?:=>|=|:)[ \t]*\[?|["']?(?:[ \t]+|[ \t]*,[ \t]*(?=["'])))
    (?:(?P<quote>\\*["'])(?P<quoted>[^\n]{1,10000}?)(?<!\\)(?P=quote)
      |(?P<plain>(?:(?i:bearer|basic|digest|token)[ ]+)?[^\s"'\\,;&\])}\x00]+))
    """,
    re.VERBOSE,
)
#: In front of such a word, the rest of its name.
_BEFORE = re.compile(r"[A-Za-z0-9_-]{0,80}\Z")
_JOINED = re.compile(r"[A-Za-z0-9]\Z")
_OF_A_KEY = re.compile(r"(?i:api|access|secret|private|auth|account)\Z")
_PLAIN_VALUES = re.compile(r"(?i:none|null|true|false|\*+|<.*>|)")
_NUMBERS = re.compile(r"[\d.]{1,8}")
_LIKE_A_SECRET = re.compile(r"[A-Za-z0-9_+/=-]{16,}")
#: The values of these headers go on to the end of the line.
_HEADER = re.compile(
    r"(?im)((?:^|[\s>{'\"])(?:set-)?(?:cookie|authorization)['\"]?:[ \t]*)([^\n'\"]+)"
)


def is_secret(name: str) -> bool:
    """Whether a variable of this name holds a secret."""
    upper = name.upper().replace("TOKENIZER", "")
    return any(word in upper for word in _WORDS)


@dataclass(frozen=True)
class Blotter:
    """Blots secrets out of text.

    Attributes:
        values: secrets that are known; blotted wherever they stand.
    """

    values: tuple[str, ...] = ()

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Blotter:
        """Knows the values of the variables that hold secrets."""
        found = {v for k, v in environment.items() if is_secret(k) and len(v) >= _SHORTEST}
        return cls(tuple(sorted(found, key=len, reverse=True)))

    def text(self, text: str) -> tuple[str, int]:
        """The text without secrets, and how many were blotted out."""
        count = 0
        for value in self.values:
            count += text.count(value)
            text = text.replace(value, BLOT)
        for pattern, replacement in ((_LOOKS, BLOT), (_IN_URL, BLOT), (_HEADER, rf"\1{BLOT}")):
            text, more = pattern.subn(replacement, text)
            count += more
        named = [0]

        def replace(found: re.Match[str]) -> str:
            value = found["quoted"] if found["quote"] else found["plain"]
            if value.startswith(BLOT) or not _is_named_secret(found, value):
                return found.group()
            named[0] += 1
            quote = found["quote"] or ""
            return f"{found['word']}{found['rest']}{found['sep']}{quote}{BLOT}{quote}"

        text = _NAMED.sub(replace, text)
        return text, count + named[0]

    def environment(self, variables: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
        """The named variables; a secret's value is blotted out, whatever it is."""
        return {
            name: BLOT if is_secret(name) else self.text(variables[name])[0]
            for name in sorted(names)
        }


def _is_named_secret(found: re.Match[str], value: str) -> bool:
    start = found.start()
    before = _BEFORE.search(found.string, max(0, start - 80), start)
    prefix = before.group() if before else ""
    name = prefix + found["word"] + found["rest"]
    if not is_secret(name) or _PLAIN_VALUES.fullmatch(value.strip()):
        return False
    if found["word"] == "key" and _JOINED.search(prefix) and not _OF_A_KEY.search(prefix):
        return False  # monkey, and others that only end so
    if found["rest"] and not name.isupper():
        return False
    spaced = not set(found["sep"]) & set("=:")
    if spaced and not prefix.startswith("--"):
        return False
    if found["word"].lower() in ("token", "key") and _NUMBERS.fullmatch(value):
        return False  # a count, an id
    lone = name.lower() in ("token", "key", "auth")
    return not lone or _LIKE_A_SECRET.fullmatch(value) is not None
