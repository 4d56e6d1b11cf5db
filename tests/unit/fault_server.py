"""A local HTTP server that fails in every way a server on the way can.

It stands for no engine: what an engine says is tested against a real one in
tests/engines/test_server.py.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Writes its answer by itself; given the handler and the request's JSON.
Answer = Callable[["Handler", Any], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(None)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._answer(json.loads(body))

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, body: Any) -> None:
        server: Any = self.server
        faults: Faults = server.faults
        faults.requests.append((self.path, dict(self.headers), body))
        answers = faults.answers.get(self.path)
        if answers is None:
            self.whole(404, {"detail": "Not Found"})
            return
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        self.close_connection = True
        with suppress(BrokenPipeError, ConnectionResetError):  # the client has left
            answer(self, body)

    def whole(self, status: int, content: Any, **headers: str) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("Connection", "close")
        for name, value in {"content_type": "application/json", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def begin_stream(self, kind: str = "text/event-stream") -> None:
        """Head of an answer whose length is not said."""
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Connection", "close")
        self.end_headers()

    def event(self, content: Any) -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        self.wfile.write(f"data: {text}\n\n".encode())
        self.wfile.flush()

    def cut(self) -> None:
        """Close the connection without ending the answer."""
        self.connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Faults:
    """Answers by path, each list used up to its last, which stays; and what came."""

    url: str
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    requests: list[tuple[str, dict[str, str], Any]] = field(default_factory=list)


@contextmanager
def fault_server() -> Iterator[Faults]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.faults = Faults(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server.faults
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def json_answer(content: Any, status: int = 200, **headers: str) -> Answer:
    return lambda handler, _: handler.whole(status, content, **headers)


def chunk(index: int, tokens: list[int], text: str, finish: str | None = None) -> dict[str, Any]:
    """One chunk in vLLM's form, with two log-probabilities for each token."""
    names = [f"token_id:{t}" for t in tokens]
    return {
        "choices": [
            {
                "index": index,
                "text": text,
                "token_ids": tokens,
                "finish_reason": finish,
                "logprobs": {
                    "tokens": names,
                    "token_logprobs": [-0.25] * len(tokens),
                    "top_logprobs": [{name: -0.25, "token_id:9": -1.5} for name in names],
                },
            }
        ]
    }


def tokens_answer(tokens: list[int]) -> Answer:
    """A whole and faultless stream of these tokens."""

    def answer(handler: Handler, _: Any) -> None:
        handler.begin_stream()
        for token in tokens:
            last = token is tokens[-1]
            handler.event(chunk(0, [token], f" {token}", "length" if last else None))
        handler.event("[DONE]")

    return answer


MODELS = json_answer({"data": [{"id": "m", "max_model_len": 64}]})
