"""The device ``server`` against a real vLLM server on this machine's loopback."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.alignment.texts import plain
from harness.api import compare, record
from harness.devices.base import Completion, Request
from harness.devices.registry import open_target
from harness.devices.server.device import ServerDevice
from harness.devices.server.dialect import Dialect
from harness.devices.spec import DeviceSpec
from harness.errors import DeviceError
from harness.model.model import Model
from harness.model.tokenizer import open_tokenizer
from harness.recording.context import Context
from harness.recording.format import Recording, load_recording
from harness.recording.recorder import Options
from harness.recording.recorder import record as record_on
from harness.suite.read import load_suite

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]
for package in ("vllm", "httpx"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

ROOT = Path(__file__).parents[2]
PORT = ROOT / "baselines/smollm2/port/bfloat16"
REFERENCE = PORT / "reference.json"
#: Left alone, vLLM's server takes fewer threads than its offline engine, and
#: its attention over more than 96 tokens other bits.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
KEY = "sk-very-secret-key-0123456789"
N = 24


@dataclass
class Marked:
    """A command whose processes, and theirs, are found again: by a variable of
    their environment, and, since vLLM's write their names over that, by the
    sessions in which such processes were seen."""

    mark: str
    process: subprocess.Popen[str]
    sessions: set[str] = field(default_factory=set)

    def left(self) -> list[str]:
        """Number and command line of those that live."""
        living: dict[str, tuple[str, str]] = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                environment = (folder / "environ").read_bytes()
                line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
                state, _, _, session = (folder / "stat").read_text().rpartition(")")[2].split()[:4]
            except OSError:
                continue  # it ended meanwhile, or is not ours to look at
            if state != "Z":
                living[folder.name] = session, line
                if f"HARNESS_TEST={self.mark}".encode() in environment:
                    self.sessions.add(session)
        return [f"{i}: {line}" for i, (at, line) in living.items() if at in self.sessions]

    def all_gone(self, seconds: float = 40.0) -> bool:
        deadline = time.monotonic() + seconds
        while self.left() and time.monotonic() < deadline:
            time.sleep(0.1)
        return not self.left()


def start(*arguments: str, **environment: str) -> Marked:
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        env={**os.environ, **ENVIRONMENT, **environment, "HARNESS_TEST": mark},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        # A shell that runs this in the background has it ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    )
    return Marked(mark, process)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """``harness serve``, ended by SIGTERM: nothing of it may stay behind."""
    served = start("serve", "--engine-arg", "max_model_len=2048")
    assert served.process.stdout is not None
    assert served.process.stderr is not None
    # Unread, a full pipe would halt it.
    said: list[str] = []
    reader = threading.Thread(target=lambda: said.extend(served.process.stderr or ()), daemon=True)
    reader.start()
    address = served.process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", address), "".join(said)
    yield address
    assert any("EngineCore" in line for line in served.left())
    served.process.send_signal(signal.SIGTERM)
    assert served.process.wait(60) == 0
    reader.join()
    served.process.stdout.close()
    served.process.stderr.close()
    assert "stopped" in said[-1]
    assert served.all_gone(), served.left()


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """What the offline engine says of the suite ``port``; a process of its own,
    since the engine changes the one that it runs in."""
    out = tmp_path_factory.mktemp("offline") / "a.json"
    ran = start("record", "--device", "vllm-cpu", "--suite", "port", "--out", str(out))
    _, said = ran.process.communicate(timeout=300)
    assert ran.process.returncode == 0, said
    return load_recording(out)


@pytest.fixture(scope="module")
def told(url: str) -> Recording:
    """The suite ``port`` from the server, prompts that diverged from the
    committed baseline replayed on it."""
    return record("server", suite="port", server_url=url, context=load_recording(REFERENCE))


def open_device(url: str, **args: str) -> ServerDevice:
    device = open_target(DeviceSpec("server", server_url=url, engine_args=args)).device
    assert isinstance(device, ServerDevice)
    device.open()
    return device


@pytest.fixture(scope="module")
def device(url: str) -> Iterator[ServerDevice]:
    device = open_device(url)
    yield device
    device.close()


@pytest.fixture(scope="module")
def request_(embedded_model: Model) -> Request:
    prompt = open_tokenizer(embedded_model).encode("Once upon a time there was a")
    return Request("p", prompt, "free", N)


def run(device: ServerDevice, request: Request) -> Completion:
    [completion] = device.generate([request])
    return completion


def test_tokens_are_those_of_the_offline_engine(told: Recording, offline: Recording) -> None:
    assert [p.id for p in told.prompts] == [p.id for p in offline.prompts]
    for mine, theirs in zip(told.prompts, offline.prompts, strict=True):
        assert mine.free is not None
        assert mine.free.token_ids == theirs.run.token_ids
        assert mine.free.text == theirs.run.text
        assert mine.free.stop == theirs.run.stop


def test_log_probabilities_are_the_offline_engines(told: Recording, offline: Recording) -> None:
    """Its logits less their logsumexp, in float32; where the number of threads
    cannot matter."""
    for mine, theirs in zip(told.prompts, offline.prompts, strict=True):
        assert mine.free is not None
        a, b = mine.free.rows[:64], theirs.run.rows[:64]
        assert not a.whole
        assert b.whole
        wanted = b.top_logits - b.logsumexp[:, None]
        assert a.top_logits == pytest.approx(wanted, abs=1e-4)
        # Of equal ones at the edge of the 20 the server keeps any.
        ties = b.top_logits == b.top_logits[:, -1:]
        assert ((a.top_ids == b.top_ids) | ties).mean() > 0.999


def test_what_it_can_is_recorded(told: Recording, url: str) -> None:
    engine = told.engine.facts
    assert engine["url"] == url
    assert (engine["token_ids"], engine["logprobs"]) == ("return_token_ids", 20)
    assert (engine["forced_rows"], engine["neutral_fields"]) == ("prompt_logprobs", "all")
    assert engine["max_model_len"] == 2048
    assert "warning" not in engine
    assert "." in str(told.environment["server_version"])
    assert (told.model.weights, told.model.config, told.model.tokenizer) == (None, None, None)


def test_it_holds_against_the_committed_baseline(told: Recording) -> None:
    found = compare(told, PORT)
    gates = {g.name: g for g in found.gates}
    assert gates["coverage"].status == "PASS"
    assert gates["point_guard"].status == "PASS"
    assert gates["error_ratio"].status == "NOT_RUN"
    assert gates["top_k_error_ratio"].value == pytest.approx(1.0, abs=0.2)
    assert found.verdict in ("EQUIVALENT", "INCONCLUSIVE")
    assert any(p.forced is not None for p in told.prompts)
    assert {p.forced.replay for p in told.prompts if p.forced} == {"forced-prefill"}


def test_ids_from_the_names_of_the_log_probabilities_are_the_same(
    url: str, device: ServerDevice, request_: Request
) -> None:
    other = open_device(url, token_ids="logprobs")
    assert other._dialect is not None
    assert other._dialect.ids == "logprobs"
    a, b = run(device, request_), run(other, request_)
    other.close()
    assert a.token_ids == b.token_ids
    assert a.rows is not None
    assert b.rows is not None
    assert np.array_equal(a.rows.top_logits, b.rows.top_logits)


def test_without_token_ids_there_are_texts_and_no_verdict(
    url: str, offline: Recording, tmp_path: Path
) -> None:
    texts = record(
        "server",
        suite="port",
        server_url=url,
        engine_args={"token_ids": "none"},
        out=tmp_path / "texts.json",
    )
    assert load_recording(tmp_path / "texts.json").text_only
    assert texts.engine.facts["token_ids"] == "none: text only"
    for mine, theirs in zip(texts.prompts, offline.prompts, strict=True):
        assert mine.run.text_only
        assert plain(mine.run.text) == plain(theirs.run.text)
        assert (mine.run.stop, mine.run.token_ids) == (theirs.run.stop, ())
    found = compare(texts, offline)
    assert found.verdict == "INCONCLUSIVE"
    assert "4 of 4 are equal" in found.sentence
    against = compare(texts, PORT)
    assert against.verdict == "INCONCLUSIVE"
    assert "different: " in against.sentence


def test_every_gap_is_timed(told: Recording) -> None:
    for prompt in told.prompts:
        assert prompt.free is not None
        timings = prompt.free.timings
        assert len(timings.itl_s) == len(prompt.free.token_ids) - 1
        assert timings.ttft_s > 0
        assert timings.e2e_s == pytest.approx(timings.ttft_s + sum(timings.itl_s), abs=1e-3)
        # Streamed one by one: gaps, not one lump at the end.
        assert np.count_nonzero(timings.itl_s) > 0.8 * len(timings.itl_s)


def nearest(a: Completion, b: Completion) -> float:
    """The largest difference of the best log-probability at any position."""
    assert a.rows is not None
    assert b.rows is not None
    return float(np.abs(a.rows.top_logits[:, 0] - b.rows.top_logits[:, 0]).max())


def test_forced_rows_come_in_one_pass_and_one_by_one_alike(
    device: ServerDevice, request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = run(device, request_)
    forced = Request(
        "p", request_.prompt_token_ids, "forced-prefill", N, forced_token_ids=free.token_ids
    )
    at_once = run(device, forced)
    assert device._dialect is not None
    singly = Dialect(**{**vars(device._dialect), "prompt_logprobs": False})
    monkeypatch.setattr(device, "_dialect", singly)
    one_by_one = run(device, forced)
    assert at_once.token_ids == one_by_one.token_ids == free.token_ids
    assert at_once.rows is not None
    assert len(at_once.rows) == N
    assert nearest(at_once, free) < 0.3
    assert nearest(one_by_one, free) < 0.3
    shifted = Completion("p", (), "forced", at_once.rows[1:], at_once.timings)
    before = Completion("p", (), "forced", (free.rows or at_once.rows)[:-1], free.timings)
    assert nearest(shifted, before) > 0.5  # rows of other positions are not near


def test_other_tokens_are_followed_where_they_lead(device: ServerDevice, request_: Request) -> None:
    prompt = request_.prompt_token_ids
    followed = run(
        device, Request("p", prompt, "forced-prefill", 3, forced_token_ids=(100, 200, 300))
    )
    direct = run(device, Request("q", (*prompt, 100, 200), "free", 1))
    assert followed.rows is not None
    assert direct.rows is not None
    assert followed.rows.top_ids[2, 0] == direct.rows.top_ids[0, 0]
    assert followed.rows.top_logits[2, :5] == pytest.approx(direct.rows.top_logits[0, :5], abs=0.3)


def test_several_requests_at_a_time_keep_their_answers(url: str, told: Recording) -> None:
    """A batch takes other kernels, so later tokens may differ; the first ones, and
    the rows behind them, are each prompt's own."""
    together = record(
        "server", suite="port", server_url=url, max_new_tokens=8, engine_args={"concurrency": "4"}
    )
    assert together.engine.facts["concurrency"] == 4
    for mine, theirs in zip(together.prompts, told.prompts, strict=True):
        assert theirs.free is not None
        assert mine.run.token_ids[:2] == theirs.free.token_ids[:2]
        a, b = mine.run.rows.top_logits[0, :5], theirs.free.rows.top_logits[0, :5]
        assert a == pytest.approx(b, abs=0.5)


