"""A server's counters, and what the generator says of a load."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from fault_server import Handler, fault_server

from harness.bench.load import Load, run_load
from harness.bench.result import LoadTimes
from harness.devices.server.metrics import parse_counters, server_counters
from harness.errors import DeviceError, MissingDependency, UsageError

Command = Callable[..., Any]
PAGE = """\
# HELP vllm:request_success_total Count of successfully processed requests.
# TYPE vllm:request_success_total counter
vllm:request_success_total{engine="0",finished_reason="stop",model_name="m"} 2.0
vllm:request_success_total{engine="0",finished_reason="length",model_name="m"} 199.0
vllm:request_success_created{engine="0"} 1.7e+09
vllm:generation_tokens_total{engine="0",model_name="m"} 6432.0
vllm:prompt_tokens_total{engine="0",model_name="m"} 25728.0
"""


def times(**changes: Any) -> LoadTimes:
    fields: dict[str, Any] = {
        "rate": None,
        "concurrency": 16,
        "requests": 200,
        "completed": 200,
        "prompt_tokens": 25600,
        "output_tokens": 6400,
        "errors": 0,
        "first_error": None,
        "wall_ns": 10**10,
        "ttft_ns": (),
        "itl_ns": (),
        "server": {"requests": 201, "output_tokens": 6432},
    }
    return LoadTimes(**(fields | changes))


@pytest.fixture
def page() -> Iterator[str]:
    """A server that knows its metrics page and nothing else."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(PAGE.encode())

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_counters_are_summed_over_their_labels() -> None:
    assert parse_counters(PAGE) == {
        "requests": 201,
        "output_tokens": 6432,
        "prompt_tokens": 25728,
    }
    assert parse_counters("no metrics\n") == {}


def test_a_metrics_page_is_read_without_a_proxy(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert server_counters(page + "/v1")["requests"] == 201
    assert server_counters("http://127.0.0.1:9") == {}


@pytest.mark.parametrize(
    ("server", "agree"),
    [
        ({"requests": 201, "output_tokens": 6432}, True),  # with the generator's trial
        ({"requests": 200, "output_tokens": 6400}, True),
        ({"requests": 200, "output_tokens": 6399}, False),
        ({"requests": 198, "output_tokens": 6336}, False),
        ({}, None),
    ],
)
def test_lost_requests_show_in_the_servers_counters(
    server: dict[str, int], agree: bool | None
) -> None:
    assert times(server=server).counters_agree is agree


def test_an_environment_without_the_generator_is_one_line() -> None:
    with pytest.raises(MissingDependency, match="--load-python"):
        run_load(Load("http://127.0.0.1:9", "m", python=sys.executable))


def test_a_generator_that_ends_without_a_result_is_named(tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho 'ValueError: no such thing' >&2\nexit 3\n")
    broken.chmod(0o755)
    with pytest.raises(DeviceError, match="ended with status 3: ValueError: no such thing"):
        run_load(Load("http://127.0.0.1:9", "m", python=str(broken)))


@pytest.mark.parametrize(
    "url", ["ftp://x", "127.0.0.1:8000", "http://", "http://[::1", "http://a b"]
)
def test_what_is_no_address_is_refused(command: Command, url: str) -> None:
    with pytest.raises(UsageError, match="--server-url must be http://HOST:PORT"):
        run_load(Load(url, "m"))
    ended = command("bench-load", "--server-url", url)
    assert ended.status == 2
    assert ended.error.startswith("--server-url must be http://HOST:PORT")


def test_a_password_in_the_address_is_refused_and_not_shown(command: Command) -> None:
    ended = command("bench-load", "--server-url", "http://u:secret@x")
    assert ended.status == 2
    assert "--server-url holds a user or password" in ended.error
    assert "secret" not in ended.err


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--rates", "0,x"), "--rates '0,x': give numbers above 0"),
        (("--rates", "1,nan"), "--rates '1,nan': give numbers above 0"),
        (("--rates", "1,,2"), "--rates '1,,2': give numbers above 0"),
        (("--concurrencies", "0,x"), "--concurrencies '0,x': give whole numbers from 1"),
        (("--concurrencies", "inf"), "--concurrencies 'inf': give whole numbers from 1"),
        (("--concurrencies", "0.5"), "--concurrencies '0.5': give whole numbers from 1"),
        (("--out", "s.yaml"), "--out s.yaml: is not a bench and would be overwritten"),
        (("--out", "."), ".: cannot be written (Is a directory)"),
    ],
)
def test_options_of_a_load_are_checked(
    command: Command, options: tuple[str, ...], problem: str
) -> None:
    ended = command("bench-load", "--server-url", "http://127.0.0.1:9", *options)
    assert ended.status == 2
    assert problem in ended.error


