"""Every failure of a connection is one line, and no key is ever in it."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fault_server import Faults, Handler, fault_server, json_answer

from harness.devices.server import http as server_http
from harness.devices.server.http import Http, Refused, api_key, base_url, is_loopback
from harness.errors import DeviceError, UsageError

pytest.importorskip("httpx")

KEY = "sk-very-secret-key-0123456789"


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    for name in server_http.KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(server_http.time, "sleep", lambda _: None)
    with fault_server() as server:
        yield server


def http(faults: Faults, timeout: float = 5.0) -> Http:
    return Http("server", faults.url, timeout, 1)


def stream(faults: Faults, timeout: float = 5.0) -> list[str]:
    with http(faults, timeout).stream("/x", {}) as found:
        return list(found)


def one_line(error: pytest.ExceptionInfo[DeviceError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    assert text.startswith("server: ")
    return text


# --- addresses


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("http://h:8000", "http://h:8000"),
        ("http://h:8000/", "http://h:8000"),
        ("http://h:8000/v1", "http://h:8000"),
        ("https://h/prefix/v1/", "https://h/prefix"),
        ("http://[::1]:80", "http://[::1]:80"),
    ],
)
def test_an_address_ends_before_v1(url: str, base: str) -> None:
    assert base_url(url) == base


@pytest.mark.parametrize(
    "url",
    ["", "h:8000", "ftp://h", "http://", "http:///v1", "http://h:99999", "http://[::1",
     "http://a b", "file:///etc/passwd", "http://h?key=secret", "http://h#secret"],
)  # fmt: skip
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="--server-url") as refused:
        base_url(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["http://user:secret@h:1", "http://secret@h", "http://:secret@h"])
def test_credentials_in_an_address_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(UsageError, match="HARNESS_API_KEY") as refused:
        base_url(url)
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.9.9.9", True),
        ("http://localhost:8000", True),
        ("http://[::1]:8000", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example.org", False),
        ("http://127.0.0.1.example.org", False),
    ],
)
def test_loopback_is_this_machine_only(url: str, local: bool) -> None:
    assert is_loopback(url) is local


def test_loopback_goes_past_proxies(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    faults.answers["/x"] = [json_answer({"a": 1})]
    assert http(faults).get("/x") == {"a": 1}


# --- keys


def test_the_harness_key_wins_and_an_empty_one_is_none() -> None:
    assert api_key({"OPENAI_API_KEY": "a", "HARNESS_API_KEY": "b"}) == "b"
    assert api_key({"OPENAI_API_KEY": "a", "HARNESS_API_KEY": ""}) == "a"
    assert api_key({}) is None


@pytest.mark.parametrize("key", ["se\ncret", "secr\u00e9t", "  ", "se\x00cret"])
def test_a_key_that_no_header_carries_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(UsageError, match="HARNESS_API_KEY holds characters") as refused:
        api_key({"HARNESS_API_KEY": key})
    assert "se" not in str(refused.value).replace("holds characters", "")


def test_the_key_is_sent_and_never_told(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    faults.answers["/x"] = [json_answer({"error": {"message": f"bad key {KEY}!"}}, 401)]
    with pytest.raises(Refused) as refused:
        http(faults).get("/x")
    assert faults.requests[0][1]["Authorization"] == f"Bearer {KEY}"
    assert KEY not in one_line(refused)
    assert "bad key [key]!" in str(refused.value)
    assert "HARNESS_API_KEY" in str(refused.value)
    assert KEY not in repr(refused.value.__cause__)


# --- statuses


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again(faults: Faults, status: int) -> None:
    busy = json_answer({"error": "busy"}, status, retry_after="1")
    faults.answers["/x"] = [busy, busy, json_answer({"a": 1})]
    assert http(faults).get("/x") == {"a": 1}
    assert len(faults.requests) == 3


def test_a_server_that_stays_busy_is_left(faults: Faults) -> None:
    faults.answers["/x"] = [json_answer({"error": "busy"}, 503)]
    with pytest.raises(Refused) as refused:
        http(faults).get("/x")
    assert "answered 503 after 3 more attempts: busy" in one_line(refused)
    assert len(faults.requests) == 4


def test_a_pause_is_bounded_whatever_the_server_asks_for() -> None:
    assert server_http._pause("3600", 0) == 30.0
    assert server_http._pause("2", 0) == 2.0
    assert server_http._pause("Sun, 22 Nov 2026 10:00:00 GMT", 1) == 1.0
    assert server_http._pause(None, 50) == 30.0


@pytest.mark.parametrize("status", [400, 404, 422, 500, 502])
def test_other_failures_are_told_at_once(faults: Faults, status: int) -> None:
    faults.answers["/x"] = [json_answer({"error": {"message": "no\nway \x1b[31m"}}, status)]
    with pytest.raises(Refused) as refused:
        http(faults).post("/x", {})
    assert f"{faults.url}/x answered {status}: no way [31m" in one_line(refused)
    assert refused.value.status == status
    assert len(faults.requests) == 1


def test_a_redirect_is_not_followed(faults: Faults) -> None:
    faults.answers["/x"] = [json_answer({}, 307, location="http://127.0.0.1:9/elsewhere")]
    with pytest.raises(Refused, match=r"answered 307.*redirects are not followed"):
        http(faults).get("/x")
    assert len(faults.requests) == 1


def test_an_error_page_is_told_by_its_status(faults: Faults) -> None:
    page = b"<html><body>Bad gateway</body></html>"
    faults.answers["/x"] = [json_answer(page, 502, content_type="text/html")]
    with pytest.raises(Refused, match="answered 502: Bad Gateway"):
        http(faults).get("/x")


# --- connections


def test_a_refused_connection_is_one_line() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    with pytest.raises(DeviceError, match="is the server up") as refused:
        Http("server", f"http://127.0.0.1:{port}", 5.0, 1).get("/x")
    assert str(port) in one_line(refused)


def test_a_server_that_is_silent_is_left_in_time(faults: Faults) -> None:
    def silent(handler: Handler, _: Any) -> None:
        time.monotonic()
        handler.rfile.read(1)  # until the client leaves

    faults.answers["/x"] = [silent]
    started = time.monotonic()
    with pytest.raises(DeviceError, match=r"no answer in 0.3 s.*timeout=SECONDS") as late:
        http(faults, timeout=0.3).get("/x")
    assert time.monotonic() - started < 3
    one_line(late)


def drip(data: bytes) -> Any:
    """Data again and again, each time well within the clock between two bytes."""

    def answer(handler: Handler, _: Any) -> None:
        handler.begin_stream()
        for _ in range(100):
            handler.wfile.write(data)
            handler.wfile.flush()
            handler.connection.settimeout(0.05)
            try:
                handler.rfile.read(1)
                return
            except TimeoutError:
                handler.rfile = handler.connection.makefile("rb")

    return answer


def test_comments_do_not_keep_a_stream_alive_for_ever(faults: Faults) -> None:
    faults.answers["/x"] = [drip(b": still here\n\n")]
    started = time.monotonic()
    with pytest.raises(DeviceError, match=r"no answer in 0\.4 s"):
        stream(faults, timeout=0.4)
    assert time.monotonic() - started < 3


def test_a_body_that_drips_is_left_in_time(faults: Faults) -> None:
    faults.answers["/x"] = [drip(b" ")]
    with pytest.raises(DeviceError, match=r"no answer in 0\.4 s"):
        http(faults, timeout=0.4).get("/x")


def test_a_connection_that_breaks_is_one_line(faults: Faults) -> None:
    def broken(handler: Handler, _: Any) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", "text/event-stream")
        handler.send_header("Content-Length", "1000")
        handler.end_headers()
        handler.wfile.write(b"data: {}\n\n")
        handler.wfile.flush()
        handler.cut()

    faults.answers["/x"] = [broken]
    with pytest.raises(DeviceError, match="the connection broke") as cut:
        stream(faults)
    one_line(cut)


@pytest.mark.parametrize("data", [b"", b"{", b"<html>", b"\xff\xfe", b"[" * 200_000])
def test_what_is_no_json_is_one_line(faults: Faults, data: bytes) -> None:
    faults.answers["/x"] = [json_answer(data)]
    with pytest.raises(
        DeviceError, match="unreadable reply: the data is not JSON; is the server OpenAI-comp"
    ) as bad:
        http(faults).get("/x")
    one_line(bad)


def test_an_answer_that_does_not_stream_is_told(faults: Faults) -> None:
    faults.answers["/x"] = [json_answer({"choices": []})]
    with pytest.raises(DeviceError, match="does not stream: its answer is application/json"):
        stream(faults)


def test_a_flood_is_left(faults: Faults, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_http, "MAX_REPLY", 1 << 20)
    faults.answers["/x"] = [json_answer(b" " * (2 << 20))]
    with pytest.raises(DeviceError, match="larger than 1 MiB"):
        http(faults).get("/x")


def test_a_compressed_answer_is_no_bomb(faults: Faults) -> None:
    faults.answers["/x"] = [json_answer(b"\x1f\x8b", content_encoding="gzip")]
    with pytest.raises(DeviceError, match="the answer is compressed"):
        http(faults).get("/x")


def test_events_come_while_the_stream_is_open(faults: Faults) -> None:
    def slow(handler: Handler, _: Any) -> None:
        handler.begin_stream()
        handler.event("one")
        handler.connection.settimeout(0.3)
        with pytest.raises(TimeoutError):
            handler.rfile.read(1)
        handler.event("two")

    faults.answers["/x"] = [slow]
    with http(faults).stream("/x", {}) as found:
        started = time.monotonic()
        assert next(found) == "one"
        assert time.monotonic() - started < 0.25
        assert next(found) == "two"
        assert time.monotonic() - started > 0.25


# --- a server that takes its time, and one that repeats the key


def drip_header(handler: Handler, _: Any) -> None:
    """A header that never ends, a byte at a time."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    for _byte in range(400):
        handler.wfile.write(b"x")
        handler.wfile.flush()
        waited.wait(0.02)


