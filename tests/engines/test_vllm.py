"""The real vLLM engine on the CPU."""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.devices.base import Completion, Device, Request, Sampling
from harness.devices.vllm.device import VllmDevice
from harness.errors import DeviceError, UsageError
from harness.model.model import Model
from harness.model.tokenizer import open_tokenizer
from harness.recording.format import load_recording
from harness.statistics.rows import row_statistics, squared_norm

pytestmark = [
    pytest.mark.engine,
    # vLLM's own warnings, and sockets that it leaves to the garbage collector.
    pytest.mark.filterwarnings("ignore"),
]
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)

N = 12
TEXTS = (
    "The capital of France is",
    "def fibonacci(n):",
    "Once upon a time there was a small",
    "1, 2, 3, 4,",
    "Water boils at",
    "The three primary colours are red, blue and",
)


def run(device: VllmDevice, request: Request) -> Completion:
    [completion] = device.generate([request])
    return completion


def rows_equal(a: Completion, b: Completion) -> bool:
    assert a.rows is not None
    assert b.rows is not None
    return np.array_equal(a.rows.digest, b.rows.digest)


@pytest.fixture(scope="module")
def device(embedded_model: Model) -> Iterator[VllmDevice]:
    # The two arguments let a test ask vLLM itself for raw logits; they change none.
    args = {"max_logprobs": "-1", "logprobs_mode": "raw_logits", "max_model_len": "2k"}
    device = VllmDevice("vllm-cpu", embedded_model, batch_size=4, engine_args=args)
    opened = device.open()
    assert (opened.vocab_size, opened.max_positions) == (49152, 2000)
    assert (opened.engine.batch_size, opened.engine.prefix_caching) == (4, False)
    assert opened.engine.facts["asked.max_model_len"] == "2k"
    assert opened.load.weights_bytes == 2 * 134_515_008
    assert opened.load.kv_cache_tokens > 2000
    # 30 layers, 3 heads of 64, keys and values, 2 bytes each
    assert opened.load.kv_cache_bytes == opened.load.kv_cache_tokens * 30 * 3 * 64 * 2 * 2
    assert 0 < opened.load.weights_s < opened.load.load_s
    assert 0 < opened.load.init_engine_s < opened.load.load_s
    assert opened.engine.enforce_eager
    assert opened.load.compile_s is None
    import torch  # after the device, which sets variables before

    assert opened.engine.instruction_set == torch.backends.cpu.get_cpu_capability()
    yield device
    device.close()


@pytest.fixture(scope="module")
def requests(embedded_model: Model) -> list[Request]:
    """Six requests of staggered lengths."""
    tokenizer = open_tokenizer(embedded_model)
    return [
        Request(str(i), tokenizer.encode(text), "free", N - 2 * i + 4 * (i == 5), keep="full")
        for i, text in enumerate(TEXTS)
    ]


@pytest.fixture(scope="module")
def alone(device: VllmDevice, requests: list[Request]) -> list[Completion]:
    """Each of the requests by itself."""
    return [run(device, request) for request in requests]


def test_it_is_a_device(device: VllmDevice) -> None:
    assert isinstance(device, Device)


def test_free_takes_the_largest_logit_of_every_row(alone: list[Completion]) -> None:
    for completion in alone:
        assert completion.rows is not None
        assert completion.logits is not None
        chosen = completion.logits[np.arange(len(completion.token_ids)), completion.token_ids]
        assert np.array_equal(chosen, completion.rows.top_logits[:, 0])  # whichever of equals
        assert completion.logits.shape == (len(completion.token_ids), 49152)
        assert np.array_equal(row_statistics(completion.logits).digest, completion.rows.digest)
        assert completion.stop == "length"


def test_rows_are_bit_equal_to_those_that_vllm_returns_itself(
    device: VllmDevice, requests: list[Request], alone: list[Completion]
) -> None:
    from vllm import SamplingParams

    params = SamplingParams(
        temperature=0.0, max_tokens=3, ignore_eos=True, logprobs=-1, detokenize=False
    )
    prompt: Any = {"prompt_token_ids": list(requests[0].prompt_token_ids)}
    [output] = device._llm.generate([prompt], params, use_tqdm=False)
    told = [
        np.array([step[i].logprob for i in range(49152)], np.float32)
        for step in output.outputs[0].logprobs
    ]
    assert alone[0].logits is not None
    assert np.array_equal(np.stack(told), alone[0].logits[:3])


def test_timings_are_a_gap_for_every_token(alone: list[Completion]) -> None:
    for completion in alone:
        timings = completion.timings
        assert len(timings.itl_s) == len(completion.token_ids) - 1
        assert min(timings.ttft_s, *timings.itl_s) > 0
        assert timings.e2e_s == pytest.approx(timings.ttft_s + sum(timings.itl_s))


def test_forced_decode_of_its_own_tokens_reproduces_the_digests(
    device: VllmDevice, requests: list[Request], alone: list[Completion]
) -> None:
    for request, completion in zip(requests[:2], alone, strict=False):
        forced = replace(request, replay="forced-decode", forced_token_ids=completion.token_ids)
        repeated = run(device, forced)
        assert rows_equal(repeated, completion)
        assert (repeated.stop, repeated.token_ids) == ("forced", completion.token_ids)


