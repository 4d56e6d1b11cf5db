"""Item by item, a file says what it says as a whole."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ChecksumError, FormatError
from harness.files import jsonfile, jsonstream, reading
from harness.files.jsonstream import read_items

SCHEMA = "test/1"
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
_OBJECTS = st.dictionaries(st.text(), _VALUES, max_size=4)
ITEMS = [{"id": "ä\u2028", "n": [1, -0.5, 1e300], "run": {"x": None}}, {}, {"b": ']}, {\\"'}]


def _sealed(document: dict[str, Any], name: str) -> bytes:
    lazily = {key: iter(v) if key == name else v for key, v in document.items()}
    return b"".join(jsonfile.sealed_parts(lazily))


@settings(max_examples=60, deadline=None)
@given(before=_OBJECTS, items=st.lists(_OBJECTS, max_size=4), after=_OBJECTS)
def test_a_list_that_is_written_item_by_item_gives_the_same_bytes(
    before: dict[str, Any], items: list[Any], after: dict[str, Any]
) -> None:
    seals = ("checksum", "checksums", "list")
    taken = {k: v for k, v in {**before, **after}.items() if k not in seals}
    first = {k: v for k, v in taken.items() if k in before}
    last = {k: v for k, v in taken.items() if k not in before}
    document = {**first, "list": items, **last}
    assert _sealed(document, "list") == jsonfile.encoded(document)


@pytest.mark.parametrize("items", [ITEMS, [], [{}]])
@pytest.mark.parametrize("size", [1, 2, 3, 5, 64, 1 << 16])
def test_parts_of_any_size_give_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, items: list[Any]
) -> None:
    monkeypatch.setattr(reading, "_AT_ONCE", size)
    monkeypatch.setattr(jsonstream, "_AT_LEAST", 1)
    path = tmp_path / "a.json"
    document = {"schema": SCHEMA, "a": -12.5e-3, "list": items, "z": [12, True], "b": {"c": 1}}
    jsonfile.write(path, document)
    head, made = read_items(path, (SCHEMA,), "list", lambda index, value: (index, value))
    assert made == list(enumerate(items))
    assert {**head, "list": items} == jsonfile.read(path, SCHEMA) == document


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"\xef\xbb\xbf{}",
        b"{}",
        b'{"schema": "test/1"}',
        b'{"schema": "test/1", "list": {}}',
        b'{"schema": "test/1", "list": [{}, ]}',
        b'{"schema": "test/1", "list": [{} {}]}',
        b'{"schema": "test/1", "list": [{}',
        b'{"schema": "test/1", "list": [{}]} x',
        b'{"schema": "test/1", "list": [NaN]}',
        b'{"schema": "test/1", "list": [1.]}',
        b'{"schema": "test/1", "list": [{"a": 1, "a": 2}]}',
        b'{"schema": "test/1", "list": [], "list": []}',
        b'{"schema": "test/1", "schema": "test/1", "list": []}',
        b'{"list": [], "schema": "test/1"}',
        b'{"schema": "other/1", "list": []}',
        b'{"schema": "test/1", "list": ["\xff"]}',
        b'{"schema": "test/1", "list": [' + b"[" * 100_000,
        b"{1: 2}",
        b'{"schema": "test/1", "list": [] "a": 1}',
    ],
)
def test_what_is_not_such_a_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(FormatError):
        read_items(path, (SCHEMA,), "list", lambda _, value: value)
    with pytest.raises(FormatError):
        jsonfile.read(path, SCHEMA)


@pytest.mark.parametrize(("old", "new"), [('"x"', '"y"'), ("1,", "2,"), ('"z"', '"zz"')])
def test_every_change_breaks_the_seal(tmp_path: Path, old: str, new: str) -> None:
    path = tmp_path / "a.json"
    jsonfile.write(path, {"schema": SCHEMA, "a": "x", "list": [{"n": [1, 2]}], "z": 0})
    text = path.read_text("utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(ChecksumError):
        read_items(path, (SCHEMA,), "list", lambda _, value: value)


def test_a_file_that_does_not_fit_memory_is_refused_without_reading_it_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonstream, "MAX_BYTES", 1000)
    path, packed = tmp_path / "a.json", tmp_path / "a.json.gz"
    for file in (path, packed):
        jsonfile.write(file, {"schema": SCHEMA, "list": [{"n": "x" * 100}] * 30})
    assert [jsonstream.fits_memory(file) for file in (path, packed)] == [False, False]
    path.write_bytes(b"{}")
    packed.write_bytes(gzip.compress(b"{}"))
    assert [jsonstream.fits_memory(file) for file in (path, packed)] == [True, True]
    assert jsonstream.fits_memory(tmp_path / "not-there")
    with pytest.raises(FormatError, match="is missing, or is not a list"):
        read_items(path, (SCHEMA,), "list", lambda _, value: value)


def test_an_item_is_dropped_before_the_next_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    document = {"schema": SCHEMA, "list": [{"n": n, "pad": "x" * 300_000} for n in range(20)]}
    jsonfile.write(path, document)
    seen: list[int] = []
    _, made = read_items(path, (SCHEMA,), "list", lambda n, value: seen.append(value["n"]) or n)
    assert seen == made == list(range(20))
    assert json.loads(path.read_text("utf-8"))["list"][19]["n"] == 19
