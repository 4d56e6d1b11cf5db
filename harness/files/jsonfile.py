"""Strict JSON files: atomic writing, checksums, hostile input.

A file is an object with ``schema`` (name and version), the content, and at the
end ``checksums`` (CRC-32 of every section, which names the field that was
changed) and ``checksum`` (SHA-256 of everything else, which decides). It may be
compressed (``harness.files.gzipped``), which is seen by its first bytes.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.errors import ChecksumError, FormatError
from harness.files.atomic import write_parts
from harness.files.gzipped import for_path, name_of
from harness.files.reading import read_head, read_parts

#: Larger files are refused before they are read.
MAX_BYTES = 1 << 30

#: What is wrong with a file whose seals do not fit.
CHANGED = "content does not match its checksum: the file was edited or damaged, record it again"

_SEALS = ("checksums", "checksum")
#: Suffixes of files with one JSON value a line.
_LINES = (".jsonl", ".ndjson", ".jsonlines")
#: Whole numbers of so many characters fit a double.
_MOST_DIGITS = 308
#: A schema stands within the first bytes of a file.
_HEAD = 4096


def write(path: Path, document: Mapping[str, Any]) -> None:
    """Write atomically: the file is there whole, or not at all; compressed where its name
    ends in ``.gz``.

    Args:
        document: see :func:`sealed_parts`.

    Raises:
        HarnessError: if the folder or the disk does not take it; a file that
            stood there before is unchanged.
        ValueError: if the document holds NaN or an infinity.
    """
    write_parts(path, for_path(path, sealed_parts(document)))


def file_bytes(path: Path, document: Mapping[str, Any]) -> bytes:
    """The bytes that :func:`write` puts into a file of that name."""
    return b"".join(for_path(path, sealed_parts(document)))


def encoded(document: Mapping[str, Any]) -> bytes:
    """The text of a file, seals included."""
    return b"".join(sealed_parts(document))


def sealed_parts(document: Mapping[str, Any]) -> Iterator[bytes]:
    """The text of a file, seals included, part by part.

    Args:
        document: of JSON's types. One value may be an iterator of objects, which is written as
            their list: each is asked for when its turn comes, and dropped when it is written.
    """
    name = next((k for k, value in document.items() if isinstance(value, Iterator)), None)
    keys = list(document)
    at = len(keys) if name is None else keys.index(name)
    plain = {key: document[key] for key in keys if key != name}
    seal, crcs = Seal(plain, name), _crcs({key: plain[key] for key in keys[:at]})
    yield _text_of("{\n" + ",\n".join(_member(key, plain[key]) for key in keys[:at]))
    if name is not None:
        yield _text_of((",\n" if at else "") + f" {_plain(name)}: [")
        count = 0
        for count, item in enumerate(document[name], start=1):
            seal.add(canonical(item))
            for place, part in _parts_of_item(f"{name}[{count - 1}]", item):
                crcs[place] = _crc(part)
            yield _text_of(("\n  " if count == 1 else ",\n  ") + _pretty(item, 2))
        if not count:  # an empty list is a section of its own
            crcs[name] = _crc([])
        yield b"\n ]" if count else b"]"
    crcs |= _crcs({key: plain[key] for key in keys[at + 1 :]})
    ends = {**{key: plain[key] for key in keys[at + 1 :]}, "checksums": crcs}
    ends["checksum"] = seal.hexdigest()
    last = ",\n".join(_member(key, value) for key, value in ends.items())
    yield _text_of((",\n" if keys else "") + last + "\n}\n")


class Seal:
    """The checksum of a document: the SHA-256 of its canonical text, of which one list is told
    item by item.

    Args:
        plain: the rest of the document.
        name: of the list; None for none.
    """

    def __init__(self, plain: Mapping[str, Any], name: str | None = None) -> None:
        before = sorted(key for key in plain if name is None or key < name)
        self._after = {key: plain[key] for key in sorted(plain)[len(before) :]}
        self._name, self._items = name, 0
        self._hash = hashlib.sha256(canonical({key: plain[key] for key in before})[:-1])
        if name is not None:
            self._hash.update((b"," if before else b"") + canonical(name) + b":[")

    def add(self, item: bytes) -> None:
        """One more item of the list, in canonical text."""
        self._hash.update(b"," + item if self._items else item)
        self._items += 1

    def hexdigest(self) -> str:
        """The checksum, when all items are told."""
        if self._name is not None:
            self._hash.update(b"]")
        self._hash.update((b"," if self._after else b"") + canonical(self._after)[1:])
        return self._hash.hexdigest()


def _crcs(document: Mapping[str, Any]) -> dict[str, str]:
    return {name: _crc(part) for name, part in _sections(document)}


def _member(key: str, value: Any) -> str:
    return f" {_plain(key)}: {_pretty(value, 1)}"


def _text_of(text: str) -> bytes:
    # Lone surrogates, which UTF-8 cannot hold, become JSON's own \uXXXX.
    return text.encode("utf-8", "backslashreplace")


def read(path: Path, *schemas: str) -> dict[str, Any]:
    """The content of a file, seals checked and removed.

    Raises:
        FormatError: if it cannot be read, is not a strict JSON object, or its
            schema is not one of the given ones, newest last.
        ChecksumError: if its content was changed after it was written.
    """
    document = parse(path)
    if document.get("schema") not in schemas:
        raise FormatError(
            str(path),
            "schema",
            f"is {_short(document.get('schema'))}, this version reads {', '.join(schemas)}",
        )
    seals = {name: document.pop(name, None) for name in _SEALS}
    try:
        checksum = _sha256(document)
    except RecursionError as error:
        raise FormatError(str(path), None, "is nested too deeply") from error
    if seals["checksum"] != checksum:
        raise ChecksumError(
            str(path),
            _changed_section(document, seals["checksums"]),
            CHANGED,
        )
    return document


def parse(path: Path) -> dict[str, Any]:
    """A strict JSON object: no NaN, no infinities, no key twice.

    Raises:
        FormatError: naming the file and the line where that is known.
    """
    value = parse_any(path)
    if not isinstance(value, dict):
        raise FormatError(str(path), None, "is not a JSON object")
    return value


def parse_any(path: Path) -> Any:
    """Any strict JSON value; see :func:`parse`."""
    return _decoded(_text(path, "utf-8"), path)


@dataclass(frozen=True)
class Foreign:
    """What another tool wrote: one value, or one value a line.

    ``lines`` are the numbers of those lines, from 1; empty for one value.
    """

    value: Any
    lines: tuple[int, ...] = ()


def parse_foreign(path: Path) -> Foreign:
    """JSON or JSON lines of another tool; NaN and infinities, which Python's
    ``json`` writes, are read as None.

    Raises:
        FormatError: naming the file and the line where that is known.
    """
    text = _text(path, "utf-8-sig")
    try:
        return Foreign(_decoded(text, path, strict=False))
    except FormatError:
        lines = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip()]
        if not (
            name_of(path).suffix.lower() in _LINES or (len(lines) > 1 and _is_object(lines[0][1]))
        ):
            raise
    values = [_decoded(line, path, strict=False, first=n) for n, line in lines]
    return Foreign(values, tuple(n for n, _ in lines))


def begins_with_schema(path: Path, prefix: str) -> bool:
    """Whether a file says near its beginning that it is of such a schema; reads
    no more than that. False where it cannot be read."""
    try:
        head = read_head(path, _HEAD)
    except OSError:
        return False
    return re.search(rb'"schema"\s*:\s*"' + re.escape(prefix.encode()), head) is not None


def _text(path: Path, encoding: str) -> str:
    try:
        return b"".join(read_parts(path, MAX_BYTES, MAX_BYTES)).decode(encoding)
    except OSError as error:
        raise FormatError(str(path), None, f"cannot be read ({error.strerror or error})") from error
    except UnicodeDecodeError as error:
        raise FormatError(str(path), None, f"is not UTF-8 (byte {error.start})") from error


def _decoded(text: str, path: Path, *, strict: bool = True, first: int = 1) -> Any:
    """The value of a text that begins in line ``first`` of a file."""
    try:
        return json.loads(text, **_rules(strict=strict))
    except json.JSONDecodeError as error:
        line = first + error.lineno - 1
        raise FormatError(f"{path}:{line}", None, f"is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise FormatError(str(path), None, "is nested too deeply") from error
    except ValueError as error:
        raise FormatError(str(path), None, f"is not strict JSON: {error}") from error


def decoder() -> json.JSONDecoder:
    """Strict: no NaN, no infinities, no key twice in one object."""
    return json.JSONDecoder(**_rules(strict=True))


def _rules(*, strict: bool) -> dict[str, Any]:
    return {
        "parse_constant": _refuse_constant if strict else lambda _: None,
        "parse_float": _finite_float if strict else float,
        "parse_int": _whole,
        "object_pairs_hook": refuse_repeats,
    }


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def canonical(value: Any, *, ascii_only: bool = True) -> bytes:
    """One spelling for equal values: what checksums and digests are taken of.

    Args:
        value: of JSON's types.
        ascii_only: other characters as escapes, which spell a pair of
            surrogates and the character that it stands for alike; else as
            UTF-8, which does not.
    """
    text = json.dumps(
        value, sort_keys=True, separators=(",", ":"), ensure_ascii=ascii_only, allow_nan=False
    )
    return text.encode("utf-8", "surrogatepass")


def readable(value: Any) -> str:
    """A value on one line for readers, keys sorted."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def indented(document: dict[str, Any]) -> bytes:
    """A file of JSON as Transformers writes it: keys in their order, two spaces."""
    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    return text.encode("utf-8", "surrogatepass")


