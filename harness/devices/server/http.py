"""HTTP to a server: bounded, never retried once it began to answer, and every
failure one line.

The API key comes from the environment, goes into one header, and is taken out
of the server's messages before they are shown.
"""

from __future__ import annotations

import ipaddress
import os
import queue
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

from harness.devices.server.reply import MalformedReply, error_text, parse_json
from harness.devices.server.sse import MalformedStream, events
from harness.errors import DeviceError, UsageError
from harness.model.hub import DISTRIBUTION, require
from harness.version import __version__

#: Where the API key is looked for; the first that is set.
KEY_VARIABLES = ("HARNESS_API_KEY", "OPENAI_API_KEY")
#: Bytes of the largest reply that is read, and of the largest error.
MAX_REPLY = 256 << 20
MAX_ERROR = 1 << 20
#: What stands for the key wherever a server repeats it.
BLOT = "[key]"
#: Characters of a key that is a secret. A server that asks for none is often given a word
#: ("EMPTY", "none", "x") which stands in honest texts and numbers, too.
LEAST_KEY = 6

_RETRIED = (429, 503)
_RETRIES = 3
_LONGEST_PAUSE = 30.0  # seconds, even if the server asks for more
_CONNECT = 10.0  # seconds
_SLACK = 0.5  # seconds, so that httpx's own clock tells what it waited for
_SHOWN = 300  # characters of a server's error
_REMEDIES = {
    401: "; set HARNESS_API_KEY (or OPENAI_API_KEY) to the server's key",
    403: "; set HARNESS_API_KEY (or OPENAI_API_KEY) to a key that may use it",
    404: "; give the URL below which /v1/completions is found",
}


class Refused(DeviceError):
    """The server answered with a status other than success."""

    def __init__(self, message: str, status: int) -> None:
        self.status = status
        super().__init__(message)


def base_url(url: str) -> str:
    """A server's URL without ``/v1`` and slashes at its end.

    Raises:
        UsageError: if it is not the URL of a server, or holds credentials, which
            would be written into recordings.
    """
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or any(c.isspace() for c in url):
        raise UsageError(
            "--server-url must be http://HOST:PORT or https://HOST, with a path if any"
        )
    if "@" in parts.netloc:
        raise UsageError(
            f"--server-url holds a user or password; set {KEY_VARIABLES[0]} in the environment"
        )
    if parts.query or parts.fragment:
        raise UsageError("--server-url holds a query or fragment; give the address alone")
    path = parts.path.rstrip("/").removesuffix("/v1").rstrip("/")
    return f"{parts.scheme}://{parts.netloc}{path}"


def is_loopback(url: str) -> bool:
    """Whether a URL leads to this machine, past every proxy."""
    host = urlsplit(url).hostname or ""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def api_key(environment: Mapping[str, str] = os.environ) -> str | None:
    """The API key from the environment; None if no variable is set.

    Raises:
        UsageError: if it does not fit in a header; the message does not show it.
    """
    name = next((name for name in KEY_VARIABLES if environment.get(name)), None)
    if name is None:
        return None
    key = environment[name].strip()
    if not key.isascii() or not key.isprintable() or not key:
        raise UsageError(f"{name} holds characters that an HTTP header cannot carry")
    return key


