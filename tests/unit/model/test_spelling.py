"""Half characters are shown by their bytes, and never by a vocabulary's stand-ins for them."""

from __future__ import annotations

import pytest

from harness.model.spelling import spelled


@pytest.mark.parametrize(
    ("entry", "shown"),
    [
        ("ä»", r"\xe4\xbb"),
        ("Ģ", r"\x80"),
        ("ĠðŁĳ", r" \xf0\x9f\x91"),
        ("<0xE4>", r"\xe4"),
        ("<0x0a>", r"\x0a"),
        ("ä»Ģä", r"什\xe4"),  # a whole character, and a part of the next one
        ("byte228", "byte228"),
        ("<|im_end|>", "<|im_end|>"),
        ("什", "什"),  # no stand-in: the entry itself
        ("", ""),
    ],
)
def test_an_entry_is_shown_by_its_characters_and_bytes(entry: str, shown: str) -> None:
    assert spelled(entry) == shown


def test_every_byte_has_a_stand_in_of_its_own() -> None:
    """Each is read back: 256 stand-ins, of which none is a space or hidden."""
    from harness.model import spelling

    assert sorted(spelling._BYTES.values()) == list(range(256))
    assert not any(character.isspace() for character in spelling._BYTES)
