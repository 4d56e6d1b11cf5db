"""The same on vLLM's engine, against Transformers: fused projections, residuals apart."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.baseline.folder import load_baseline
from harness.devices.base import TraceableDevice
from harness.devices.hf.device import HfDevice
from harness.devices.trace import HEAD, NORM, Trace
from harness.devices.vllm.device import VllmDevice
from harness.errors import DeviceError
from harness.locate.judge import block_of, first_beyond, places
from harness.model.model import Model

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)

BASELINE = Path(__file__).parents[2] / "baselines/smollm2/mixed/bfloat16"

Sequences = list[tuple[str, tuple[int, ...]]]


@pytest.fixture(scope="module")
def sequences() -> Sequences:
    """Six prompts of different kinds, with the baseline's tokens after them."""
    prompts = load_baseline(BASELINE).reference.prompts[::6]
    return [(p.id, (*p.prompt_token_ids, *p.run.token_ids)[:40]) for p in prompts]


@pytest.fixture(scope="module")
def arms(embedded_model: Model, sequences: Sequences) -> dict[str, list[Trace]]:
    """Reference and oracle, before vLLM binds this process to cores."""
    found = {}
    for dtype in ("bfloat16", "float32"):
        device = HfDevice("hf-cpu", embedded_model, dtype=dtype)
        device.open()
        found[dtype] = list(device.trace(sequences))
        device.close()
    return found


@pytest.fixture(scope="module")
def device(embedded_model: Model, arms: object) -> Iterator[VllmDevice]:
    device = VllmDevice("vllm-cpu", embedded_model, engine_args={"max_model_len": "2048"})
    device.open()
    assert isinstance(device, TraceableDevice)
    yield device
    device.close()


def model_of(device: VllmDevice) -> Any:
    """The model itself: the engine runs in this process."""
    core: Any = device._llm.llm_engine.engine_core.engine_core
    return core.model_executor.driver_worker.worker.model_runner.get_model()


@contextmanager
def changed(tensor: Any, change: Callable[[Any], None]) -> Iterator[None]:
    kept = tensor.data.clone()
    change(tensor.data)
    try:
        yield
    finally:
        tensor.data.copy_(kept)


@contextmanager
def head_lost(o_proj: Any, head: int) -> Iterator[None]:
    """What a head of 64 gives is zero. Not by its weights: on some CPUs the engine packs
    them into a form of its own and keeps no tensor."""

    def silence(module: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        values = inputs[0].clone()
        values[..., 64 * head : 64 * (head + 1)] = 0
        return (values, *inputs[1:])

    handle = o_proj.register_forward_pre_hook(silence)
    try:
        yield
    finally:
        handle.remove()


def located(device: VllmDevice, sequences: Sequences, arms: dict[str, list[Trace]]) -> Any:
    candidate = list(device.trace(sequences))
    found = places(candidate, arms["bfloat16"], arms["float32"], {}, "bfloat16")
    return first_beyond(found), found


def test_a_correct_engine_has_no_fault(
    device: VllmDevice, sequences: Sequences, arms: dict[str, list[Trace]]
) -> None:
    first, found = located(device, sequences, arms)
    assert first is None
    reference = arms["bfloat16"][0]
    assert {p.name for p in found} == {*reference.sketches, HEAD}
    # Every place holds the same thing as Transformers': a wrong mapping would be far off.
    ratios = [p.ratio.value for p in found if p.ratio.value]
    assert max(ratios) < 1.4
    assert min(ratios) > 0.1  # kernels that add the residual within the norm round less often


def test_a_fault_in_attention_is_located_there(
    device: VllmDevice, sequences: Sequences, arms: dict[str, list[Trace]]
) -> None:
    with head_lost(model_of(device).model.layers[10].self_attn.o_proj, 4):
        first, _ = located(device, sequences, arms)
    assert block_of(first.name) == "model.layers.10.self_attn"


def test_a_fault_in_the_last_norm_is_located_there(
    device: VllmDevice, sequences: Sequences, arms: dict[str, list[Trace]]
) -> None:
    with changed(model_of(device).model.norm.weight, lambda w: w.mul_(1.01)):
        first, _ = located(device, sequences, arms)
    assert first.name == NORM


def test_a_fault_in_the_head_is_located_there(
    device: VllmDevice, sequences: Sequences, arms: dict[str, list[Trace]]
) -> None:
    processor = model_of(device).logits_processor
    kept, processor.scale = processor.scale, 1.01
    try:
        first, _ = located(device, sequences, arms)
    finally:
        processor.scale = kept
    assert first.name == HEAD


def test_nothing_is_left_behind(
    device: VllmDevice, sequences: Sequences, arms: dict[str, list[Trace]]
) -> None:
    first, _ = located(device, sequences[:2], {k: v[:2] for k, v in arms.items()})
    assert first is None
    assert not any(m._forward_hooks for m in model_of(device).modules())


def test_a_sequence_that_does_not_fit_is_refused(device: VllmDevice) -> None:
    with pytest.raises(DeviceError, match="do not fit"):
        list(device.trace([("long", tuple([1] * 2048))]))


def test_a_prompt_that_runs_in_pieces_is_seen_whole(
    embedded_model: Model, sequences: Sequences, device: VllmDevice, arms: dict[str, list[Trace]]
) -> None:
    device.close()  # one engine at a time in one process; this is the last test of it
    args = {"max_num_batched_tokens": "16", "max_model_len": "2048"}
    pieces = VllmDevice("vllm-cpu", embedded_model, engine_args=args)
    pieces.open()
    try:
        first, _ = located(pieces, sequences, arms)
    finally:
        pieces.close()
    assert first is None
