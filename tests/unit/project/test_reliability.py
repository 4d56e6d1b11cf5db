"""Each row of docs/reliability.md has its test; and tests that stand nowhere else."""

from __future__ import annotations

import ast
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

Command = Callable[..., Any]
ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "reliability.md").read_text("utf-8")
ROWS = [line for line in PAGE.splitlines() if line.startswith("| ") and " test |" not in line]


def test_every_row_names_a_test_that_exists() -> None:
    assert len(ROWS) > 40
    for row in ROWS:
        named = re.fullmatch(r"\|[^|]+\|[^|]+\| `(tests/[^:]+)::(test_\w+)` \|", row)
        assert named, row
        tree = ast.parse((ROOT / named[1]).read_text("utf-8"))
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        assert named[2] in functions, row


def test_infinite_logits_fail(command: Command, project_folder: Path) -> None:
    record = ("record", "--device", "fake", "--suite", "s.yaml", "--engine-arg", "fault=inf")
    assert command(*record, "--out", "a.json").status == 0
    ended = command("compare", "a.json", "baselines/fake/s/bfloat16")
    assert ended.status == 1
    assert ended.out.startswith("DIVERGENT: NaN or infinite logits cannot be judged")


@pytest.fixture
def another_user() -> Iterator[None]:
    """Not root, who may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def read_only() -> Iterator[Path]:
    """A folder that its user may read only, below one that everybody may enter."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "fixed"
        folder.mkdir()
        folder.chmod(0o555)
        yield folder
        folder.chmod(0o755)


def test_a_read_only_folder_is_one_line(
    command: Command,
    project_folder: Path,
    read_only: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    record = ("record", "--device", "fake", "--suite")
    # Loads what is imported late, which another user may not read.
    assert command(*record, project_folder / "s.yaml", "--out", "a.json").status == 0
    suite = read_only.parent / "s.yaml"
    shutil.copy("s.yaml", suite)
    monkeypatch.chdir(read_only)
    request.getfixturevalue("another_user")
    ended = command(*record, suite, "--out", "a.json")
    assert ended.status == 2
    assert ended.error.startswith("a.json: cannot be written (Permission denied)")
    assert not list(read_only.iterdir())
