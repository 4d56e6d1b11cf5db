"""What commands on the pages name, against the commands and options that there are."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from functools import cache

from doc_pages import ROOT

_SPAN = re.compile(r"(?<!`)`((?:harness|pytest|python3? -m harness)[ .][^`]+)`(?!`)", re.DOTALL)


@cache
def known() -> dict[str, frozenset[str]]:
    """Options by command (``harness compare``), from docs/reference.md; pytest's from itself."""
    text = (ROOT / "docs" / "reference.md").read_text("utf-8")
    found: dict[str, frozenset[str]] = {}
    for section in re.split(r"^#{2,3} ", text, flags=re.MULTILINE):
        name = re.match(r"`(harness [a-z -]+)`", section)
        if name:
            rows = re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE)
            options = {word for row in rows for word in re.split(r"[, /]+", row) if word[0] == "-"}
            found[name[1]] = frozenset(options | {"--help", "--debug"})
    asked = [sys.executable, "-m", "pytest", "--help"]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    # Attached forms too: -qq, -rs, -nauto.
    listed = re.findall(r"(?<![\w-])(--[a-z][\w-]*|-[a-zA-Z])(?![\w-])", told)
    found["pytest"] = frozenset(listed) | {"-q", "-v", "-x"}
    return found


def spans(text: str) -> Iterator[str]:
    """Commands within the prose, in code spans."""
    for span in _SPAN.findall(text):
        yield " ".join(span.split())


def unknown(command: str) -> list[str]:
    """What a shell command names that does not exist."""
    first = command.split("<<", maxsplit=1)[0].replace("\\\n", " ")
    words = shlex.shlex(first, posix=True, punctuation_chars=True)
    words.whitespace_split = True
    parts: list[list[str]] = [[]]
    for word in words:
        if re.fullmatch(r"[;&|()<>]+", word):
            parts.append([])
        else:
            parts[-1].append(word)
    return [problem for part in parts for problem in _unknown(part)]


def _unknown(words: list[str]) -> Iterator[str]:
    while words and re.match(r"[A-Z_]+=", words[0]):
        words = words[1:]
    if words[:3] and re.fullmatch(r"python3?", words[0]) and words[1:2] == ["-m"]:
        words = words[2:3][0].split(".") + words[3:] if words[2:] else []
    if not words or words[0] not in ("harness", "pytest"):
        return
    name, options = _named(words)
    if name not in known():
        if re.fullmatch(r"[a-z][a-z-]+", words[1] if words[1:] else ""):
            yield f"no command {name!r}"
        return
    for option in options:
        if option not in known()[name] and not (name == "pytest" and option[:2] in known()[name]):
            yield f"{name} has no option {option}"


def _named(words: list[str]) -> tuple[str, list[str]]:
    """The command, as the reference calls it, and the options given to it."""
    name, rest = words[0], words[1:]
    while name != "pytest" and rest and f"{name} {rest[0]}" in _prefixes():
        name, rest = f"{name} {rest[0]}", rest[1:]
    if name != "pytest" and name not in known() and rest:
        name = f"{name} {rest[0]}"
    return name, [word.split("=")[0] for word in rest if re.match(r"--?[a-zA-Z][^\s]*$", word)]


def _prefixes() -> set[str]:
    return {
        " ".join(name.split()[:count])
        for name in known()
        for count in range(2, len(name.split()) + 1)
    }