waited = threading.Event()


@pytest.mark.parametrize("how", ["get", "post", "stream"])
def test_headers_that_drip_are_left(faults: Faults, how: str) -> None:
    faults.answers["/x"] = [drip_header]
    client = http(faults, timeout=0.3)
    ask: dict[str, Callable[[], object]] = {
        "get": lambda: client.get("/x"),
        "post": lambda: client.post("/x", {}),
        "stream": lambda: client.stream("/x", {}).__enter__(),
    }
    begun = time.monotonic()
    with pytest.raises(DeviceError, match="no answer in") as failed:
        ask[how]()
    assert time.monotonic() - begun < 4
    one_line(failed)
    client.close()


def test_a_long_error_is_read_in_part(faults: Faults) -> None:
    sent = []

    def flood(handler: Handler, _: Any) -> None:
        handler.send_response(500)
        handler.end_headers()
        for _block in range(64):
            handler.wfile.write(b"x" * (1 << 20))
            sent.append(1)

    faults.answers["/x"] = [flood]
    with pytest.raises(Refused, match="answered 500"):
        http(faults).get("/x")
    assert len(sent) < 32


def test_a_key_is_taken_out_of_every_string(
    faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_API_KEY", KEY)
    content = {"data": [{"id": KEY, f"a{KEY}": [f"b{KEY}c", 1, None, True]}]}
    faults.answers["/x"] = [json_answer(content)]
    cleaned = {"data": [{"id": "[key]", "a[key]": ["b[key]c", 1, None, True]}]}
    assert http(faults).get("/x") == cleaned
    assert http(faults).post("/x", {}) == cleaned
    assert server_http.without_key(f"x {KEY} y") == "x [key] y"
