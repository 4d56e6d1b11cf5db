"""Errors are one line, whatever a file or a path brings into them."""

from __future__ import annotations

import pytest

from harness.errors import ChecksumError, FormatError, HarnessError, MissingDependency, SuiteError


@pytest.mark.parametrize(
    "error",
    [
        HarnessError("a\nb\x1b[31m\u202e"),
        FormatError("p\n.json", "field\r", "problem\u2028"),
        ChecksumError("p", "k\ney", "was edited"),
        SuiteError("s\n.yaml", 3, "x\ty"),
        MissingDependency("a\nb", "c", "d"),
    ],
)
def test_every_error_is_one_printable_line(error: HarnessError) -> None:
    assert str(error).isprintable()


def test_plain_words_of_any_language_stay() -> None:
    assert str(HarnessError("模型 “x” не найдена 🧪")) == "模型 “x” не найдена 🧪"