def _sha256(value: Any) -> str:
    return hashlib.sha256(canonical(value)).hexdigest()


def _crc(value: Any) -> str:
    return f"{zlib.crc32(canonical(value)):08x}"


def _sections(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The parts that have a checksum of their own, as (``prompts[3].free.token_ids``, value)."""
    for key, value in document.items():
        if isinstance(value, list) and value and all(isinstance(item, dict) for item in value):
            for index, item in enumerate(value):
                yield from _parts_of_item(f"{key}[{index}]", item)
        else:
            yield key, value


def _parts_of_item(name: str, item: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in item.items():
        if isinstance(value, dict):
            yield from ((f"{name}.{key}.{inner}", part) for inner, part in value.items())
        else:
            yield f"{name}.{key}", value


def _changed_section(document: dict[str, Any], checksums: Any) -> str:
    if not isinstance(checksums, dict):
        return "checksums"
    present = dict(_sections(document))
    changed = [name for name, part in present.items() if checksums.get(name) != _crc(part)]
    changed += [name for name in checksums if name not in present]
    return ", ".join(changed[:3]) if changed else "checksum"


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON number")


def _whole(text: str) -> int:
    """A whole number that arithmetic with floats takes; a longer one ends it in an error."""
    if len(text) > _MOST_DIGITS:
        raise ValueError(f"{text[:40]}... does not fit a double")
    return int(text)


def _finite_float(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:40]} does not fit a double")
    return value


def refuse_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, for ``object_pairs_hook``.

    Raises:
        ValueError: naming the first key that appears twice.
    """
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {_short(key)} appears twice in one object")
            seen.add(key)
    return result


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _pretty(value: Any, indent: int = 0) -> str:
    """Objects over lines, lists of plain values on one: readable in a diff."""
    pad = " " * (indent + 1)
    if isinstance(value, dict) and value:
        items = (f"{pad}{_plain(key)}: {_pretty(item, indent + 1)}" for key, item in value.items())
        return "{\n" + ",\n".join(items) + "\n" + " " * indent + "}" + ("\n" if not indent else "")
    if isinstance(value, list) and any(isinstance(item, dict | list) for item in value):
        lines = (pad + _pretty(item, indent + 1) for item in value)
        return "[\n" + ",\n".join(lines) + "\n" + " " * indent + "]"
    return _plain(value)


def _plain(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
