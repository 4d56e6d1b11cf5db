"""The device ``server`` against a server that fails; a real one is in tests/engines."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from factories import fake_suite
from fault_server import MODELS, Answer, Faults, Handler, chunk, fault_server, json_answer

from harness.alignment.align import compare
from harness.devices.base import Completion, Device, Request
from harness.devices.fake import fake_subject
from harness.devices.server import http as server_http
from harness.devices.server.device import ServerDevice
from harness.errors import DeviceError, UsageError
from harness.model.model import Model
from harness.process.progress import Progress
from harness.recording.context import Context
from harness.recording.format import load_recording, save_recording
from harness.recording.recorder import Options, record

pytest.importorskip("httpx")

COMPLETIONS = "/v1/completions"
KEY = "sk-very-secret-key-0123456789"
TRIAL = (1, 2, 3)


class Notes(Progress):
    def __init__(self) -> None:
        super().__init__(live=False)
        self.lines: list[str] = []

    def _write(self, text: str) -> None:
        self.lines.append(text)


def answers(body: Any) -> list[int]:
    """Greedy tokens of a model that counts on from its prompt."""
    return [(body["prompt"][-1] + 1 + i) % 60 for i in range(body["max_tokens"])]


def well(handler: Handler, body: Any, *, one_each: bool = False) -> None:
    """As vLLM answers, prompt_logprobs excepted; ``one_each``: as a server that
    tells the chosen token's log-probability alone."""
    if not body["stream"]:
        handler.whole(400, {"error": {"message": "prompt_logprobs are not supported"}})
        return
    streamed(handler, body, alone if one_each else lambda _choice, _token: None)


def streamed(handler: Handler, body: Any, change: Callable[[Any, int], None]) -> None:
    """The tokens of an answer, each event's choice changed with its token."""
    handler.begin_stream()
    tokens = answers(body)
    for n, token in enumerate(tokens):
        told = chunk(0, [token], f" {token}", "length" if n == len(tokens) - 1 else None)
        change(told["choices"][0], token)
        handler.event(told)
    handler.event("[DONE]")


def alone(choice: Any, token: int) -> None:
    choice["logprobs"]["top_logprobs"] = [{f"token_id:{token}": -0.25}]


def without_ids(handler: Handler, body: Any) -> None:
    """As a server answers that names its tokens by their texts."""
    refused = {"top_k", "return_token_ids"} & set(body)
    if refused:
        handler.whole(400, {"error": {"message": f"unknown field {min(refused)}"}})
        return
    handler.begin_stream()
    for token in answers(body):
        handler.event({"choices": [{"text": f" {token}", "index": 0}]})
    handler.event({"choices": [{"text": "", "finish_reason": "length"}]})
    handler.event("[DONE]")


def with_ids_alone(handler: Handler, body: Any) -> None:
    """As SGLang answers: an id for each token, log-probabilities by the texts of tokens."""

    def by_text(choice: Any, token: int) -> None:
        choice["logprobs"] = {
            "tokens": [f" {token}"], "token_logprobs": [-0.25],
            "top_logprobs": [{f" {token}": -0.25, " 9": -1.5}],
        }  # fmt: skip

    streamed(handler, body, by_text)


def as_llama_cpp(handler: Handler, body: Any) -> None:
    """Ids stand with the log-probabilities, in the form of chat completions."""
    if not body["stream"]:
        handler.whole(400, {"error": {"message": "prompt_logprobs are not supported"}})
        return

    def by_content(choice: Any, token: int) -> None:
        del choice["token_ids"]
        tops = [{"id": token, "token": "x", "logprob": -0.25}, {"id": 9, "logprob": -1.5}]
        choice["logprobs"] = {
            "content": [{"id": token, "token": "x", "logprob": -0.25, "top_logprobs": tops}]
        }

    streamed(handler, body, by_content)


def then(faults: Faults, *after: Answer) -> None:
    """Answers of the completions endpoint once the device is open: three are
    for its trials, the last stays."""
    faults.answers[COMPLETIONS] = [well, well, well, *after]


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Iterator[Faults]:
    for name in server_http.KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    with fault_server() as server:
        server.answers = {
            "/v1/models": [MODELS],
            "/version": [json_answer({"version": "0.32.0"})],
            COMPLETIONS: [well],
        }
        yield server


