"""What is read ends: no device, no FIFO, no file that claims more than it holds."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.errors import HarnessError
from harness.files import jsonfile
from harness.files.reading import check_regular, read_head, read_regular
from harness.model.model import Model, read_json
from harness.recording.format import load_recording
from harness.suite.read import load_suite
from harness.suite.strict_yaml import YamlSource

Command = Callable[..., Any]
FOLDER = Path("baselines/fake/s/bfloat16")
posix = pytest.mark.skipif(sys.platform == "win32", reason="devices and FIFOs are POSIX")


def _place(path: Path, kind: str) -> Path:
    path.unlink(missing_ok=True)
    if kind == "FIFO":
        os.mkfifo(path)
    else:
        os.symlink(kind, path)
    return path


@posix
@pytest.mark.parametrize("kind", ["/dev/zero", "/dev/tty", "/dev/null", "FIFO", "/"])
def test_only_regular_files_are_read(tmp_path: Path, kind: str) -> None:
    path = _place(tmp_path / "f.json", kind)
    for read in (lambda p: read_regular(p, 100), lambda p: read_head(p, 100), check_regular):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory|No such device"):
            read(path)


@posix
@pytest.mark.parametrize("kind", ["/dev/zero", "FIFO"])
def test_every_reader_refuses_them_at_once(tmp_path: Path, kind: str) -> None:
    path = _place(tmp_path / "config.json", kind)
    _place(tmp_path / "s.yaml", kind)
    readers: tuple[Callable[[], object], ...] = (
        lambda: jsonfile.parse(path),
        lambda: jsonfile.parse_foreign(path),
        lambda: load_recording(path),
        lambda: load_suite(tmp_path / "s.yaml"),
        lambda: read_json(Model("m", str(tmp_path)), "config.json"),
    )
    for read in readers:
        with pytest.raises(HarnessError, match=r"not a regular file|no such suite"):
            read()
    assert not jsonfile.begins_with_schema(path, "harness")


@posix
@pytest.mark.parametrize("kind", ["/dev/zero", "FIFO"])
def test_commands_refuse_them_at_once(command: Command, kind: str) -> None:
    path = _place(Path("x.json"), kind)
    _place(FOLDER / "control-z.json", kind)
    for arguments in (
        ("compare", path, FOLDER / "reference.json"),
        ("compare", FOLDER / "reference.json", path),
        ("report", path, "--out", "r.html"),
        ("verify", path, "--device", "fake", "--model", "fake"),
        ("baseline", "diff", path, FOLDER / "reference.json"),
        ("baseline", "list"),
    ):
        assert command(*arguments).status == 2


def test_a_file_is_read_to_its_bound(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"x" * 100)
    assert read_regular(path, 100) == b"x" * 100
    assert read_head(path, 7) == b"x" * 7
    with pytest.raises(OSError, match="larger than"):
        read_regular(path, 99)


def test_rows_do_not_outgrow_the_tokens(project_folder: Path) -> None:
    """Before anything is unpacked, so the arrays need not even be arrays."""
    document = jsonfile.parse(FOLDER / "reference.json")
    run = document["prompts"][0]["free"]
    run["rows"] = {**run["rows"], "count": 9_000_000, "mean": "f8z AAAA"}
    del document["checksum"], document["checksums"]
    jsonfile.write(Path("bomb.json"), document)
    with pytest.raises(HarnessError, match="differ in length"):
        load_recording(Path("bomb.json"))


def test_lines_are_counted_once() -> None:
    def seconds(prompts: int) -> float:
        source = YamlSource("s.yaml", "- a\r\n" * prompts)
        begun = time.process_time()
        for index in range(0, 5 * prompts, 5):
            source._line(index)
        return time.process_time() - begun

    source = YamlSource("s.yaml", "a\nb\r\nc\rd\u2028e")
    assert [source._line(i) for i in (0, 2, 5, 7, 9)] == [1, 2, 3, 4, 4]
    assert seconds(40_000) < 2.0  # a minute, if each line were counted from the top
