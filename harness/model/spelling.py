"""The bytes of a token that is half a character, in a form that a reader knows.

A tokenizer of bytes names such a token by stand-ins for its bytes, of which ``ä»`` is one,
and another one by ``<0xE4>``. Here both are ``\\xe4\\xbb``.
"""

from __future__ import annotations

import re

_ONE_BYTE = re.compile("<0x([0-9A-Fa-f]{2})>")


def _stand_ins() -> dict[str, int]:
    """The byte of each stand-in, as GPT-2 chose them: what can be printed stands for itself,
    and the others for the characters from U+0100 on."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printed]
    found = {chr(byte): byte for byte in printed}
    return found | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTES = _stand_ins()


def spelled(entry: str) -> str:
    """A vocabulary's entry for a token whose text is no whole character.

    Returns:
        Whole characters as themselves, other bytes as ``\\xe4``; an entry that names no
        bytes as it is.
    """
    one = _ONE_BYTE.fullmatch(entry)
    if one is not None:
        return f"\\x{one[1].lower()}"
    if not all(character in _BYTES for character in entry):
        return entry
    return bytes(map(_BYTES.__getitem__, entry)).decode("utf-8", "backslashreplace")
