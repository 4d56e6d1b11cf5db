"""YAML as nodes: nothing is constructed, and every problem is a SuiteError with its line.

A file read this way cannot run anything, nor grow when it is read.
"""

from __future__ import annotations

import difflib
import re
from bisect import bisect_right
from collections.abc import Callable, Sequence
from functools import partial

import yaml
from yaml.composer import ComposerError
from yaml.reader import ReaderError

from harness.errors import SuiteError

#: Decimal only: YAML 1.1 would read 010 as 8 and 1:30 as 90.
_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?[0-9]{1,15}\.[0-9]{0,20}([eE][-+]?[0-9]{1,2})?")
#: Python refuses to read thousands of digits, so they are counted first.
_MAX_DIGITS = 15
_LINE_BREAK = re.compile(r"\r\n?|\n")
_MAX_DEPTH = 16
_TAG = "tag:yaml.org,2002:"
_KINDS = {
    _TAG + "str": "a string",
    _TAG + "int": "an integer",
    _TAG + "float": "a float",
    _TAG + "bool": "true or false",
    _TAG + "timestamp": "a date",
    _TAG + "map": "a mapping",
    _TAG + "seq": "a list",
}


def shown(value: str) -> str:
    """A value for a one-line message: control and direction marks escaped, cut to 40."""
    return repr(value if len(value) <= 40 else value[:39] + "…")


