"""Several ranks of vLLM's CPU engine: every row once and right, and one that is killed."""

from __future__ import annotations

import importlib.util
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from needed import needed
from test_vllm_routes import PIECES, PROMPTS, mixture

from harness.canary.checkpoint import save
from harness.canary.expected import continuation, prompt, rows, states
from harness.canary.sizes import Sizes
from harness.devices.base import Opened, Request
from harness.devices.hf.device import HfDevice
from harness.devices.trace import layer_place
from harness.devices.vllm.device import VllmDevice
from harness.errors import DeviceError
from harness.model.model import Model

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]
needed("torch", "vllm")

SIZES = Sizes(
    context=320, layers=2, heads=4, kv_heads=2, head_dim=32, hidden=128, vocab_size=128
)  # fmt: skip
#: Long enough that every head finds the token that it copies.
IDS = prompt(SIZES, SIZES.history + 8, 1)
TOKENS = 12


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    folder = tmp_path_factory.mktemp("ranks") / "canary"
    save(SIZES, folder)
    return Model("canary", str(folder))


@pytest.fixture(
    scope="module",
    params=[
        {"tensor_parallel_size": "2"},
        pytest.param({"pipeline_parallel_size": "2"}, marks=pytest.mark.nightly),
        pytest.param(
            {"tensor_parallel_size": "2", "distributed_executor_backend": "ray"},
            marks=[
                pytest.mark.nightly,
                pytest.mark.skipif(
                    importlib.util.find_spec("ray") is None, reason="ray is not installed"
                ),
            ],
        ),
    ],
    ids=["tensor", "pipeline", "ray"],
)
def ranks(
    model: Model, request: pytest.FixtureRequest
) -> Iterator[tuple[VllmDevice, Opened, dict[str, str]]]:
    before = dict(os.environ)
    device = VllmDevice("vllm-cpu", model, dtype="float32", engine_args=request.param)
    try:
        yield device, device.open(), request.param
    finally:
        device.close()
    assert {k: v for k, v in os.environ.items() if k.startswith("VLLM_CPU")} == {
        k: v for k, v in before.items() if k.startswith("VLLM_CPU")
    }


def test_every_row_comes_once_and_right(
    ranks: tuple[VllmDevice, Opened, dict[str, str]],
) -> None:
    device, opened, _ = ranks
    assert opened.engine.facts["workers"] == 2
    assert opened.engine.threads == max(1, len(os.sched_getaffinity(0)) // 2)
    requests = [Request(str(n), IDS, "free", TOKENS, keep="full") for n in range(2)]
    done = list(device.generate(requests))
    assert [each.prompt_id for each in done] == ["0", "1"]
    expected = continuation(SIZES, IDS, TOKENS)
    whole = rows(SIZES, states(SIZES, (*IDS, *expected)))[len(IDS) - 1 : -1]
    for each in done:
        assert each.token_ids == expected
        assert each.logits is not None
        assert np.array_equal(each.logits, whole)
    [trace] = device.trace([("p", IDS)])
    assert {layer_place(n, "") for n in range(SIZES.layers)} <= set(trace.sketches)
    assert np.array_equal(trace.head.top_ids[-1], done[0].rows.top_ids[0])  # type: ignore[union-attr]


@pytest.mark.nightly
def test_experts_over_two_ranks_are_the_references(tmp_path: Path) -> None:
    """Tokens and routes; float32 moves the logits of this mixture by some 1e-6."""
    mixed = mixture(tmp_path)
    requests = [Request(name, ids, "free", 5, keep="full") for name, ids in PROMPTS.items()]
    found = []
    given = {**PIECES, "tensor_parallel_size": "2"}
    for device in (
        HfDevice("hf-cpu", mixed, dtype="float32"),
        VllmDevice("vllm-cpu", mixed, dtype="float32", engine_args=given),
    ):
        try:
            opened = device.open()
            found.append(list(device.generate(requests)))
        finally:
            device.close()
    assert opened.engine.facts["workers"] == 2
    for theirs, mine in zip(*found, strict=True):
        assert mine.token_ids == theirs.token_ids
        np.testing.assert_allclose(mine.logits, theirs.logits, atol=1e-4)
        assert mine.routes is not None
        assert theirs.routes is not None
        np.testing.assert_array_equal(mine.routes.chosen, theirs.routes.chosen)


def workers_of(device: VllmDevice) -> list[Any]:
    watch = device._watch
    assert watch is not None
    return list(watch._known.values())


def test_a_killed_rank_is_named_and_leaves_nobody(
    ranks: tuple[VllmDevice, Opened, dict[str, str]],
) -> None:
    device, _, asked = ranks
    if "distributed_executor_backend" in asked:
        pytest.skip("Ray's workers are no children of this process")
    workers = workers_of(device)
    [second] = [worker for worker in workers if worker.name == "VllmWorker-1"]
    killed: list[float] = []

    def kill_once() -> None:
        if not killed:
            killed.append(time.monotonic())
            os.kill(second.pid, signal.SIGKILL)

    with pytest.raises(DeviceError) as told:
        list(device.generate([Request("a", IDS, "free", 60)], kill_once))
    assert "the engine failed on a: its process VllmWorker-1 was ended by SIGKILL" in str(
        told.value
    )
    assert time.monotonic() - killed[0] < 60
    device.close()
    assert not [w.pid for w in workers if Path(f"/proc/{w.pid}").exists()]