def test_forced_tokens_are_followed_wherever_they_lead(
    device: VllmDevice, requests: list[Request], alone: list[Completion]
) -> None:
    """The row after other tokens is that of a prompt which ends with them."""
    forced = (100, 200, 300)
    request = replace(requests[0], replay="forced-decode", forced_token_ids=forced)
    followed = run(device, request)
    prompt = (*request.prompt_token_ids, *forced[:2])
    direct = run(device, replace(requests[0], prompt_token_ids=prompt, max_new_tokens=1))
    assert followed.token_ids == forced
    assert followed.rows is not None
    assert direct.rows is not None
    assert alone[0].rows is not None
    assert np.array_equal(followed.rows.digest[0], alone[0].rows.digest[0])
    distance = squared_norm(followed.rows.sketch[2] - direct.rows.sketch[0])
    elsewhere = squared_norm(followed.rows.sketch[1] - direct.rows.sketch[0])
    assert distance < elsewhere / 100


def test_forced_prefill_gives_the_rows_of_the_free_run(
    device: VllmDevice, requests: list[Request], alone: list[Completion]
) -> None:
    tokens = alone[1].token_ids[:5]
    calls: list[None] = []
    request = replace(requests[1], replay="forced-prefill", forced_token_ids=tokens)
    [completion] = device.generate([request], lambda: calls.append(None))
    assert (completion.token_ids, completion.stop) == (tokens, "forced")
    assert completion.timings.itl_s == ()
    assert len(calls) == 1
    assert completion.rows is not None
    assert alone[1].rows is not None
    assert len(completion.rows) == 5
    assert_near(completion, alone[1], 5)


def assert_near(candidate: Completion, own: Completion, tokens: int) -> None:
    """Rows of the same tokens by other kernels: nearer to their own than to any other row."""
    assert candidate.rows is not None
    assert own.rows is not None
    mine, theirs = candidate.rows.sketch[:tokens], own.rows.sketch[:tokens]
    distances = squared_norm(mine[:, None] - theirs[None])
    off = ~np.eye(tokens, dtype=bool)
    assert distances.diagonal().max() < distances[off].min() / 50


def test_a_batch_keeps_rows_with_their_requests(
    device: VllmDevice, requests: list[Request], alone: list[Completion]
) -> None:
    """Six requests of six lengths in a batch of four: they join and leave on the way.

    Other batch sizes take other kernels, so bits differ; each row must still be
    far nearer to its own of batch 1 than to any other row of any request.
    """
    forced = [
        replace(r, replay="forced-decode", forced_token_ids=c.token_ids)
        for r, c in zip(requests, alone, strict=True)
    ]
    completions = {c.prompt_id: c for c in device.generate(forced)}
    together = [completions[r.prompt_id] for r in requests]
    assert [c.token_ids for c in together] == [c.token_ids for c in alone]
    mine = np.concatenate([c.rows.sketch for c in together if c.rows is not None])
    theirs = np.concatenate([c.rows.sketch for c in alone if c.rows is not None])
    distances = squared_norm(mine[:, None] - theirs[None])
    off = ~np.eye(len(mine), dtype=bool)
    assert len(mine) == sum(r.max_new_tokens for r in requests)
    assert distances.diagonal().max() < distances[off].min() / 2
    assert np.median(distances.diagonal()) < np.median(distances[off]) / 1000


def test_a_caller_that_leaves_disturbs_nobody(
    device: VllmDevice, requests: list[Request], alone: list[Completion]
) -> None:
    generation = device.generate(requests)
    first = next(generation)
    generation.close()  # type: ignore[attr-defined]
    assert first.rows is not None
    assert not device._llm.llm_engine.has_unfinished_requests()
    assert rows_equal(run(device, requests[0]), alone[0])


def test_the_stopping_token_is_part_of_the_output(
    device: VllmDevice, requests: list[Request], alone: list[Completion]
) -> None:
    tokens = alone[0].token_ids
    stopped = run(device, replace(requests[0], stop_token_ids=(tokens[3],)))
    assert (stopped.stop, stopped.token_ids) == ("eos", tokens[: tokens.index(tokens[3]) + 1])


def test_keeping_nothing_gives_the_same_tokens(
    device: VllmDevice, requests: list[Request], alone: list[Completion]
) -> None:
    quiet = run(device, replace(requests[0], keep="nothing"))
    assert (quiet.token_ids, quiet.rows, quiet.logits) == (alone[0].token_ids, None, None)
    assert len(quiet.timings.itl_s) == len(quiet.token_ids) - 1