class _Loader(yaml.SafeLoader):
    """Composes nodes; refuses what lets a small file stand for a large one."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            problem = "anchors and aliases are not taken; write the value out"
            raise ComposerError(None, None, problem, event.start_mark)
        if self.depth == _MAX_DEPTH:
            problem = f"nested more than {_MAX_DEPTH} deep; a suite needs 5"
            raise ComposerError(None, None, problem, event.start_mark)
        self.depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1


class YamlSource:
    """A file's text, and typed reading of its nodes; each problem is a SuiteError."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text
        self._breaks = [found.end() for found in _LINE_BREAK.finditer(text)]

    def compose(self) -> yaml.Node:
        loader = None
        try:
            loader = _Loader(self.text)
            node = loader.get_single_node()
        except ReaderError as error:
            problem = f"the character U+{error.character:04X} may only stand escaped in a string"
            raise self._at(error.position, problem) from error
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            problem = str(error.problem)
            if error.context and error.context_mark:
                # An unclosed bracket is noticed far below the line to mend.
                problem += f", {error.context} in line {self._line(error.context_mark.index)}"
            raise self._at(mark.index if mark else 0, f"YAML: {problem}") from error
        except (ValueError, OverflowError) as error:  # \U00110000, %YAML 1.<5000 digits>
            index = loader.get_mark().index if loader else 0
            raise self._at(index, f"YAML: {error}") from error
        if node is None:
            raise SuiteError(self.path, 1, "the file is empty; give generation and prompts")
        return node

    def line(self, node: yaml.Node) -> int:
        return self._line(node.start_mark.index)

    def error(self, node: yaml.Node, problem: str) -> SuiteError:
        return self._at(node.start_mark.index, problem)

    def mapping(
        self, node: yaml.Node, what: str, required: Sequence[str], optional: Sequence[str] = ()
    ) -> dict[str, yaml.Node]:
        """Values by key: all of ``required``, any of ``optional``, each once."""
        if not isinstance(node, yaml.MappingNode) or node.tag != _TAG + "map":
            raise self._wrong(node, what, f"a mapping with the keys {', '.join(required)}")
        fields: dict[str, yaml.Node] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else "(a list or mapping)"
            if name in fields:
                raise self.error(key, f"{what} has the key {name} twice; remove one")
            if name not in (*required, *optional):
                near = difflib.get_close_matches(name, (*required, *optional), n=1)
                hint = f"did you mean {near[0]}?" if near else ""
                keys = f"its keys are {', '.join((*required, *optional))}"
                raise self.error(key, f"{what} has no key {shown(name)}; {hint or keys}")
            fields[name] = value
        missing = [name for name in required if name not in fields]
        if missing:
            raise self.error(node, f"{what} lacks {' and '.join(missing)}")
        return fields

    def sequence(self, node: yaml.Node, what: str) -> list[yaml.Node]:
        """The items, at least one."""
        if not isinstance(node, yaml.SequenceNode) or node.tag != _TAG + "seq":
            raise self._wrong(node, what, "a list")
        if not node.value:
            raise self.error(node, f"{what} is empty; give at least one")
        return list(node.value)

    def table(self, node: yaml.Node, what: str) -> dict[str, object]:
        """Any names, each once, with values of JSON's types."""
        if not isinstance(node, yaml.MappingNode) or node.tag != _TAG + "map":
            raise self._wrong(node, what, "a mapping")
        found: dict[str, object] = {}
        for key, value in node.value:
            name = self.string(key, f"a name in {what}")
            if name in found:
                raise self.error(key, f"{what} has the key {shown(name)} twice; remove one")
            found[name] = self._any(value, f"{what}.{name}")
        return found

    def _any(self, node: yaml.Node, what: str) -> object:
        """A value of JSON's types: text, an integer, a float, true, false, null, a list or a
        mapping."""
        if isinstance(node, yaml.MappingNode):
            return self.table(node, what)
        if isinstance(node, yaml.SequenceNode):
            return [self._any(item, f"{what}[{i}]") for i, item in enumerate(node.value)]
        readers: dict[str, Callable[[], object]] = {
            "null": lambda: None,
            "bool": lambda: self.boolean(node, what),
            "int": lambda: self.integer(node, what, minimum=-(10**_MAX_DIGITS)),
            "float": lambda: self._float(node, what),
        }
        as_text = partial(self._scalar, node, what, "str", "a string")
        return readers.get(node.tag.removeprefix(_TAG), as_text)()

    def _float(self, node: yaml.Node, what: str) -> float:
        written = self._scalar(node, what, "float", "a float")
        if not _FLOAT.fullmatch(written):
            raise self.error(node, f"{what} is {shown(written)}; write a plain decimal number")
        return float(written)

    def written(self, node: yaml.Node, what: str, *kinds: str) -> str:
        """A scalar of one of these kinds of YAML, as it is written."""
        for kind in kinds:
            if isinstance(node, yaml.ScalarNode) and node.tag == _TAG + kind:
                return str(node.value)
        raise self._wrong(node, what, _KINDS[_TAG + kinds[0]])

    def string(self, node: yaml.Node, what: str) -> str:
        """A string, not empty."""
        text = self._scalar(node, what, "str", "a string")
        if not text:
            raise self.error(node, f"{what} is empty")
        return text

    def integer(self, node: yaml.Node, what: str, minimum: int) -> int:
        written = self._scalar(node, what, "int", "an integer")
        if not _INTEGER.fullmatch(written):
            raise self.error(node, f"{what} is {shown(written)}; write a plain decimal integer")
        digits = written.lstrip("+-").lstrip("0") or "0"
        if len(digits) > _MAX_DIGITS:
            limit = f"at least {minimum}" if written[0] == "-" else f"at most {10**_MAX_DIGITS - 1}"
            raise self.error(node, f"{what} is {shown(written)}; it must be {limit}")
        value = -int(digits) if written[0] == "-" else int(digits)
        if value < minimum:
            raise self.error(node, f"{what} is {value}; it must be at least {minimum}")
        return value

    def boolean(self, node: yaml.Node, what: str) -> bool:
        written = self._scalar(node, what, "bool", "true or false").lower()
        if written not in ("true", "false"):
            raise self.error(node, f"{what} is {shown(written)}; write true or false")
        return written == "true"

    def _scalar(self, node: yaml.Node, what: str, kind: str, wanted: str) -> str:
        if not isinstance(node, yaml.ScalarNode) or node.tag != _TAG + kind:
            raise self._wrong(node, what, wanted)
        return str(node.value)

    def _wrong(self, node: yaml.Node, what: str, wanted: str) -> SuiteError:
        if node.tag == _TAG + "null":
            return self.error(node, f"{what} is empty; it must be {wanted}")
        kind = _KINDS.get(node.tag, f"of the type {shown(node.tag)}")
        quote = (
            "; put it in quotes"
            if wanted == "a string" and isinstance(node, yaml.ScalarNode)
            else ""
        )
        return self.error(node, f"{what} is {kind}; it must be {wanted}{quote}")

    def _at(self, index: int, problem: str) -> SuiteError:
        return SuiteError(self.path, self._line(index), problem)

    def _line(self, index: int) -> int:
        # PyYAML also breaks lines at U+0085, U+2028 and U+2029; editors do not.
        return bisect_right(self._breaks, index) + 1