@pytest.mark.parametrize("python", ["/nonexist", "/"])
def test_an_interpreter_that_does_not_start_is_one_line(command: Command, python: str) -> None:
    there = ("--server-url", "http://127.0.0.1:9", "--served-model", "m")
    ended = command("bench-load", *there, "--load-python", python)
    assert ended.status == 2
    assert ended.error.startswith(f"--load-python {python}: cannot be run (")


def _model(folder: Path) -> Path:
    """A folder that is found as a model; it has no weight."""
    made = folder / "port"
    made.mkdir()
    (made / "config.json").write_text("{}", "utf-8")
    (made / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    return made


@pytest.mark.parametrize(
    ("listed", "asked"),
    [
        (["port"], "port"),
        (["/models/of/another/name"], "/models/of/another/name"),
        (["a", "port", "b"], "port"),
    ],
)
def test_requests_name_the_model_as_the_server_does(
    command: Command, tmp_path: Path, listed: list[str], asked: str
) -> None:
    pytest.importorskip("httpx")
    folder = _model(tmp_path)
    generator = tmp_path / "python"
    generator.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\nexit 3\n')
    generator.chmod(0o755)
    with fault_server() as server:
        models = json.dumps({"data": [{"id": name} for name in listed]}).encode()
        server.answers["/v1/models"] = [lambda h, _: h.whole(200, models)]
        there = ("--server-url", server.url, "--model", folder)
        command("bench-load", *there, "--load-python", generator)
    assert f"--served-model-name {asked} " in (tmp_path / "said").read_text()


def test_a_server_of_several_other_models_is_asked_no_request(
    command: Command, tmp_path: Path
) -> None:
    pytest.importorskip("httpx")
    with fault_server() as server:
        models = json.dumps({"data": [{"id": "a"}, {"id": "b"}]}).encode()
        server.answers["/v1/models"] = [lambda h, _: h.whole(200, models)]
        ended = command("bench-load", "--server-url", server.url, "--model", _model(tmp_path))
    assert ended.status == 2
    assert "but a, b; name one with --served-model NAME" in ended.error


@pytest.mark.parametrize("value", ["NaN", "+Inf", "x"])
def test_a_counter_that_is_no_number_is_left_out(value: str) -> None:
    text = PAGE.replace(" 6432.0", f" {value}")
    assert parse_counters(text) == {"requests": 201, "prompt_tokens": 25728}


def test_a_metrics_page_is_not_sought_elsewhere() -> None:
    with fault_server() as other, fault_server() as server:
        there = f"{other.url}/metrics"
        other.answers["/metrics"] = [lambda h, _: h.whole(200, PAGE.encode())]
        assert server_counters(other.url)["requests"] == 201
        server.answers["/metrics"] = [lambda h, _: h.whole(302, b"", location=there)]
        asked = len(other.requests)
        assert server_counters(server.url) == {}
        assert len(other.requests) == asked


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_metrics_page_that_drips_is_left(head: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.devices.server.metrics._METRICS_S", 0.2)

    def drip(handler: Handler, _: object) -> None:
        handler.wfile.write(head or b"HTTP/1.1 200 OK\r\nX: ")
        for _byte in range(300):
            handler.wfile.write(b"#")
            handler.wfile.flush()
            time.sleep(0.01)

    with fault_server() as server:
        server.answers["/metrics"] = [drip]
        begun = time.monotonic()
        assert server_counters(server.url) == {}
        assert time.monotonic() - begun < 2.5