def test_sampling_repeats_under_its_seed_and_keeps_raw_rows(
    device: VllmDevice, requests: list[Request], alone: list[Completion]
) -> None:
    drawn = replace(requests[0], sampling=Sampling(temperature=0.7, top_p=0.9, seed=3))
    first, again = run(device, drawn), run(device, drawn)
    other = run(device, replace(drawn, sampling=Sampling(0.7, 0.9, 4)))
    assert rows_equal(first, again)
    assert first.token_ids == again.token_ids != other.token_ids
    assert first.token_ids != alone[0].token_ids
    assert first.rows is not None
    assert alone[0].rows is not None
    assert np.array_equal(first.rows.digest[0], alone[0].rows.digest[0])


def test_on_token_counts_tokens(device: VllmDevice, requests: list[Request]) -> None:
    calls: list[None] = []
    list(
        device.generate(
            [replace(r, max_new_tokens=3) for r in requests], lambda: calls.append(None)
        )
    )
    assert len(calls) == 3 * len(requests)


def test_no_file_of_rows_stays_behind(device: VllmDevice, requests: list[Request]) -> None:
    run(device, requests[5])
    assert device._spool is not None
    left = {file.name for file in device._spool.folder.iterdir()}
    run(device, requests[5])
    assert {file.name for file in device._spool.folder.iterdir()} == left


def test_capturing_does_not_slow_generation(
    device: VllmDevice, requests: list[Request], record_property: Any
) -> None:
    """Against the engine's own loop without a row kept. The bound leaves room for a
    shared machine; benchmarks/vllm_capture.py measures it properly."""
    from vllm import SamplingParams

    request = replace(requests[0], max_new_tokens=16, keep="statistics")
    plain = SamplingParams(temperature=0.0, max_tokens=16, ignore_eos=True, detokenize=False)
    prompt: Any = {"prompt_token_ids": list(request.prompt_token_ids)}

    def seconds(capture: bool) -> float:
        started = time.perf_counter()
        if capture:
            return run(device, request).timings.e2e_s
        device._llm.generate([prompt], plain, use_tqdm=False)
        return time.perf_counter() - started

    ratios = []
    for pair in range(6):
        times = {capture: seconds(capture) for capture in (pair % 2 == 0, pair % 2 == 1)}
        ratios.append(times[True] / times[False])
    record_property("capture_ratio", statistics.median(ratios))
    assert statistics.median(ratios) < 1.3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"prompt_token_ids": ()}, "at least one prompt token"),
        ({"prompt_token_ids": (49152,)}, "vocabulary of 49152"),
        ({"max_new_tokens": 2000}, "but vllm-cpu takes 2000"),
        ({"replay": "forced-decode"}, "forced replays need forced tokens"),
    ],
)
def test_a_request_that_does_not_fit_is_named(
    device: VllmDevice, requests: list[Request], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(DeviceError, match=message):
        run(device, replace(requests[0], **changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"enforce_eagre": "true"}, "do you mean enforce_eager"),
        ({"enforce_eager": "maybe"}, "must be true or false"),
        ({"max_num_seqs": "four"}, "max_num_seqs=four"),
        ({"load_format": "false friend"}, "Load format"),
        ({"model": "x"}, "--model"),
        ({"dtype": "x"}, "--dtype"),
    ],
)
def test_engine_arguments_are_checked(
    embedded_model: Model, args: dict[str, str], message: str
) -> None:
    device = VllmDevice("vllm-cpu", embedded_model, engine_args=args)
    with pytest.raises((UsageError, DeviceError), match=message) as refused:
        device.open()
    device.close()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["npu", "vllm-gpu"])
def test_another_platform_is_told(embedded_model: Model, name: str) -> None:
    device = VllmDevice(name, embedded_model)
    with pytest.raises(DeviceError, match=r"picked 'cpu' \(CpuPlatform\).*plugins") as refused:
        device.open()
    device.close()
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("options", [{"batch_size": 0}, {"dtype": "int8"}, {"name": "vllm-tpu"}])
def test_options_without_sense_are_refused(embedded_model: Model, options: Any) -> None:
    with pytest.raises(UsageError):
        VllmDevice(**{"name": "vllm-cpu", "model": embedded_model, **options})


def test_a_device_that_is_not_open_says_so(embedded_model: Model, requests: list[Request]) -> None:
    device = VllmDevice("vllm-cpu", embedded_model)
    device.close()
    with pytest.raises(DeviceError, match="is not open"):
        run(device, requests[0])


@pytest.mark.slow
def test_rows_come_out_of_another_process_too(tmp_path: Path) -> None:
    """The engine in this process and in one of its own: the same tokens and bits."""
    recordings = []
    for multiprocessing in "01":
        out = tmp_path / f"{multiprocessing}.json"
        arguments = ["record", "--device", "vllm-cpu", "--suite", "port", "--max-new-tokens", "6"]
        done = subprocess.run(
            [sys.executable, "-m", "harness", *arguments, "--out", str(out)],
            env={**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": multiprocessing},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        recordings.append(load_recording(out))
    one, other = recordings
    assert [r.engine.facts["multiprocessing"] for r in recordings] == [False, True]
    for a, b in zip(one.prompts, other.prompts, strict=True):
        assert a.run.token_ids == b.run.token_ids
        assert np.array_equal(a.run.rows.digest, b.run.rows.digest)
