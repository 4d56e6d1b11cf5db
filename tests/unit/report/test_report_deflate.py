"""Any inflater reads it, and its bytes depend on nothing but the input."""

from __future__ import annotations

import hashlib
import json
import zlib
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.deflate import deflate


@given(st.binary(max_size=2_000))
def test_any_bytes_come_back(data: bytes) -> None:
    assert zlib.decompress(deflate(data), wbits=-15) == data


@given(st.lists(st.sampled_from([b"EXACT,", b"0.125", b'"top":', b"\n", b"x"]), max_size=600))
def test_repeated_pieces_come_back(pieces: list[bytes]) -> None:
    data = b"".join(pieces)
    assert zlib.decompress(deflate(data), wbits=-15) == data


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"a",
        b"a" * 100_000,
        b"abcd" * 20_000,
        bytes(range(256)) * 300,
        b"0123456789abcdef" + b"." * 40_000 + b"0123456789abcdef",  # a match beyond the window
        b"".join(bytes([n]) * 2**n for n in range(17)),  # a code deeper than 15 bits
        json.dumps([n / 7 for n in range(30_000)]).encode(),  # more symbols than a block
    ],
    ids=["empty", "one", "run", "period", "all", "far", "deep", "blocks"],
)
def test_special_inputs_come_back(data: bytes) -> None:
    assert zlib.decompress(deflate(data), wbits=-15) == data


def test_it_saves_nearly_what_zlib_does() -> None:
    random = Random(7)
    data = json.dumps([[random.randrange(97), "EXACT", n // 9 / 8] for n in range(20_000)]).encode()
    assert len(deflate(data)) < 1.3 * len(zlib.compress(data, 9))


def test_the_bytes_are_these_on_every_machine() -> None:
    """Known bytes: a change of them changes every report."""
    data = b"the same alignment gives the same bytes, the same bytes " * 40
    assert (
        hashlib.sha256(deflate(data)).hexdigest()
        == "56452e8c39b967c8fac0173a77e8d9a56acfe11bd59a6f4c2ce1f30b27af1ed8"
    )