def device(faults: Faults, progress: Progress | None = None, **args: str) -> ServerDevice:
    return ServerDevice(
        Model("m", "."),
        dtype="bfloat16",
        trial=TRIAL,
        vocab_size=64,
        max_positions=512,
        url=faults.url,
        engine_args=args,
        progress=progress,
    )


def request(name: str = "p", length: int = 4, **changes: Any) -> Request:
    return Request(name, (5, 6), "free", length, **changes)


def run(opened: ServerDevice, *requests: Request) -> list[Completion]:
    try:
        return list(opened.generate(requests or [request()]))
    finally:
        opened.close()


def open_(faults: Faults, **args: str) -> ServerDevice:
    made = device(faults, **args)
    made.open()
    return made


def test_it_is_a_device(faults: Faults) -> None:
    assert isinstance(device(faults), Device)
    with pytest.raises(DeviceError, match="is not open"):
        list(device(faults).generate([request()]))


def test_what_the_server_can_is_found_out_and_told(faults: Faults) -> None:
    opened = (made := device(faults)).open()
    made.close()
    assert opened.max_positions == 64
    assert opened.environment["server_version"] == "0.32.0"
    told = {
        "url": faults.url,
        "served_model": "m",
        "max_model_len": 64,
        "dtype_is": "taken on trust",
        "token_ids": "return_token_ids",
        "logprobs": 20,
        "rows": True,
        "forced_rows": "one request for each token",
        "neutral_fields": "all",
        "concurrency": 1,
        "timeout_s": 300.0,
    }
    assert opened.engine.told() == told
    assert opened.follow == "forced-prefill"


def test_a_request_is_greedy_in_every_field(faults: Faults) -> None:
    run(open_(faults), request(stop_token_ids=(0, 2)))
    body = faults.requests[-1][2]
    salts = [r[2].pop("cache_salt") for r in faults.requests if r[0] == COMPLETIONS]
    assert len(set(salts)) == len(salts) == 4
    assert body == {
        "model": "m",
        "prompt": [5, 6],
        "max_tokens": 4,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": -1,
        "min_p": 0.0,
        "n": 1,
        "seed": 0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "stream": True,
        "logprobs": 20,
        "ignore_eos": True,
        "stop_token_ids": [0, 2],
        "skip_special_tokens": False,
        "include_stop_str_in_output": True,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }


def test_tokens_rows_and_gaps_come_back(faults: Faults) -> None:
    [found] = run(open_(faults))
    assert (found.token_ids, found.stop, found.text) == ((7, 8, 9, 10), "length", None)
    assert found.rows is not None
    assert found.rows.top_ids[:, 0].tolist() == [7, 8, 9, 10]
    assert not found.rows.whole
    timings = found.timings
    assert len(timings.itl_s) == 3
    assert timings.e2e_s == pytest.approx(timings.ttft_s + sum(timings.itl_s))


ENDS: list[tuple[str | None, str, str | None]] = [
    ("stop", "eos", None),
    ("length", "length", None),
    ("abort", "abort", None),
    ("content_filter", "content_filter", None),
    ("tool_calls", "tool_calls", None),
    ("function_call", "function_call", None),
    ("error", "error", None),
    (None, "none", None),
    ("repetition\x1b[2J", "other", "repetition\\x1b[2J"),
    ("x" * 500, "other", "x" * 60),
]


@pytest.mark.parametrize(("word", "stop", "finish"), ENDS)
def test_an_end_is_recorded_as_the_server_tells_it(
    faults: Faults, tmp_path: Path, word: str | None, stop: str, finish: str | None
) -> None:
    """Also a null, where the server has ended its stream as it should."""
    notes = Notes()
    faults.answers[COMPLETIONS] = [sends(chunk(0, [7, 8], "x", word))]
    suite = fake_suite(prompts=2, tokens=4)
    made = record(device(faults, notes), narrow_subject(), suite, out=tmp_path / "a.json")
    again = load_recording(tmp_path / "a.json")
    assert again.model_dump() == made.model_dump()
    assert {(p.run.stop, p.run.finish) for p in again.prompts} == {(stop, finish)}
    told = [line for line in notes.lines if "so it is not a whole output" in line]
    assert len(told) == (0 if stop in ("eos", "length") else 2)
    [gate] = [g for g in compare(made, again).gates if g.name == "stops"]
    assert gate.status == "INCONCLUSIVE"


