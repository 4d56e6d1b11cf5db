"""Sealed JSON files that are read item by item, so that memory does not grow with the file.

What is held is one item's text and what the caller makes of it. The rules are those of
``jsonfile.read``; whoever is refused here can be told more by it, of a file that fits memory.
"""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import Any, TypeVar

from harness.errors import ChecksumError, FormatError
from harness.files import jsonfile
from harness.files.jsonfile import MAX_BYTES, Seal, canonical
from harness.files.reading import is_compressed, read_parts

#: Larger files are refused, compressed or not; one item has at most ``jsonfile.MAX_BYTES``.
MOST_BYTES = 1 << 35
#: Bytes of the list that are kept in memory until its checksum is known.
_IN_MEMORY = 16 << 20
#: Characters that are read at least before an item is tried again.
_AT_LEAST = 1 << 20
#: JSON of this project inflates to no more than so many times its size.
_USUAL_TIMES = 10
_SPACE = re.compile(r"[ \t\n\r]+")
#: What may follow a part of a number, the end of what was read included.
_OF_NUMBERS = ("", ".", "e", "E")

_T = TypeVar("_T")


def read_items(
    path: Path, schemas: tuple[str, ...], name: str, make: Callable[[int, Any], _T]
) -> tuple[dict[str, Any], list[_T]]:
    """The content of a sealed file, without the list ``name``, and what was made of that.

    Args:
        schemas: that are read.
        make: makes something of an item, given its index and value.

    Raises:
        FormatError: if it cannot be read, is not a strict JSON object with such a schema,
            or ``make`` does.
        ChecksumError: if its content was changed after it was written.
    """
    try:
        return _read_items(_Text(path), path, schemas, name, make)
    except OSError as error:
        raise FormatError(str(path), None, f"cannot be read ({error.strerror or error})") from error
    except (UnicodeDecodeError, RecursionError, ValueError) as error:
        raise FormatError(str(path), None, f"is not strict JSON: {error}") from error


def fits_memory(path: Path) -> bool:
    """Whether a file is small enough for ``jsonfile.read``, as far as its size tells; True of
    one that cannot be read, since that says so."""
    try:
        return os.stat(path).st_size <= MAX_BYTES // (_USUAL_TIMES if is_compressed(path) else 1)
    except OSError:
        return True


def _read_items(
    text: _Text, path: Path, schemas: tuple[str, ...], name: str, make: Callable[[int, Any], _T]
) -> tuple[dict[str, Any], list[_T]]:
    head: dict[str, Any] = {}
    made: list[_T] = []
    listed = False
    with SpooledTemporaryFile(_IN_MEMORY) as held:
        for key in text.members():
            if key in head or (key == name and listed):
                raise ValueError(f"the key {key!r} appears twice in one object")
            if key == name and text.peek() == "[":
                if head.get("schema") not in schemas:
                    raise FormatError(str(path), "schema", f"is not one of {', '.join(schemas)}")
                listed = True
                for index, item in enumerate(text.items()):
                    line = canonical(item)
                    held.write(len(line).to_bytes(8, "little") + line)
                    made.append(make(index, item))
            else:
                head[key] = text.value()
        if not listed:
            raise FormatError(str(path), name, "is missing, or is not a list")
        checksum = head.pop("checksum", None)
        head.pop("checksums", None)
        seal = Seal(head, name)
        held.seek(0)
        while size := held.read(8):
            seal.add(held.read(int.from_bytes(size, "little")))
    if seal.hexdigest() != checksum:
        raise ChecksumError(str(path), None, jsonfile.CHANGED)
    return head, made


class _Text:
    """The text of a file, read as far as it is asked for."""

    def __init__(self, path: Path) -> None:
        self._parts = read_parts(path, MOST_BYTES, MOST_BYTES)
        self._decoder = codecs.getincrementaldecoder("utf-8")("strict")
        self._json = jsonfile.decoder()
        self._text, self._at = "", 0

    def peek(self) -> str:
        """The next character that is not space; "" at the end."""
        while True:
            space = _SPACE.match(self._text, self._at)
            self._at = self._at if space is None else space.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, wanted: str) -> str:
        """The next character, which must be one of these."""
        found = self.peek()
        if not found or found not in wanted:
            raise ValueError(f"one of {' '.join(wanted)} was expected")
        self._at += 1
        return found

    def value(self) -> Any:
        """The next value, whole."""
        self.peek()
        while True:
            try:
                value, end = self._json.raw_decode(self._text, self._at)
            except json.JSONDecodeError:
                if not self._more():
                    raise
                continue
            if self._text[end : end + 1] in _OF_NUMBERS and self._more():
                continue  # a number may go on
            self._at = end
            return value

    def members(self) -> Iterator[str]:
        """The keys of the object that the file is; the caller takes each value."""
        self.take("{")
        if self.peek() == "}":
            self._at += 1
        else:
            while True:
                if self.peek() != '"':
                    raise ValueError("a key was expected")
                key = self.value()
                self.take(":")
                yield key
                if self.take(",}") == "}":
                    break
        if self.peek():
            raise ValueError("something follows the object")

    def items(self) -> Iterator[Any]:
        """The items of the list that comes next."""
        self.take("[")
        if self.peek() == "]":
            self._at += 1
            return
        while True:
            yield self.value()
            if self.take(",]") == "]":
                return

    def _more(self) -> bool:
        """Read on, at least as much as is held already."""
        held = [self._text[self._at :]]
        wanted = max(_AT_LEAST, len(held[0]))
        if len(held[0]) > MAX_BYTES:
            raise ValueError(f"an item is larger than {MAX_BYTES >> 20} MiB")
        read = 0
        for part in self._parts:
            held.append(self._decoder.decode(part))
            read += len(held[-1])
            if read >= wanted:
                break
        else:
            held.append(self._decoder.decode(b"", final=True))
            read += len(held[-1])
        self._text, self._at = "".join(held), 0
        return read > 0
