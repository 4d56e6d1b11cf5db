"""Reads the pages: their blocks of commands, links and headings.

A block of commands is a fence of ``sh`` or ``python``, or an indented block that begins like
a command. The line in front of it is a comment that says what a test does with it:

    <!-- run -->              runs it in the README's environment
    <!-- run: vllm -->        runs it in the environment of the vLLM engine
    <!-- not run: REASON -->  cannot
    <!-- command: NAME -->    CI does (.ci/readme_command.py)
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
_MARKER = re.compile(r"\s*<!-- (run|run: vllm|not run: \S.*|command: \S+) -->\s*")
_FENCE = re.compile(r"(\s*)(```+)\s*(\S*)\s*")
_SHELL = re.compile(r"(harness|pytest|python3?|pip|git|gh|export|source|cd|curl|docker)\s")
_PYTHON = re.compile(r"(from \S+ )?import ")


@dataclass(frozen=True)
class Block:
    """Commands of one block; ``line`` is where the first of them stands in its page."""

    page: str
    line: int
    language: str
    marker: str | None
    text: str
    fenced: bool


@dataclass(frozen=True)
class Command:
    """One command of a shell block, with the exit status that its comment promises."""

    line: int
    text: str
    status: int


def pages() -> list[Path]:
    """Every page that tells a reader to do something, in a fixed order."""
    single = (
        "README.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
        "benchmarks/README.md",
    )
    folders = [*sorted((ROOT / "docs").rglob("*.md")), ROOT / "reports" / "README.md"]
    return [path for path in (*(ROOT / name for name in single), *folders) if path.exists()]


def blocks(text: str, page: str = "") -> Iterator[Block]:
    """The blocks of commands in a page."""
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        fence = _FENCE.fullmatch(lines[at])
        if fence:
            end = _fence_end(lines, at, fence[2])
            if fence[3] in ("sh", "bash", "console", "python"):
                language = "python" if fence[3] == "python" else "sh"
                yield _block(page, lines, at, range(at + 1, end), language, fenced=True)
            at = end + 1
        elif _begins_indented(lines, at):
            end = at
            while end < len(lines) and (not lines[end].strip() or lines[end].startswith("    ")):
                end += 1
            first = lines[at].strip() + " "
            if _SHELL.match(first) or _PYTHON.match(first):
                language = "sh" if _SHELL.match(first) else "python"
                yield _block(page, lines, at, range(at, end), language, fenced=False)
            at = end
        else:
            at += 1


def _fence_end(lines: list[str], start: int, ticks: str) -> int:
    closing = (n for n in range(start + 1, len(lines)) if lines[n].strip() == ticks)
    return next(closing, len(lines))


def _begins_indented(lines: list[str], at: int) -> bool:
    before = "" if at == 0 else lines[at - 1]
    blank = not before.strip() or _MARKER.fullmatch(before) is not None
    return lines[at].startswith("    ") and blank


def _block(
    page: str, lines: list[str], start: int, body: range, language: str, *, fenced: bool
) -> Block:
    before = next((line for line in reversed(lines[:start]) if line.strip()), "")
    marker = _MARKER.fullmatch(before)
    inside = [lines[n] for n in body]
    margin = min((len(s) - len(s.lstrip()) for s in inside if s.strip()), default=0)
    text = "\n".join(line[margin:] for line in inside).rstrip() + "\n"
    return Block(page, body.start + 1, language, marker[1] if marker else None, text, fenced)


def commands(block: Block) -> Iterator[Command]:
    """The commands of a block, one by one: bash itself says where each ends."""
    if block.language == "python":
        text = f"python - <<'END_OF_PYTHON'\n{block.text}END_OF_PYTHON"
        yield Command(block.line, text, 0)
        return
    held: list[str] = []
    for number, line in enumerate(block.text.splitlines(), block.line):
        if not held and (not line.strip() or line.lstrip().startswith("#")):
            continue
        held.append(line)
        text = "\n".join(held)
        if not line.endswith("\\") and _is_whole(text):
            promised = re.search(r"#.*\bstatus (\d+)", line)
            yield Command(number - len(held) + 1, text, int(promised[1]) if promised else 0)
            held = []
    if held:
        raise ValueError(f"{block.page}:{block.line}: the last command does not end")


def _is_whole(text: str) -> bool:
    # A here-document without its end is a warning with status 0.
    seen = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    return seen.returncode == 0 and not seen.stderr


def without_fences(text: str) -> str:
    """A page without what stands in its fences and indented blocks; its lines stay in place."""
    lines, ticks = text.splitlines(), ""
    for number, line in enumerate(lines):
        fence = _FENCE.fullmatch(line)
        if (fence and not ticks) or ticks or _begins_indented([*lines[:number], line], number):
            lines[number] = ""
        if fence and not ticks:
            ticks = fence[2]
        elif line.strip() == ticks:
            ticks = ""
    return "\n".join(lines)


def anchors(text: str) -> set[str]:
    """What ``#…`` may name in a page: its headings, spelled as GitHub spells them."""
    found: dict[str, int] = {}
    names = set(re.findall(r'<a (?:id|name)="([^"]+)"', text))
    for heading in re.findall(r"^#{1,6} +(.+?) *#*$", without_fences(text), re.MULTILINE):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", plain).replace(" ", "-")
        count = found.get(slug, 0)
        found[slug] = count + 1
        names.add(f"{slug}-{count}" if count else slug)
    return names
