"""Server-sent events out of bytes, as far as completions need them.

The fields other than ``data`` carry nothing here and are skipped
(https://html.spec.whatwg.org/multipage/server-sent-events.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

#: Bytes of the longest event that is read; a chunk of one token has some thousand.
MAX_EVENT = 4 << 20
#: What ends a stream of completions.
DONE = "[DONE]"


class MalformedStream(ValueError):
    """The bytes are not a stream of events, or an event is too long."""


def events(chunks: Iterable[bytes]) -> Iterator[str]:
    """The data of each event, as soon as the empty line after it arrives.

    An event that the end of the stream cuts off is dropped, as the standard
    says. Lines end in LF, CR or CRLF, and chunks anywhere.

    Raises:
        MalformedStream: for an event longer than MAX_EVENT, or bytes that are
            not UTF-8.
    """
    data: list[str] = []
    size = 0
    for line in _lines(chunks):
        size += len(line)
        if size > MAX_EVENT:
            raise MalformedStream(f"an event is larger than {MAX_EVENT >> 20} MiB")
        if not line:
            if data:
                yield "\n".join(data)
            data, size = [], 0
            continue
        name, _, value = line.partition(b":")
        if name.removeprefix(b"\xef\xbb\xbf") == b"data":
            try:
                data.append(value.removeprefix(b" ").decode("utf-8"))
            except UnicodeDecodeError as error:
                raise MalformedStream("the stream is not UTF-8") from error


def _lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Complete lines, without their line ends."""
    parts: list[bytes] = []
    held = 0
    after_return = False
    for chunk in chunks:
        if after_return and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # noqa: PLW2901 - the other half of a CRLF
        if not chunk:
            continue
        after_return = chunk.endswith(b"\r")
        parts.append(chunk)
        held += len(chunk)
        if b"\n" not in chunk and b"\r" not in chunk:
            if held > MAX_EVENT:
                raise MalformedStream(f"a line is larger than {MAX_EVENT >> 20} MiB")
            continue
        lines = b"".join(parts).splitlines(keepends=True)
        parts = [] if lines[-1].endswith((b"\n", b"\r")) else [lines.pop()]
        held = sum(map(len, parts))
        for line in lines:
            yield line.rstrip(b"\r\n")
