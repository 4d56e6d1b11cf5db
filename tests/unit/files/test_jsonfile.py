"""Files are whole or absent, strict, and sealed."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import ChecksumError, FormatError, HarnessError
from harness.files import jsonfile

SCHEMA = "test/1"
DOCUMENT: dict[str, Any] = {
    "schema": SCHEMA,
    "text": "ünï \u2028 \x00 \x1b \U0001f600",
    "number": -0.1,
    "prompts": [{"id": "a", "free": {"token_ids": [1, 2], "text": "x"}}, {"id": "b", "free": None}],
    "empty": [{}, [], ""],
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "a.json"
    jsonfile.write(path, DOCUMENT)
    return path


def raw(tmp_path: Path, content: bytes) -> Path:
    path = tmp_path / "raw.json"
    path.write_bytes(content)
    return path


def edited(path: Path, old: str, new: str) -> Path:
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"", "is not JSON"),
        (b"   ", "is not JSON"),
        (b"{", "is not JSON"),
        (b'{"a": 1} x', "is not JSON"),
        (b"{'a': 1}", "is not JSON"),
        (b'{"a": 1,}', "is not JSON"),
        (b'{"a": 01}', "is not JSON"),
        (b'{"a": "\n"}', "is not JSON"),
        (b'\xef\xbb\xbf{"a": 1}', "BOM"),
        (b'{"a": NaN}', "NaN is not a JSON number"),
        (b'{"a": Infinity}', "Infinity is not a JSON number"),
        (b'{"a": [-Infinity]}', "-Infinity is not a JSON number"),
        (b'{"a": 1e999}', "1e999 does not fit a double"),
        (b'{"a": -1e999}', "does not fit a double"),
        (b'{"a": 1' + b"0" * 400 + b".0}", "does not fit a double"),
        (b'{"a": 1' + b"0" * 400 + b"}", "does not fit a double"),
        (b'{"a": [-1' + b"0" * 400 + b"]}", "does not fit a double"),
        (b'{"a": ' + b"9" * 5000 + b"}", "is not strict JSON"),
        (b'{"a": 1, "b": 2, "a": 1}', "'a' appears twice"),
        (b'{"x": [{"' + b"k" * 200 + b'": 1, "' + b"k" * 200 + b'": 1}]}', "appears twice"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "nested too deeply"),
        (b"\xff\xfe{}", r"is not UTF-8 \(byte 0\)"),
        (b'{"a": "\x80"}', r"is not UTF-8 \(byte 7\)"),
        (b"[]", "is not a JSON object"),
        (b'"text"', "is not a JSON object"),
        (b"null", "is not a JSON object"),
    ],
)
def test_what_is_not_strict_json_is_refused(tmp_path: Path, content: bytes, problem: str) -> None:
    path = raw(tmp_path, content)
    with pytest.raises(FormatError, match=problem) as caught:
        jsonfile.parse(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) < 300 + len(str(path))


def test_the_line_of_a_syntax_error_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"raw\.json:3: is not JSON"):
        jsonfile.parse(raw(tmp_path, b'{\n"a": 1,\nb\n}'))


@pytest.mark.parametrize("depth", range(400, 1100, 25))
def test_any_depth_is_read_or_refused_in_one_line(tmp_path: Path, depth: int) -> None:
    text = '{"schema": "test/1", "a": ' + "[" * depth + "]" * depth + "}"
    with pytest.raises(FormatError):  # too deep, or without its checksum
        jsonfile.read(raw(tmp_path, text.encode()), SCHEMA)


def test_a_missing_file_a_folder_and_a_file_as_folder_are_refused(tmp_path: Path) -> None:
    plain = raw(tmp_path, b"{}")
    for path in (tmp_path / "absent.json", tmp_path, plain / "inside.json"):
        with pytest.raises(FormatError, match="cannot be read"):
            jsonfile.parse(path)


def test_a_file_that_is_too_large_is_refused_unread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jsonfile, "MAX_BYTES", 1 << 20)
    path = tmp_path / "large.json"
    with path.open("wb") as stream:
        stream.truncate((1 << 20) + 1)
    with pytest.raises(FormatError, match="larger than 1 MiB"):
        jsonfile.parse(path)


def test_what_was_written_is_read(file: Path) -> None:
    assert jsonfile.read(file, SCHEMA) == DOCUMENT


def test_another_schema_is_refused_by_name(file: Path) -> None:
    with pytest.raises(FormatError, match=r"schema: is 'test/1', this version reads test/2"):
        jsonfile.read(file, "test/2")
    edited(file, f'"{SCHEMA}"', "null")
    with pytest.raises(FormatError, match="schema: is None"):
        jsonfile.read(file, SCHEMA)


def test_order_and_space_do_not_matter(file: Path) -> None:
    document = json.loads(file.read_text(encoding="utf-8"))
    backwards = dict(reversed(document.items()))
    for text in (json.dumps(backwards), json.dumps(document, indent=7, ensure_ascii=False)):
        file.write_text(text, encoding="utf-8")
        assert jsonfile.read(file, SCHEMA) == DOCUMENT


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ('"number": -0.1', '"number": -0.2', "number"),
        ('"token_ids": [1,2]', '"token_ids": [1,3]', "prompts[0].free.token_ids"),
        ('"id": "b"', '"id": "c"', "prompts[1].id"),
        ('"number": -0.1', '"numbers": -0.1', "numbers, number"),
        ('"number": -0.1,', "", "number"),
        ('"empty": [', '"extra": 1, "empty": [', "extra"),
        ('"checksum": "', '"checksum": "0', "checksum"),
        ('"checksums": {', '"checksums": [], "checks": {', "checksums"),
    ],
)
def test_an_edit_is_named_by_its_field(file: Path, old: str, new: str, field: str) -> None:
    with pytest.raises(ChecksumError) as caught:
        jsonfile.read(edited(file, old, new), SCHEMA)
    assert caught.value.field == field
    assert caught.value.path == str(file)
    assert f"{file}: {field}: content does not match its checksum" in str(caught.value)


def test_a_file_without_seals_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ChecksumError):
        jsonfile.read(raw(tmp_path, json.dumps(DOCUMENT).encode()), SCHEMA)


def test_types_are_part_of_the_content(file: Path) -> None:
    with pytest.raises(ChecksumError, match="number"):
        jsonfile.read(edited(file, '"number": -0.1', '"number": "-0.1"'), SCHEMA)


@pytest.mark.parametrize("place", ["os.replace", "os.fsync", "os.open", "pathlib.Path.open"])
def test_a_failing_write_leaves_the_old_file_and_nothing_else(
    file: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    before = file.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(place, full)
    with pytest.raises(HarnessError, match="No space left on device") as caught:
        jsonfile.write(file, DOCUMENT | {"number": 2})
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.skipif(sys.platform == "win32", reason="RLIMIT_FSIZE is POSIX")
def test_a_disk_that_takes_no_more_leaves_the_old_file(file: Path) -> None:
    import resource

    before = file.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))
    try:
        with pytest.raises(HarnessError, match="cannot be written"):
            jsonfile.write(file, DOCUMENT | {"text": "x" * 1_000_000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_an_interrupt_while_writing_leaves_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    before = file.read_bytes()
    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        jsonfile.write(file, DOCUMENT | {"number": 3})
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_a_place_that_cannot_be_written_is_one_line(file: Path) -> None:
    for path in (file / "below" / "b.json", file.parent / ("n" * 300), file.parent):
        with pytest.raises(HarnessError, match="cannot be written") as caught:
            jsonfile.write(path, DOCUMENT)
        assert "\n" not in str(caught.value)


def test_folders_are_made_and_the_umask_holds(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "a.json"
    before = os.umask(0o027)
    try:
        jsonfile.write(path, DOCUMENT)
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinities_are_never_written(file: Path, value: float) -> None:
    before = file.read_bytes()
    with pytest.raises(ValueError, match="JSON"):
        jsonfile.write(file, DOCUMENT | {"number": [value]})
    assert file.read_bytes() == before


def test_lone_surrogates_come_back(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    document = {"schema": SCHEMA, "\ud800": ["\udfff x", "a\udc80"]}
    jsonfile.write(path, document)
    assert jsonfile.read(path, SCHEMA) == document
    path.read_bytes().decode("utf-8")


def single_surrogates(text: str) -> str:
    """JSON has one spelling for a pair and for the character it encodes."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


TEXTS = st.text(st.characters(codec=None, exclude_categories=[])).map(single_surrogates)
VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=25,
)


def bits(value: Any) -> str:
    return repr(value)  # tells -0.0 from 0.0, 1 from 1.0 and True


@settings(deadline=None, max_examples=150)
@given(content=st.dictionaries(TEXTS, VALUES, max_size=5))
def test_any_value_comes_back(tmp_path_factory: pytest.TempPathFactory, content: Any) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    for seal in ("schema", "checksum", "checksums"):
        content.pop(seal, None)
    jsonfile.write(path, {"schema": SCHEMA, **content})
    assert bits(jsonfile.read(path, SCHEMA)) == bits({"schema": SCHEMA, **content})


def test_lists_of_numbers_stand_on_one_line(file: Path) -> None:
    assert '   "token_ids": [1,2],\n' in file.read_text(encoding="utf-8")
