"""Many requests at a time: every row goes to its own request."""

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

REQUESTS = 64
SUBJECTS = ("The capital of", "A recipe for", "def solve_", "Once upon a time in", "12 +", "Water")


@pytest.fixture(scope="module")
def device(embedded_model: Model) -> Iterator[VllmDevice]:
    device = VllmDevice("vllm-cpu", embedded_model, dtype="float32", batch_size=8)
    opened = device.open()
    assert (opened.declared_dtype, opened.engine.batch_size) == ("float32", 8)
    yield device
    device.close()


@pytest.fixture(scope="module")
def requests(embedded_model: Model) -> list[Request]:
    """Prompts of 3 to some 40 tokens, outputs of 2 to 16."""
    tokenizer = open_tokenizer(embedded_model)
    return [
        Request(
            str(i),
            tokenizer.encode(f"{SUBJECTS[i % 6]} {i}" + " and so on" * (i * 7 % 11)),
            "free",
            2 + i * 7 % 15,
        )
        for i in range(REQUESTS)
    ]


def test_64_requests_at_batch_8_keep_their_rows(
    device: VllmDevice, requests: list[Request]
) -> None:
    """In float32, against each request by itself, with every third ended early by a stop token.

    A batch takes other GEMM kernels than a single request, which sum in another order:
    the engine is not batch-invariant on a CPU and digests are not equal. In float32 the
    difference is some 1e-5 of a logit, so that tokens are equal, and each of the rows is
    nearer to its own by orders of magnitude than to any of the other requests or steps.
    A row that went astray would be as far off as those.
    """
    alone = [next(iter(device.generate([request]))) for request in requests]
    stopped = [
        replace(r, stop_token_ids=(c.token_ids[len(c.token_ids) // 2],)) if i % 3 == 0 else r
        for i, (r, c) in enumerate(zip(requests, alone, strict=True))
    ]
    found = {c.prompt_id: c for c in device.generate(stopped)}
    together = [found[r.prompt_id] for r in requests]
    lengths = [len(c.token_ids) for c in together]
    assert sum(c.stop == "eos" for c in together) >= REQUESTS // 3
    assert len(set(lengths)) > 8
    for own, batched, n in zip(alone, together, lengths, strict=True):
        assert batched.token_ids == own.token_ids[:n]
        assert batched.rows is not None
        assert len(batched.rows) == n
    distances = squared_norm(_sketches(together)[:, None] - _sketches(alone, lengths)[None])
    off = ~np.eye(len(distances), dtype=bool)
    assert distances.diagonal().max() < distances[off].min() / 1000


def _sketches(completions: list[Completion], lengths: list[int] | None = None) -> np.ndarray:
    rows = [c.rows for c in completions if c.rows is not None]
    counts = lengths or [len(r) for r in rows]
    return np.concatenate([r.sketch[:n] for r, n in zip(rows, counts, strict=True)])
