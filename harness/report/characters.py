"""Tokens that are parts of characters, shown as the characters.

A piece of such a token spells its bytes as ``\\xe4\\xbb`` (``harness.model.spelling``); only
beside its neighbours is it a character.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import groupby

#: In place of a token that goes on with the character of the one before it.
GOES_ON = "·"

_BYTE = re.compile(r"\\x([89a-f][0-9a-f])")
#: What Python makes of a byte that is no part of a character.
_STRAY = re.compile("([\udc80-\udcff])")


def whole_characters(pieces: Sequence[str], text: str) -> list[str]:
    """Pieces of tokens that follow one another, with characters for their bytes.

    A character of several tokens stands in the first of them, and GOES_ON in the others.
    Bytes that make no character stay spelled; so do all where the characters are not in
    ``text``, which the tokens are of.
    """
    found: list[str] = []
    for has_bytes, group in groupby(pieces, lambda piece: _BYTE.search(piece) is not None):
        run = list(group)
        found += _characters(run, text) if has_bytes else run
    return found


def _characters(run: Sequence[str], text: str) -> list[str]:
    encoded = [_encoded(piece) for piece in run]
    whole = b"".join(encoded).decode("utf-8", "surrogateescape")
    told = [part for part in _STRAY.split(whole) if part and not _STRAY.fullmatch(part)]
    if not told or not all(part in text for part in told):
        return list(run)
    return list(_spread(encoded, whole))


def _spread(encoded: Sequence[bytes], whole: str) -> Iterator[str]:
    """To each token the characters that begin in it."""
    at = end = n = 0
    for part in encoded:
        end += len(part)
        first = n
        while n < len(whole) and at < end:
            at += len(whole[n].encode("utf-8", "surrogateescape"))
            n += 1
        own = whole[first:n]
        yield _STRAY.sub(lambda stray: f"\\x{ord(stray[0]) - 0xDC00:02x}", own) or GOES_ON


def _encoded(piece: str) -> bytes:
    """The bytes of a piece: characters in UTF-8, and those that it spells."""
    return b"".join(
        bytes.fromhex(part) if n % 2 else part.encode("utf-8", "replace")
        for n, part in enumerate(_BYTE.split(piece))
    )
