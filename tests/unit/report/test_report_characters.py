"""Chinese of half characters is read as Chinese."""

from __future__ import annotations

import pytest

from harness.report.characters import whole_characters


@pytest.mark.parametrize(
    ("pieces", "text", "shown"),
    [
        ([r"\xe4\xbb", r"\x80", r"\xe4\xb9", r"\x88", "!"], "什么!", ["什", "·", "么", "·", "!"]),
        ([r" \xf0\x9f", r"\x91", r"\xa9", " x"], " 👩 x", [" 👩", "·", "·", " x"]),
        # Two characters end and begin in one token.
        ([r"\xe4\xbb", r"\x80\xe4\xb9", r"\x88"], "什么", ["什", "么", "·"]),
        # The last character was cut off, as at the end of an output.
        ([r"\xe4\xbb", r"\x80", r"\xe4\xb9"], "什\ufffd", ["什", "·", r"\xe4\xb9"]),
        # Literal text of a program: it gives no character that the text holds.
        ([r"\xe4\xbb\x80"], r"b'\xe4\xbb\x80'", [r"\xe4\xbb\x80"]),
        ([r"\x80"], "\ufffd", [r"\x80"]),
        (["a", "é"], "aé", ["a", "é"]),
        ([], "", []),
    ],
)
def test_bytes_of_neighbours_make_characters(
    pieces: list[str], text: str, shown: list[str]
) -> None:
    assert whole_characters(pieces, text) == shown
