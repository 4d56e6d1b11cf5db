"""A function fits on a screen and is called with few values."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import typer

import harness
from harness.cli.main import app

ROOT = Path(harness.__file__).parent
MOST_LINES = 50
MOST_PARAMETERS = 8
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True)
class Function:
    """A function: its module and name, its lines of code and its parameters."""

    name: str
    lines: int
    parameters: int


def functions(text: str, module: str) -> Iterator[Function]:
    """Every function of a module, those within others too."""
    code = code_lines(text)
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            lines = code & set(range(node.lineno, (node.end_lineno or 0) + 1))
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                lines -= set(range(first.lineno, (first.end_lineno or 0) + 1))
            yield Function(f"{module}.{node.name}", len(lines), len(parameters(node.args)))


def code_lines(text: str) -> set[int]:
    """The lines that hold more than a comment."""
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in _NO_CODE:
            found.update(range(token.start[0], token.end[0] + 1))
    return found


def parameters(given: ast.arguments) -> list[str]:
    """The names that a caller may fill."""
    every = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
    return [a.arg for a in every if a is not None and a.arg not in ("self", "cls")]


def commands(group: typer.Typer) -> Iterator[str]:
    """The functions that are commands: their parameters are the options of a user."""
    for command in group.registered_commands:
        assert command.callback is not None
        yield f"{command.callback.__module__}.{command.callback.__name__}"
    for inner in group.registered_groups:
        assert inner.typer_instance is not None
        yield from commands(inner.typer_instance)


@pytest.fixture(scope="module")
def found() -> list[Function]:
    made: list[Function] = []
    for path in sorted(ROOT.rglob("*.py")):
        module = ".".join(path.relative_to(ROOT.parent).with_suffix("").parts)
        made += functions(path.read_text("utf-8"), module)
    assert len(made) > 1000
    return made


def test_no_function_is_longer_than_a_screen(found: list[Function]) -> None:
    assert [f"{f.name}: {f.lines} lines" for f in found if f.lines > MOST_LINES] == []


def test_no_function_has_more_than_eight_parameters(found: list[Function]) -> None:
    public = {f"{getattr(harness, n).__module__}.{n}" for n in harness.__all__}
    asked_by_users = public | set(commands(app))
    assert "harness.cli.record.record" in asked_by_users
    many = [f for f in found if f.parameters > MOST_PARAMETERS and f.name not in asked_by_users]
    assert [f"{f.name}: {f.parameters} parameters" for f in many] == []


def test_lines_and_parameters_are_counted_as_they_are_read() -> None:
    text = '''
class A:
    @property
    def b(self, /, c, *d, e=1, **f):
        """Two
        lines."""
        # a comment

        def inner(x): return x
        return inner(
            c
        )
'''
    assert list(functions(text, "m")) == [Function("m.b", 5, 4), Function("m.inner", 1, 1)]