def test_an_end_of_a_text_is_recorded_too(faults: Faults) -> None:
    def filtered(handler: Handler, body: Any) -> None:
        handler.begin_stream()
        handler.event({"choices": [{"text": " a", "finish_reason": "content_filter"}]})
        handler.event("[DONE]")

    faults.answers[COMPLETIONS] = [filtered]
    made = record(device(faults), narrow_subject(), fake_suite(prompts=2, tokens=4))
    assert {p.run.stop for p in made.prompts} == {"content_filter"}
    assert made.text_only


def test_forced_tokens_are_one_request_each_without_prompt_logprobs(faults: Faults) -> None:
    opened = open_(faults)
    before = len(faults.requests)
    [found] = run(opened, Request("p", (5, 6), "forced-prefill", 3, forced_token_ids=(9, 9, 9)))
    assert (found.token_ids, found.stop) == ((9, 9, 9), "forced")
    assert [r[2]["prompt"] for r in faults.requests[before:]] == [[5, 6], [5, 6, 9], [5, 6, 9, 9]]
    assert found.rows is not None
    assert found.rows.top_ids[:, 0].tolist() == [7, 10, 10]


def test_what_no_server_can_do_is_refused(faults: Faults) -> None:
    with pytest.raises(UsageError, match="no server decodes tokens that it is given"):
        run(open_(faults), Request("p", (5,), "forced-decode", 1, forced_token_ids=(9,)))
    with pytest.raises(UsageError, match="no full logits"):
        run(open_(faults), request(keep="full"))
    with pytest.raises(DeviceError, match="server takes 64"):
        run(open_(faults), request(length=63))


# --- several requests at a time


def test_concurrent_requests_keep_their_answers(faults: Faults) -> None:
    together = threading.Barrier(3, timeout=5)

    def waiting(handler: Handler, body: Any) -> None:
        together.wait()
        well(handler, body)

    then(faults, waiting)
    requests = [Request(str(i), (5, 6 + i), "free", 4) for i in range(3)]
    found = {c.prompt_id: c.token_ids for c in run(open_(faults, concurrency="3"), *requests)}
    assert found == {str(i): tuple(range(7 + i, 11 + i)) for i in range(3)}


def test_one_failure_among_several_keeps_what_is_finished(faults: Faults) -> None:
    def fails_on_7(handler: Handler, body: Any) -> None:
        if body["prompt"][-1] == 7:
            handler.whole(500, {"error": {"message": "out of memory"}})
        else:
            well(handler, body)

    then(faults, fails_on_7)
    opened = open_(faults, concurrency="2")
    requests = [Request(str(i), (5, 5 + i), "free", 4) for i in range(3)]
    running = opened.generate(requests)
    found = [next(running).prompt_id, next(running).prompt_id]
    with pytest.raises(DeviceError, match=r"answered 500: out of memory \(prompt '2'\)"):
        next(running)
    opened.close()
    assert sorted(found) == ["0", "1"]


def test_a_caller_that_leaves_starts_nothing_more(faults: Faults) -> None:
    opened = open_(faults, concurrency="2")
    running = opened.generate([Request(str(i), (5, i), "free", 4) for i in range(40)])
    next(running)
    running.close()  # type: ignore[attr-defined]
    before = len(faults.requests)
    assert before < 20
    assert len(run(opened)) == 1
    assert len(faults.requests) == before + 1


def test_tokens_are_counted_from_every_thread(faults: Faults) -> None:
    calls: list[None] = []
    opened = open_(faults, concurrency="4")
    requests = [Request(str(i), (5, i), "free", 5) for i in range(8)]
    assert len(list(opened.generate(requests, lambda: calls.append(None)))) == 8
    opened.close()
    assert len(calls) == 40


# --- faults


def cut(handler: Handler, _: Any) -> None:
    handler.begin_stream()
    handler.event(chunk(0, [7], " 7"))
    handler.cut()