def test_a_server_that_samples_is_detected(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real sampler: the request is what is tampered with, on its way."""
    greedy = Dialect.body

    def hot(self: Dialect, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return greedy(self, *args, **kwargs) | {"temperature": 2.0, "seed": 5}

    monkeypatch.setattr(Dialect, "body", hot)
    made = record("server", suite="port", server_url=url, max_new_tokens=4)
    assert "samples, penalizes or masks" in str(made.engine.warning)
    assert any("samples, penalizes" in w for w in compare(made, made).warnings)


def test_a_server_that_penalizes_is_divergent(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log-probabilities are those before the penalty: they do not lead to its tokens."""
    greedy = Dialect.body

    def penalized(self: Dialect, *args: Any, **kwargs: Any) -> dict[str, Any]:
        return greedy(self, *args, **kwargs) | {"repetition_penalty": 1.5}

    monkeypatch.setattr(Dialect, "body", penalized)
    target = open_target(DeviceSpec("server", server_url=url))
    context = Context.of(load_recording(REFERENCE))
    options = Options(context=context, prompt_ids=frozenset({"capital"}))
    made = record_on(target.device, target.subject, load_suite("port"), options)
    assert compare(made, PORT).verdict == "DIVERGENT"


def test_the_key_is_in_nothing_that_is_written(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    out = tmp_path / "a.json"
    arguments = ["record", "--device", "server", "--server-url", url, "--suite", "port"]
    ran = start(*arguments, "--max-new-tokens", "2", "--out", str(out), OPENAI_API_KEY=KEY)
    said = "".join(ran.process.communicate(timeout=120))
    assert ran.process.returncode == 0, said
    judged = start("compare", str(out), str(PORT), "--report", str(tmp_path / "a.html"),
                   "--json", str(tmp_path / "b.json"), OPENAI_API_KEY=KEY)  # fmt: skip
    said += "".join(judged.process.communicate(timeout=60))
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert len(list(tmp_path.iterdir())) == 3
    assert KEY not in said
    assert KEY.encode() not in written


def test_a_model_that_the_server_has_not_is_named(url: str) -> None:
    with pytest.raises(DeviceError, match="has no model 'other' but smollm2"):
        open_device(url, served_model="other")


def test_a_request_beyond_the_servers_context_is_refused(
    device: ServerDevice, request_: Request
) -> None:
    with pytest.raises(DeviceError, match="server takes 2048"):
        run(device, Request("p", request_.prompt_token_ids, "free", 2048))


# --- servers of our own


def recording_process(out: Path, *arguments: str) -> Marked:
    return start(
        *("record", "--device", "server", "--suite", "mixed", "--out", str(out)),
        *("--engine-arg", "max_model_len=2048", *arguments),
    )


def until_a_prompt_is_kept(out: Path, made: Marked) -> None:
    journal = out.with_name(out.name + ".partial")
    deadline = time.monotonic() + 240
    while not journal.exists() or journal.read_bytes().count(b"\n") < 2:
        assert made.process.poll() is None, made.process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_killing_the_server_in_the_middle_is_one_line_and_keeps_prompts(tmp_path: Path) -> None:
    out = tmp_path / "a.json"
    made = recording_process(out)
    until_a_prompt_is_kept(out, made)
    [engine] = [int(line.split(":")[0]) for line in made.left() if "EngineCore" in line]
    os.kill(engine, signal.SIGKILL)
    _, said = made.process.communicate(timeout=120)
    assert made.process.returncode == 2
    errors = [line for line in said.splitlines() if line.startswith("harness: error: ")]
    assert len(errors) == 1, said
    assert "Traceback" not in said
    assert "(prompt '" in errors[0]
    assert out.with_name("a.json.partial").read_bytes().count(b"\n") >= 2
    assert made.all_gone(), made.left()


@pytest.mark.slow
@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.nightly)]
)
def test_killing_the_harness_leaves_no_process(tmp_path: Path, number: int) -> None:
    out = tmp_path / "a.json"
    made = recording_process(out)
    until_a_prompt_is_kept(out, made)
    assert len(made.left()) > 2
    ended_by(number, made)


def test_ending_the_harness_while_the_server_starts_leaves_no_process(tmp_path: Path) -> None:
    made = recording_process(tmp_path / "a.json")
    deadline = time.monotonic() + 120
    while len(made.left()) < 2:
        assert made.process.poll() is None, made.process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    ended_by(signal.SIGTERM, made)


def ended_by(number: int, made: Marked) -> None:
    made.process.send_signal(number)
    made.process.communicate(timeout=60)
    assert made.process.returncode != 0
    assert made.all_gone(), made.left()


@pytest.mark.slow
def test_a_server_that_does_not_start_is_one_line(tmp_path: Path) -> None:
    made = recording_process(tmp_path / "a.json", "--engine-arg", "max_num_batched_tokens=-5")
    _, said = made.process.communicate(timeout=240)
    assert made.process.returncode == 2
    errors = [line for line in said.splitlines() if line.startswith("harness: error: ")]
    assert len(errors) == 1, said
    assert "vllm serve does not start with the model 'smollm2'" in errors[0]
    assert "max_num_batched_tokens" in errors[0]
    assert made.all_gone(), made.left()
