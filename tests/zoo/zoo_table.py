"""Write the table of the zoo into a page, between its marks.

python tests/zoo/zoo_table.py benchmarks/results/zoo.jsonl docs/zoo.md
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- zoo: begin -->", "<!-- zoo: end -->"
_HEAD = ("type", "inspect", "baseline", "vLLM's CPU engine", "error", "broken copy", "its config")
_LONGEST = 110


def rows_of(text: str) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """The versions, and the line of each architecture."""
    head, *rows = (json.loads(line) for line in text.splitlines())
    return head, rows


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The lines of a Markdown table, one for each architecture."""
    yield f"| {' | '.join(_HEAD)} |"
    yield f"|{'---|' * len(_HEAD)}"
    for row in rows:
        cells = (f"`{row['kind']}`", *_cells(row))
        yield f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _cells(row: dict[str, Any]) -> Iterator[str]:
    if "inspect" not in row:
        yield f"not made: {_cut(row['made']['said'])}"
        yield from ("",) * 5
        return
    known, good = row["inspect"].get("known_as"), row["inspect"]["status"] == 0
    yield (known or "generic") + ("" if good else f": WRONG: {_cut(str(row['inspect']))}")
    made = row["baseline"]
    if made["status"] != 0:
        yield f"not made: {_cut(made['said'])}"
    else:
        controls = made["arms"].count("control-")
        yield f"{controls} controls" + (", eager" if made["eager"] else "")
    engine = row.get("vllm", {})
    yield engine.get("verdict") or f"not run: {_cut(engine.get('said', 'no baseline'))}"
    yield _ratio(engine)
    broken = row.get("broken", {})
    yield _told(broken)
    yield "told" if row["contradicted"]["status"] == 1 else "NOT TOLD"


def _told(broken: dict[str, Any]) -> str:
    verdict = broken.get("verdict")
    if verdict is None:
        return f"not run: {_cut(broken.get('said', 'no baseline'))}"
    return f"{verdict} {_ratio(broken)}".strip()


def _ratio(judged: dict[str, Any]) -> str:
    value = (judged.get("ratio") or [None])[0]
    return "" if value is None else f"{value:.2f}"


def _cut(text: str) -> str:
    line = " ".join(text.split()).removeprefix("harness: error: ")
    return line if len(line) <= _LONGEST else line[: _LONGEST - 1] + "…"


def counted(rows: list[dict[str, Any]]) -> str:
    """How many architectures came to what, in a sentence."""
    aligned = [r for r in rows if r.get("vllm", {}).get("status") == 0]
    judged = [r for r in rows if "verdict" in r.get("vllm", {})]
    broken = [r for r in rows if "verdict" in r.get("broken", {})]
    told = [r for r in broken if r["broken"]["status"] == 1]
    return (
        f"{len(rows)} architectures. vLLM ran {len(judged)}, of which {len(aligned)} are aligned. "
        f"Of {len(broken)} broken copies {len(told)} are told."
    )


def page(before: str, text: str) -> str:
    """The page with the table in its place."""
    head, rows = rows_of(text)
    start, _, rest = before.partition(BEGIN)
    _, _, end = rest.partition(END)
    versions = ", ".join(f"{name} {version}" for name, version in head.items())
    lines = [counted(rows), "", f"Versions: {versions}.", "", *table(rows)]
    return f"{start}{BEGIN}\n{chr(10).join(lines)}\n{END}{end}"


if __name__ == "__main__":
    results, target = map(Path, sys.argv[1:])
    target.write_text(page(target.read_text("utf-8"), results.read_text("utf-8")), "utf-8")
