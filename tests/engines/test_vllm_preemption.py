"""A cache that is too small for its requests: vLLM takes one's away and computes it again."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from harness.devices.base import Completion, Request
from harness.devices.vllm.device import VllmDevice
from harness.model.model import Model
from harness.model.tokenizer import open_tokenizer
from harness.statistics.rows import squared_norm

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)

REQUESTS = 4
STEPS = 40
#: 4 blocks of 32 tokens, beside the one that vLLM keeps, hold two requests of about 50.
SMALL = {"block_size": "32", "num_gpu_blocks_override": "5", "max_model_len": "96"}


@pytest.fixture(scope="module")
def device(embedded_model: Model) -> Iterator[VllmDevice]:
    device = VllmDevice(
        "vllm-cpu", embedded_model, dtype="float32", batch_size=REQUESTS, engine_args=SMALL
    )
    device.open()
    yield device
    device.close()


@pytest.fixture(scope="module")
def requests(embedded_model: Model) -> list[Request]:
    tokenizer = open_tokenizer(embedded_model)
    texts = ("The capital of France is", "def fibonacci(n):", "Once upon a time", "1, 2, 3, 4,")
    return [Request(text, tokenizer.encode(text), "free", STEPS) for text in texts]


def _counted(device: VllmDevice, requests: list[Request]) -> tuple[list[Completion], dict]:
    before = device.counters()
    done = {c.prompt_id: c for c in device.generate(requests)}
    after = device.counters()
    return [done[r.prompt_id] for r in requests], {k: after[k] - before[k] for k in after}


def test_exact_counts_of_one_request(device: VllmDevice, requests: list[Request]) -> None:
    """A step for the prompt and its first token, one for each token more."""
    _, counted = _counted(device, requests[:1])
    tokens = len(requests[0].prompt_token_ids) + STEPS - 1
    assert counted == {"engine_steps": STEPS, "scheduled_tokens": tokens, "preemptions": 0}


@pytest.mark.parametrize(
    "replay", ["free", pytest.param("forced-decode", marks=pytest.mark.nightly)]
)
def test_preempted_requests_keep_their_rows(
    device: VllmDevice, requests: list[Request], replay: str
) -> None:
    """Against each request by itself. Batches and recomputed prompts sum in another
    order, so rows are near, not equal: nearer than any row of another request or step.
    """
    alone, counted = [], {}
    for request in requests:
        [completion], counted = _counted(device, [request])
        assert counted["preemptions"] == 0
        alone.append(completion)
    if replay == "forced-decode":
        requests = [
            replace(r, replay="forced-decode", forced_token_ids=c.token_ids)
            for r, c in zip(requests, alone, strict=True)
        ]
    together, counted = _counted(device, requests)
    assert counted["preemptions"] > 0
    assert counted["scheduled_tokens"] > sum(len(r.prompt_token_ids) + STEPS - 1 for r in requests)
    for own, batched in zip(alone, together, strict=True):
        assert batched.token_ids == own.token_ids
    distances = squared_norm(_sketches(together)[:, None] - _sketches(alone)[None])
    off = ~np.eye(len(distances), dtype=bool)
    assert distances.diagonal().max() < distances[off].min() / 1000


def _sketches(completions: list[Completion]) -> np.ndarray:
    rows = [c.rows for c in completions if c.rows is not None]
    assert [len(r) for r in rows] == [STEPS] * REQUESTS
    return np.concatenate([r.sketch for r in rows])
