"""Write docs/reference.md from the code: every option, and every field of the JSON files.

reference.py          writes the page
reference.py --check  ends with status 1 where the page is not what the code says
"""

from __future__ import annotations

import inspect
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
import typer
from pydantic import BaseModel

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from harness import plugin  # noqa: E402
from harness.alignment.result import Alignment  # noqa: E402
from harness.bench.result import Bench, Comparison, LoadBench  # noqa: E402
from harness.cli.main import app  # noqa: E402
from harness.locate.result import Location  # noqa: E402
from harness.recording.format import Recording  # noqa: E402

PAGE = ROOT / "docs" / "reference.md"
HEAD = """\
# Reference

Every option, and every field of the JSON files, written from the code by `python .ci/reference.py`.
How to use them: [the tutorial](tutorial.md). What the doctor and the checkpoint tools print, how
rows are packed and how a suite is written: [formats](formats.md).
"""
EXAMPLE = "<!-- not run: an example of the form; the tutorial and the how-tos run their like -->"


def _cell(text: object) -> str:
    return re.sub(r"\s+", " ", str(text)).replace("|", "\\|").strip()


def _table(head: tuple[str, ...], rows: list[tuple[object, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(_cell(c) for c in line) + " |" for line in lines) + "\n"


def _commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for inner in command.commands.values():
            yield from _commands(inner, f"{name} {inner.name}")
    else:
        yield name, command


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    value = getattr(value, "value", value)
    return "" if value in (None, False, "", []) or value == () else f"`{value}`"


def _command(name: str, command: Any) -> str:
    text = inspect.cleandoc(command.help or "")
    body, _, example = text.partition("Example:")
    rows = []
    for parameter in command.params:
        option = "--" in "".join(parameter.opts)
        shown = ", ".join(parameter.opts) if option else parameter.name.upper()
        rows.append((f"`{shown}`", getattr(parameter, "help", "") or "", _default(parameter)))
    table = _table(("option", "meaning", "default"), rows) if rows else ""
    told = f"\n{EXAMPLE}\n```sh\n{' '.join(example.split())}\n```\n" if example else ""
    return f"### `{name}`\n\n{' '.join(body.split())}\n{told}\n{table}"


def _pytest_options() -> str:
    parser = pytest.Parser(_ispytest=True)
    plugin.pytest_addoption(parser)
    rows = []
    for option in parser.getgroup("harness").options:
        given = option.attrs()
        default = given.get("default")
        shown = "" if default in (None, False, []) else f"`{default}`"
        rows.append((f"`{option.names()[0]}`", given.get("help", ""), shown))
    return _table(("option", "meaning", "default"), rows)


def _models(kind: type[BaseModel], seen: list[type[BaseModel]]) -> list[type[BaseModel]]:
    if kind not in seen:
        seen.append(kind)
        for field in kind.model_fields.values():
            for inner in _inner(field.annotation):
                _models(inner, seen)
    return seen


def _inner(annotation: Any) -> Iterator[type[BaseModel]]:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        yield annotation
    for part in get_args(annotation):
        yield from _inner(part)


def _type(annotation: Any) -> str:
    """The type in JSON's words, spelled alike on every version of Python."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(parts[0])
    if origin is Literal:
        return " | ".join(f'"{part}"' for part in parts)
    if origin in (Union, types.UnionType):
        return " | ".join(map(_type, parts))
    if origin in (list, tuple):
        inner = [_type(part) for part in parts if part is not Ellipsis]
        return f"[{', '.join(inner)}{', …' if origin is list or Ellipsis in parts else ''}]"
    if origin is dict:
        return f"{{{_type(parts[0])}: {_type(parts[1])}, …}}"
    named = {
        type(None): "null",
        str: "string",
        int: "integer",
        float: "number",
        bool: "boolean",
        Any: "any",
    }
    return named.get(annotation) or str(annotation.__name__)


def _model(kind: type[BaseModel]) -> str:
    rows = [
        (f"`{field.alias or name}`", f"`{_type(field.annotation)}`")
        for name, field in kind.model_fields.items()
    ]
    about = inspect.cleandoc(kind.__doc__ or "").replace("``", "`")
    return f"### {kind.__name__}\n\n{about}\n\n{_table(('field', 'type'), rows)}"


def page() -> str:
    """The whole page."""
    parts = [HEAD, "## Commands\n", str(app.info.epilog) + "\n"]
    parts += [_command(*pair) for pair in _commands(typer.main.get_command(app), "harness")]
    parts += ["## pytest\n", _pytest_options()]
    seen: list[type[BaseModel]] = []
    formats: tuple[tuple[str, type[BaseModel]], ...] = (
        ("Recording", Recording),
        ("Alignment", Alignment),
        ("Location", Location),
        ("Bench", Bench),
        ("Bench of two configurations", Comparison),
        ("Bench of a server under load", LoadBench),
    )
    for title, kind in formats:
        new = [k for k in _models(kind, list(seen)) if k not in seen]
        seen += new
        parts += [f"## {title} (JSON)\n", *map(_model, new)]
    return "\n".join(parts).rstrip("\n") + "\n"


def main() -> None:
    """Write the page, or check it."""
    text = page()
    if "--check" in sys.argv[1:]:
        if PAGE.read_text("utf-8") != text:
            sys.exit("docs/reference.md is not what the code says: run python .ci/reference.py")
        return
    PAGE.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