def breaks(text: str) -> Answer:
    def answer(handler: Handler, _: Any) -> None:
        handler.begin_stream()
        handler.event(chunk(0, [7], " 7"))
        handler.event(text)

    return answer


def sends(*chunks: Any) -> Answer:
    def answer(handler: Handler, _: Any) -> None:
        handler.begin_stream()
        for content in chunks:
            handler.event(content)
        handler.event("[DONE]")

    return answer


FAULTS: list[tuple[Answer, str]] = [
    (cut, "ended its stream after 1 tokens and said no reason"),
    (breaks("{"), "unreadable reply: the data is not JSON"),
    (breaks('{"error": {"message": "EngineDeadError"}}'),
     "the server reported an error: EngineDeadError"),
    (breaks("null"), "the data is not a JSON object"),
    (sends(chunk(0, [7, 8, 9, 10, 11], "x", "length")), "more tokens came than the 4 asked for"),
    (sends(chunk(0, [70], "x", "length")), "outside the vocabulary of 64: the server runs another"),
    (sends({"choices": [{"text": "x", "token_ids": [7], "finish_reason": "stop"}]}),
     "sent 0 rows of log-probabilities for 1 token"),
    (sends({"choices": [{"text": "", "finish_reason": "stop"}]}), "for 0 tokens"),
    (json_answer({"detail": "Unauthorized"}, 401), "HARNESS_API_KEY"),
    (json_answer({"error": {"message": "boom"}}, 500), "answered 500: boom"),
]  # fmt: skip


@pytest.mark.parametrize(("fault", "told"), FAULTS, ids=[told for _, told in FAULTS])
def test_a_fault_is_one_line_with_the_prompt(faults: Faults, fault: Answer, told: str) -> None:
    then(faults, fault)
    opened = open_(faults)
    with pytest.raises(DeviceError) as failed:
        run(opened)
    assert told in str(failed.value)
    assert "(prompt 'p')" in str(failed.value)
    assert "\n" not in str(failed.value)


def test_a_changed_prompt_is_refused(faults: Faults) -> None:
    content = chunk(0, [7], "x", "length")
    content["choices"][0]["prompt_token_ids"] = [1, *TRIAL]
    faults.answers[COMPLETIONS] = [sends(content)]
    with pytest.raises(DeviceError, match="changes the prompt: 3 token ids were sent and 4 taken"):
        open_(faults)


@pytest.mark.parametrize(
    ("models", "told"),
    [
        ({"data": []}, "has no model 'm' but none"),
        ({"data": [{"id": "a"}, {"id": "b"}]}, "has no model 'm' but a, b; name one with"),
        ({"data": 3}, "lists no models"),
        ([], "lists no models"),
    ],
)
def test_the_served_model_must_be_clear(faults: Faults, models: Any, told: str) -> None:
    faults.answers["/v1/models"] = [json_answer(models)]
    with pytest.raises(DeviceError, match=told):
        open_(faults)


def test_a_single_model_of_another_name_is_taken(faults: Faults) -> None:
    faults.answers["/v1/models"] = [json_answer({"data": [{"id": "other"}]})]
    faults.answers.pop("/version")
    opened = (made := device(faults)).open()
    made.close()
    assert (opened.engine.facts["served_model"], opened.max_positions) == ("other", 512)
    assert "server_version" not in opened.environment
    with pytest.raises(DeviceError, match="has no model 'third'"):
        open_(faults, served_model="third")


def test_fewer_log_probabilities_are_asked_for_where_20_are_refused(faults: Faults) -> None:
    def at_most_5(handler: Handler, body: Any) -> None:
        if body.get("logprobs", 0) > 5:
            handler.whole(400, {"error": {"message": "logprobs must be at most 5"}})
        else:
            well(handler, body)

    faults.answers[COMPLETIONS] = [at_most_5]
    opened = (made := device(faults)).open()
    made.close()
    assert (opened.engine.facts["logprobs"], opened.engine.facts["neutral_fields"]) == (5, "all")


def test_a_server_that_takes_no_request_says_why(faults: Faults) -> None:
    faults.answers[COMPLETIONS] = [json_answer({"error": {"message": "no token ids"}}, 400)]
    with pytest.raises(DeviceError, match="answered 400: no token ids"):
        open_(faults)


