"""Events come out whole, however the bytes are cut."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.devices.server.sse import MAX_EVENT, MalformedStream, events

STREAM = (
    "data: one\n\n: a comment\ndata: t\u00e4o\ndata:zwei\n\nevent: x\nid: 3\n\ndata: [DONE]\n\n"
)
WANTED = ["one", "t\u00e4o\nzwei", "[DONE]"]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = [0, *sorted(p % (len(data) + 1) for p in places), len(data)]
    return [data[a:b] for a, b in pairwise(ends)]


@given(st.lists(st.integers(0, 200), max_size=30), st.sampled_from(["\n", "\r", "\r\n"]))
def test_cuts_and_line_ends_change_nothing(places: list[int], end: str) -> None:
    data = STREAM.replace("\n", end).encode()
    assert list(events(cut(data, places))) == WANTED


def test_every_byte_by_itself() -> None:
    data = STREAM.replace("\n", "\r\n").encode()
    assert list(events([bytes([b]) for b in data])) == WANTED


def test_an_event_comes_as_soon_as_it_is_whole() -> None:
    fed: list[bytes] = []

    def chunks() -> object:
        for part in (b"data: 1\n\n", b"data: 2\n", b"\n"):
            fed.append(part)
            yield part

    found = events(chunks())  # type: ignore[arg-type]
    assert next(found) == "1"
    assert len(fed) == 1
    assert next(found) == "2"


@pytest.mark.parametrize("data", [b"", b"data: half", b"data: half\n", b"\n\n\n", b": x\n\n"])
def test_what_is_not_ended_is_no_event(data: bytes) -> None:
    assert list(events([data])) == []


def test_a_byte_order_mark_is_no_part_of_the_first_field() -> None:
    assert list(events([b"\xef\xbb\xbfdata: x\n\n"])) == ["x"]


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(MalformedStream, match="not UTF-8"):
        list(events([b"data: \xff\xfe\n\n"]))


def test_a_line_without_end_is_refused_while_it_comes() -> None:
    taken = 0

    def flood() -> object:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 65536

    with pytest.raises(MalformedStream, match="larger than 4 MiB"):
        list(events(flood()))  # type: ignore[arg-type]
    assert taken * 65536 < 2 * MAX_EVENT


def test_an_event_of_many_lines_is_refused_too() -> None:
    with pytest.raises(MalformedStream, match="larger than 4 MiB"):
        list(events(b"data: " + b"x" * 65000 + b"\n" for _ in range(100)))