class Http:
    """Requests to one server; a context manager.

    Args:
        name: of the device, for messages.
        url: as of ``base_url``.
        timeout: seconds to wait for an answer, and between two events.
        connections: at a time.
    """

    def __init__(self, name: str, url: str, timeout: float, connections: int) -> None:
        self._httpx = require(
            "httpx", f"the device {name}", f"pip install '{DISTRIBUTION}[server]'"
        )
        self.name, self.url, self._timeout = name, url, timeout
        self._key = api_key()
        headers = {"User-Agent": f"harness/{__version__}", "Accept-Encoding": "identity"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        self._client = self._httpx.Client(
            base_url=url,
            headers=headers,
            timeout=self._httpx.Timeout(timeout, connect=min(_CONNECT, timeout)),
            limits=self._httpx.Limits(max_connections=connections + 1),
            trust_env=not is_loopback(url),
            follow_redirects=False,
        )

    def close(self) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        """The JSON of a reply; errors as of :meth:`post`."""
        with self._failures(path), self._answer("GET", path, None) as response:
            return self.without_key(parse_json(self._body(response)))

    def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """The JSON of a reply.

        Raises:
            Refused: for a status other than success.
            DeviceError: if nothing, or nothing readable, comes back.
        """
        with self._failures(path), self._answer("POST", path, body) as response:
            return self.without_key(parse_json(self._body(response)))

    @contextmanager
    def stream(self, path: str, body: Mapping[str, Any]) -> Iterator[Iterator[str]]:
        """The events of a streamed reply, as they come; errors as of :meth:`post`."""
        with self._failures(path), self._answer("POST", path, body) as response:
            kind = response.headers.get("content-type", "")
            if not kind.startswith("text/event-stream"):
                raise DeviceError(
                    f"{self.name}: {self.url}{path} does not stream: its answer is "
                    f"{self.shown(kind) or 'of no type'}"
                )
            yield self._events(response)

    def shown(self, text: str) -> str:
        """A server's words on one line, without the key."""
        text = self.without_key(text)
        line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
        return line if len(line) <= _SHOWN else line[: _SHOWN - 1] + "…"

    def without_key(self, value: Any) -> Any:
        """A value of JSON in which no string holds the key."""
        if self._key is None or len(self._key) < LEAST_KEY:
            return value
        if isinstance(value, str):
            return value.replace(self._key, BLOT)
        if isinstance(value, list):
            return [self.without_key(item) for item in value]
        if isinstance(value, dict):
            return {self.without_key(k): self.without_key(v) for k, v in value.items()}
        return value

    @contextmanager
    def _answer(self, method: str, path: str, body: Mapping[str, Any] | None) -> Iterator[Any]:
        """A response with a status of success; busy servers are asked again."""
        for attempt in range(_RETRIES + 1):
            with self._send(method, path, body) as response:
                if response.status_code == 200:
                    yield response
                    return
                if response.status_code not in _RETRIED or attempt == _RETRIES:
                    raise self._refusal(response, path, attempt)
                pause = _pause(response.headers.get("retry-after"), attempt)
            time.sleep(pause)

    @contextmanager
    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> Iterator[Any]:
        """A response whose headers have come."""
        response = self._in_time(self._client.build_request(method, path, json=body))
        try:
            yield response
        finally:
            response.close()

    def _in_time(self, request: Any) -> Any:
        """The response, if all its headers come within the timeout.

        httpx's own clock starts again with every byte, so another thread waits for them.
        """
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        left = threading.Event()

        def ask() -> None:
            try:
                answers.put(self._client.send(request, stream=True))
            except BaseException as error:
                answers.put(error)
            if left.is_set():
                _dispose(answers)

        threading.Thread(target=ask, daemon=True, name="harness-http").start()
        try:
            found = answers.get(timeout=self._timeout + _SLACK)
        except BaseException as error:  # Ctrl-C, too
            left.set()
            _dispose(answers)
            if isinstance(error, queue.Empty):
                raise self._httpx.ReadTimeout("the headers were not complete in time") from error
            raise
        if isinstance(found, BaseException):
            raise found
        return found

    def _refusal(self, response: Any, path: str, attempts: int) -> Refused:
        status = int(response.status_code)
        try:
            said = error_text(parse_json(self._body(response, MAX_ERROR)))
        except (MalformedReply, MalformedStream):
            said = response.reason_phrase
        again = f" after {attempts} more attempts" if attempts else ""
        remedy = _REMEDIES.get(status, "")
        if 300 <= status < 400:
            remedy = "; redirects are not followed, give the address that it leads to"
        return Refused(
            f"{self.name}: {self.url}{path} answered {status}{again}: {self.shown(said)}{remedy}",
            status,
        )

    def _body(self, response: Any, most: int | None = None) -> bytes:
        parts, deadline = [], time.monotonic() + self._timeout
        for chunk in self._bytes(response, most):
            if time.monotonic() > deadline:
                raise self._httpx.ReadTimeout("the answer was not complete in time")
            parts.append(chunk)
        return b"".join(parts)

    def _bytes(self, response: Any, most: int | None = None) -> Iterator[bytes]:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise MalformedStream("the answer is compressed, although this was not asked for")
        size, most = 0, most or MAX_REPLY
        for chunk in response.iter_raw():
            size += len(chunk)
            if size > most:
                raise MalformedStream(f"the answer is larger than {most >> 20} MiB")
            yield chunk

    def _events(self, response: Any) -> Iterator[str]:
        last = time.monotonic()

        def in_time() -> Iterator[bytes]:
            for chunk in self._bytes(response):
                # httpx's own clock starts again with every comment that keeps a line alive.
                if time.monotonic() - last > self._timeout:
                    raise self._httpx.ReadTimeout("no event came in time")
                yield chunk

        for event in events(in_time()):
            yield self.without_key(event)
            last = time.monotonic()

    @contextmanager
    def _failures(self, path: str) -> Iterator[None]:
        """Errors of httpx and of reading as one line each."""
        where = f"{self.name}: {self.url}{path}"
        try:
            yield
        except self._httpx.ConnectTimeout as error:
            raise DeviceError(f"{where}: no connection in {_CONNECT:g} s; is the server up?") from (
                error
            )
        except self._httpx.TimeoutException as error:
            raise DeviceError(
                f"{where}: no answer in {self._timeout:g} s; the server hangs or is slow, "
                "raise --engine-arg timeout=SECONDS"
            ) from error
        except self._httpx.ConnectError as error:
            raise DeviceError(
                f"{where}: no connection ({self.shown(str(error))}); is the server up, and the "
                "address right?"
            ) from error
        except self._httpx.HTTPError as error:
            raise DeviceError(
                f"{where}: the connection broke "
                f"({self.shown(str(error)) or type(error).__name__}); finished prompts are kept"
            ) from error
        except (MalformedReply, MalformedStream) as error:
            raise DeviceError(
                f"{where}: unreadable reply: {self.shown(str(error))}; is the server "
                "OpenAI-compatible?"
            ) from error


def _dispose(answers: queue.SimpleQueue[Any]) -> None:
    """Close a response that came after nobody waited for it any more."""
    with suppress(queue.Empty):
        found = answers.get_nowait()
        if not isinstance(found, BaseException):
            found.close()


def without_key(text: str) -> str:
    """A text without the API key of the environment, for what is made of a server's tokens."""
    for name in KEY_VARIABLES:
        key = os.environ.get(name, "").strip()
        if len(key) >= LEAST_KEY:
            text = text.replace(key, BLOT)
    return text


def _pause(asked: str | None, attempt: int) -> float:
    """Seconds before the next attempt: what the server asks for, in bounds."""
    if asked is not None and asked.strip().isdecimal():
        return min(float(asked), _LONGEST_PAUSE)
    return min(0.5 * 2.0**attempt, _LONGEST_PAUSE)
