"""Compressed files are read as what they hold; a bomb and damage are one line."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from factories import fake_record, fake_suite

from harness.devices.fake import FakeDevice
from harness.errors import FormatError
from harness.files import gzipped, jsonfile
from harness.files.gzipped import deflated, inflated, name_of
from harness.recording.format import load_recording, save_recording

Command = Callable[..., Any]
TEXT = b'{"schema": "test/1", "a": [1, 2, 3]}\n' * 3
MOST = 1 << 30


def whole(data: bytes, size: int = 7, most: int = MOST) -> bytes:
    return b"".join(inflated((data[n : n + size] for n in range(0, len(data), size)), most))


@pytest.mark.parametrize("size", [1, 2, 10, 17, 1000])
@pytest.mark.parametrize(
    "data",
    [
        gzip.compress(TEXT),
        gzip.compress(TEXT, 1)[:-8] + gzip.compress(TEXT, 1)[-8:],
        b"".join(gzip.compress(TEXT[n : n + 20]) for n in range(0, len(TEXT), 20)),
        gzip.compress(TEXT) + bytes(512),
        gzip.compress(TEXT[:5]) + bytes(3) + gzip.compress(TEXT[5:]),
        b"".join(deflated([TEXT[:9], b"", TEXT[9:]])),
    ],
    ids=["one", "fast", "members", "padded", "padded between", "own"],
)
def test_what_any_tool_compressed_is_read_in_parts_of_any_size(data: bytes, size: int) -> None:
    assert whole(data, size) == TEXT


def test_what_is_written_depends_on_the_content_alone_and_other_tools_read_it(
    tmp_path: Path,
) -> None:
    one, other = tmp_path / "a.json.gz", tmp_path / "other-name.JSON.GZ"
    for path in (one, other):
        jsonfile.write(path, {"schema": "test/1", "n": [1.5, None]})
    assert one.read_bytes() == other.read_bytes()
    assert one.read_bytes()[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"
    jsonfile.write(tmp_path / "a.json", {"schema": "test/1", "n": [1.5, None]})
    assert gzip.decompress(one.read_bytes()) == (tmp_path / "a.json").read_bytes()
    assert jsonfile.read(one, "test/1") == {"schema": "test/1", "n": [1.5, None]}


@pytest.mark.parametrize("cut", [1, 3, 9, 10, 11, 30, -9, -8, -4, -1])
def test_a_file_that_was_cut_off_is_one_line(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(gzip.compress(TEXT * 50)[:cut])
    with pytest.raises(FormatError) as refused:
        jsonfile.parse(path)
    assert str(refused.value).startswith(f"{path}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (gzip.compress(TEXT)[:-8] + bytes(8), "damaged"),
        (gzip.compress(TEXT)[:30], "ends too early"),
        (gzip.compress(TEXT) + b"more", "damaged"),
        (b"\x1f\x8b\x07" + gzip.compress(TEXT)[3:], "damaged"),
        (gzip.compress(gzip.compress(TEXT)), "not UTF-8"),
        (gzip.compress(b""), "is not JSON"),
        (gzip.compress(b"\xff{}"), "not UTF-8"),
        (zlib.compress(TEXT), "not UTF-8"),
    ],
    ids=["sums", "half", "trailing", "method", "twice", "empty", "bytes", "zlib"],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, data: bytes, said: str) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(data)
    with pytest.raises(FormatError, match=said):
        jsonfile.parse(path)


def bomb(size: int, content: bytes = b" ") -> bytes:
    packer = zlib.compressobj(9, wbits=31)
    part = content * (1 << 20)
    return b"".join(packer.compress(part) for _ in range(size >> 20)) + packer.flush()


@pytest.mark.parametrize("content", [b" ", b"[", b"0", b"\0"])
def test_a_bomb_is_refused_before_it_has_gone_off(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.json.gz"
    path.write_bytes(bomb(32 << 20, content))
    for read in (jsonfile.parse, load_recording, jsonfile.parse_foreign):
        with pytest.raises(FormatError, match=r"cannot be read \(inflates to more than 100 times"):
            read(path)


def test_of_a_bomb_no_more_is_inflated_than_the_bound() -> None:
    data = bomb(64 << 20)
    parts = inflated((data[n : n + 65536] for n in range(0, len(data), 65536)), MOST)
    made = [0]
    with pytest.raises(OSError, match="100 times"):
        made.extend(map(len, parts))
    assert sum(made) <= (16 << 20) + (1 << 20)
    with pytest.raises(OSError, match="more than 1 MiB"):
        whole(gzip.compress(TEXT * 60_000), 1 << 16, 1 << 20)


def test_many_empty_parts_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gzipped, "_MOST_MEMBERS", 50)
    empty = gzip.compress(b"")
    assert whole(empty * 50, 100) == b""
    with pytest.raises(OSError, match="compressed parts"):
        whole(empty * 51, 100)


@pytest.mark.parametrize(
    ("name", "plain"),
    [("a.json.gz", "a.json"), ("a.JSON.GZ", "a.JSON"), ("a.gz.json", "a.gz.json")],
)
def test_the_name_without_the_ending(name: str, plain: str) -> None:
    assert name_of(Path("f") / name) == Path("f") / plain


def test_what_a_compressed_file_begins_with_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "without-an-ending"
    save_recording(fake_record(FakeDevice(), fake_suite()), tmp_path / "r.json.gz")
    path.write_bytes((tmp_path / "r.json.gz").read_bytes())
    assert jsonfile.begins_with_schema(path, "harness.recording/")
    assert load_recording(path).device == "fake"
    path.write_bytes(b"\x1f\x8b\x08" + bytes(40))
    assert not jsonfile.begins_with_schema(path, "harness.recording/")


def test_every_command_reads_and_writes_compressed_files(
    command: Command, project_folder: Path
) -> None:
    made = command("record", "--device", "fake", "--suite", "s.yaml", "--out", "c.json.gz")
    assert made.status == 0, made.err
    for path in Path("baselines/fake/s/bfloat16").glob("*.json"):
        save_recording(load_recording(path), path.with_name(path.name + ".gz"))
        path.unlink()
    plain = [{"prompt": "x", "token_ids": [1, 2]}]
    Path("plain.json.gz").write_bytes(gzip.compress(str(plain).replace("'", '"').encode()))
    ended = command(
        *("compare", "c.json.gz", "baselines/fake/s/bfloat16", "--json", "a.json.gz"),
        *("--report", "r.json.gz"),
    )
    assert ended.status in (0, 3), ended.err
    assert gzip.decompress(Path("a.json.gz").read_bytes()).startswith(b'{\n "schema"')
    assert Path("a.json.gz").read_bytes()[:2] == Path("r.json.gz").read_bytes()[:2]
    for given in (
        ("report", "a.json.gz", "--out", "r.html"),
        ("report", "c.json.gz", "--out", "c.html"),
        ("baseline", "list"),
        ("baseline", "show", "baselines/fake/s/bfloat16"),
        ("compare", "plain.json.gz", "plain.json.gz"),
    ):
        assert command(*given).status in (0, 3), given
    assert "reference.json.gz" in gzip.decompress(Path("a.json.gz").read_bytes()).decode()


def test_an_arm_that_is_there_twice_is_refused(command: Command, project_folder: Path) -> None:
    command("record", "--device", "fake", "--suite", "s.yaml", "--out", "c.json")
    folder = Path("baselines/fake/s/bfloat16")
    save_recording(load_recording(folder / "oracle.json"), folder / "oracle.json.gz")
    ended = command("compare", "c.json", folder)
    assert ended.status == 2
    assert "the arm oracle is there twice" in ended.err