# --- a server that does not do as it is told


def answered(tokens: list[int], best: int) -> Answer:
    """Tokens of which the row says that another was likelier."""
    contents = [chunk(0, [t], f" {t}", "length" if t == tokens[-1] else None) for t in tokens]
    for content in contents:
        [top] = content["choices"][0]["logprobs"]["top_logprobs"]
        top[f"token_id:{best}"] = -0.125
    return sends(*contents)


def test_sampling_is_detected_at_open_and_recorded(faults: Faults) -> None:
    faults.answers[COMPLETIONS] = [answered([20, 21], best=30)]
    notes = Notes()
    opened = (made := device(faults, notes)).open()
    made.close()
    assert "samples, penalizes or masks despite the request" in str(opened.engine.warning)
    assert any("server: warning: " in line for line in notes.lines)


def test_two_answers_to_one_question_are_detected(faults: Faults) -> None:
    one, other = (sends(chunk(0, [t], f" {t}", "length")) for t in (7, 8))
    faults.answers[COMPLETIONS] = [one, other, well]
    opened = (made := device(faults)).open()
    made.close()
    assert "got different answers" in str(opened.engine.warning)


def test_tokens_against_their_row_are_noted_with_their_prompt(faults: Faults) -> None:
    then(faults, answered([20, 21], best=30))
    notes = Notes()
    made = device(faults, notes)
    made.open()
    run(made)
    assert any("2 of 2 tokens of prompt p are not the likeliest" in line for line in notes.lines)


# --- recordings


def recorded(faults: Faults, out: Path, **args: str) -> None:
    suite = fake_suite(prompts=3, tokens=4)
    record(device(faults, **args), narrow_subject(), suite, Options(repeats=1), out=out)


def narrow_subject() -> Any:
    from dataclasses import replace

    subject = fake_subject()
    facts = subject.facts.model_copy(update={"vocab_size": 64})
    return replace(subject, facts=facts)


def test_one_log_probability_a_token_is_no_row_to_judge(faults: Faults) -> None:
    """Its rival would be taken to lie where the chosen token does."""
    faults.answers[COMPLETIONS] = [partial(well, one_each=True)]
    notes = Notes()
    opened = device(faults, progress=notes)
    opened.open()
    opened.close()
    assert any("no token ids with two or more log-probabilities" in n for n in notes.lines)


def test_a_server_without_ids_leaves_a_recording_of_texts(faults: Faults, tmp_path: Path) -> None:
    faults.answers[COMPLETIONS] = [without_ids]
    recorded(faults, tmp_path / "a.json")
    made = load_recording(tmp_path / "a.json")
    assert made.text_only
    assert made.engine.facts["token_ids"] == "none: text only"
    assert made.engine.facts["neutral_fields"] == "OpenAI's only"
    assert made.prompts[1].run.text == " 8 9 10 11"
    assert len(made.prompts[0].run.timings.itl_s) == 3
    assert made.repeats == ()


def test_ids_without_log_probabilities_are_kept_beside_the_texts(
    faults: Faults, tmp_path: Path
) -> None:
    faults.answers[COMPLETIONS] = [with_ids_alone]
    recorded(faults, tmp_path / "a.json")
    made = load_recording(tmp_path / "a.json")
    assert made.text_only
    assert made.engine.facts["token_ids"] == "return_token_ids"
    assert made.engine.facts["rows"] is False
    assert made.prompts[1].run.token_ids == (8, 9, 10, 11)
    assert made.prompts[1].run.text == " 8 9 10 11"
    assert not len(made.prompts[1].run.rows)
    # There are tokens to follow, on a device that has rows.
    assert Context.of(made).tokens["p1"][1] == (8, 9, 10, 11)


def test_llama_cpps_ids_and_log_probabilities_are_rows(faults: Faults, tmp_path: Path) -> None:
    faults.answers[COMPLETIONS] = [as_llama_cpp]
    recorded(faults, tmp_path / "a.json")
    made = load_recording(tmp_path / "a.json")
    assert not made.text_only
    assert made.prompts[1].run.token_ids == (8, 9, 10, 11)
    assert made.prompts[1].run.rows.top_ids[0, :2].tolist() == [8, 9]


def test_texts_are_not_replayed_on_a_context(faults: Faults) -> None:
    faults.answers[COMPLETIONS] = [without_ids]
    suite = fake_suite(prompts=1, tokens=4)
    context = Context("x", {"p0": ((5, 6), (1, 2, 3, 4))})
    made = record(device(faults), narrow_subject(), suite, Options(context=context))
    assert made.prompts[0].forced is None
    with pytest.raises(DeviceError, match="gives no log-probabilities by token id"):
        record(device(faults), narrow_subject(), suite, Options("forced-prefill", context))


def test_diverged_prompts_are_followed_by_prefill(faults: Faults) -> None:
    suite = fake_suite(prompts=2, tokens=4)
    context = Context("x", {"p0": ((5, 6), (7, 8, 9, 10)), "p1": ((5, 7), (1, 2, 3, 4))})
    made = record(device(faults), narrow_subject(), suite, Options(context=context))
    assert made.prompts[0].forced is None
    assert made.prompts[1].forced is not None
    assert made.prompts[1].forced.replay == "forced-prefill"
    assert made.prompts[1].forced.choices() == (8, 2, 3, 4)


def test_the_key_is_in_no_file_note_or_error(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HARNESS_API_KEY", KEY)
    recorded(faults, tmp_path / "a.json")
    assert {r[1].get("Authorization") for r in faults.requests} == {f"Bearer {KEY}"}
    save_recording(load_recording(tmp_path / "a.json"), tmp_path / "b.json")
    then(faults, well, json_answer({"error": {"message": f"key {KEY} is over its limit"}}, 403))
    notes = Notes()
    suite = fake_suite(prompts=3, tokens=4)
    with pytest.raises(DeviceError) as failed:
        record(device(faults, notes), narrow_subject(), suite, out=tmp_path / "c.json")
    assert "key [key] is over its limit" in str(failed.value)
    assert (tmp_path / "c.json.partial").exists()
    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    for text in (written.decode(), str(failed.value), *notes.lines):
        assert KEY not in text


@pytest.mark.parametrize("piece", [len(KEY), 5])
def test_the_key_is_in_no_text_and_no_ending(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece: int
) -> None:
    """Of a server without token ids, whole or in pieces, and as its word for an end."""
    monkeypatch.setenv("HARNESS_API_KEY", KEY)

    def answer(handler: Handler, _: Any) -> None:
        handler.begin_stream()
        for at in range(0, len(KEY), piece):
            handler.event({"choices": [{"text": KEY[at : at + piece], "index": 0}]})
        handler.event({"choices": [{"text": "", "finish_reason": KEY}]})
        handler.event("[DONE]")

    faults.answers[COMPLETIONS] = [answer]
    notes = Notes()
    suite = fake_suite(prompts=1, tokens=20)
    record(device(faults, notes), narrow_subject(), suite, out=tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text()
    assert KEY not in text + "".join(notes.lines)
    assert "[key]" in text


@pytest.mark.parametrize("word", ["1", "id", "token"])
def test_a_placeholder_for_a_key_changes_no_answer(
    faults: Faults, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, word: str
) -> None:
    monkeypatch.setenv("HARNESS_API_KEY", word)
    recorded(faults, tmp_path / "a.json")
    made = load_recording(tmp_path / "a.json")
    assert not made.text_only
    assert "[key]" not in (tmp_path / "a.json").read_text()


def test_a_server_that_dies_leaves_finished_prompts_to_go_on_from(
    faults: Faults, tmp_path: Path
) -> None:
    then(faults, well, cut)
    with pytest.raises(DeviceError, match="said no reason"):
        recorded(faults, tmp_path / "a.json")
    faults.answers[COMPLETIONS] = [well]
    before = len(faults.requests)
    recorded(faults, tmp_path / "a.json")
    asked = [tuple(r[2]["prompt"]) for r in faults.requests[before:] if r[0] == COMPLETIONS]
    assert asked[3:] == [(5, 7), (5, 8), (5, 6)]  # p0 was kept; the last is its repeat
    assert json.loads((tmp_path / "a.json").read_text())["device"] == "server"
