"""Faults put into a real model are found where they are, by the same hooks on both sides."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.alignment.locate import block_of, first_beyond, places
from harness.devices.base import TraceableDevice
from harness.devices.hf import HfDevice
from harness.devices.hooks import hooked
from harness.errors import DeviceError
from harness.locating import LocatePlan, locate
from harness.models import Model, open_tokenizer
from harness.progress import Silent
from harness.suites import Suite, encode_suite, load_suite
from harness.trace import EMBEDDING, HEAD, IN_LAYER, NORM, Trace, layer_place, order_of

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]

LAYERS = 30
Fault = Callable[[Any], Any]


@pytest.fixture(scope="module")
def sequences(embedded_model: Model) -> list[tuple[str, tuple[int, ...]]]:
    """Six prompts of different kinds; without outputs, which would take a baseline."""
    suite = load_suite("mixed")
    encoded = encode_suite(suite, open_tokenizer(embedded_model), 8192)
    longest = sorted(encoded, key=lambda p: -len(p.token_ids))[:6]
    return [(p.id, p.token_ids) for p in longest]


def traces(model: Model, sequences: Any, fault: Fault | None = None, **options: Any) -> list[Trace]:
    device = HfDevice("hf-cpu", model, **options)
    assert isinstance(device, TraceableDevice)
    device.open()
    try:
        if fault is not None:
            with device._torch.no_grad():
                fault(device._model)
        return list(device.trace(sequences))
    finally:
        device.close()


@pytest.fixture(scope="module")
def reference(embedded_model: Model, sequences: Any) -> list[Trace]:
    return traces(embedded_model, sequences)


@pytest.fixture(scope="module")
def oracle(embedded_model: Model, sequences: Any) -> list[Trace]:
    return traces(embedded_model, sequences, dtype="float32")


def test_every_place_is_there_in_the_order_of_execution(reference: list[Trace]) -> None:
    expected = {layer_place(n, within) for n in range(LAYERS) for within in IN_LAYER}
    for trace in reference:
        assert set(trace.sketches) == expected | {EMBEDDING, NORM}
        assert all(len(s) == len(trace.token_ids) for s in trace.sketches.values())
        assert len(trace.head) == len(trace.token_ids)


def test_the_order_of_places_is_that_of_their_hooks(embedded_model: Model) -> None:
    seen: list[str] = []
    device = HfDevice("hf-cpu", embedded_model)
    device.open()
    torch = device._torch
    with torch.inference_mode(), hooked(device._model, lambda place, _: seen.append(place)):
        device._model(torch.tensor([[1, 2, 3]]))
    device.close()
    whole = list(dict.fromkeys(place.partition("#")[0] for place in seen))
    assert whole == sorted(whole, key=order_of)


def zero_a_head(model: Any) -> None:
    model.model.layers[10].self_attn.o_proj.weight[:, 4 * 64 : 5 * 64] = 0


def scale_softmax(model: Any) -> None:
    model.model.layers[10].self_attn.scaling *= 1.2


def scale_last_norm(model: Any) -> None:
    model.model.norm.weight.mul_(1.01)


def change_a_head_row(model: Any) -> None:
    head = model.lm_head.weight.clone()
    head[198] *= 1.5  # the line break, among the likeliest nearly everywhere
    model.lm_head.weight = type(model.lm_head.weight)(head)


def corrupt_one_weight(model: Any) -> None:
    model.model.layers[12].mlp.gate_proj.weight[100, 100] = 3.0


@pytest.mark.parametrize(
    ("fault", "module", "part"),
    [
        (zero_a_head, "model.layers.10.self_attn", ""),
        (scale_softmax, "model.layers.10.self_attn", "heads"),
        (scale_last_norm, NORM, ""),
        (change_a_head_row, HEAD, ""),
        (corrupt_one_weight, "model.layers.12.mlp", "gate_up_proj"),
    ],
)
def test_a_fault_is_located_where_it_is(
    embedded_model: Model,
    sequences: Any,
    reference: list[Trace],
    oracle: list[Trace],
    fault: Fault,
    module: str,
    part: str,
) -> None:
    # Eager attention, so that the candidate is another correct engine apart from the fault.
    candidate = traces(embedded_model, sequences, fault, attention="eager")
    first = first_beyond(places(candidate, reference, oracle, {}, "bfloat16"))
    assert first is not None
    assert block_of(first.name) == module
    assert first.name == (f"{module}.{part}" if part else module)


def test_another_correct_engine_has_no_fault(
    embedded_model: Model, sequences: Any, reference: list[Trace], oracle: list[Trace]
) -> None:
    candidate = traces(embedded_model, sequences, attention="eager", matmul="native")
    found = places(candidate, reference, oracle, {}, "bfloat16")
    assert first_beyond(found) is None
    assert {p.status for p in found} == {"WITHIN", "EQUAL"}


def test_the_same_device_is_equal_everywhere(
    embedded_model: Model, sequences: Any, reference: list[Trace], oracle: list[Trace]
) -> None:
    candidate = traces(embedded_model, sequences)
    found = places(candidate, reference, oracle, {}, "bfloat16")
    assert {p.status for p in found} == {"EQUAL"}


def test_the_head_is_the_one_that_generates(embedded_model: Model, reference: list[Trace]) -> None:
    """The traced logits are those of a forced-prefill."""
    from harness.devices.base import Request

    trace = reference[0]
    device = HfDevice("hf-cpu", embedded_model)
    device.open()
    prompt, forced = trace.token_ids[:5], trace.token_ids[5:]
    request = Request("p", prompt, "forced-prefill", 1, forced_token_ids=forced)
    [completion] = device.generate([request])
    device.close()
    assert completion.rows is not None
    assert np.array_equal(completion.rows.top_ids, trace.head.top_ids[4:-1])


def test_no_hook_is_left_behind(embedded_model: Model) -> None:
    device = HfDevice("hf-cpu", embedded_model)
    device.open()
    list(device.trace([("p", (1, 2, 3))]))
    modules = list(device._model.modules())
    device.close()
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in modules)


def test_a_model_of_another_kind_is_refused(embedded_model: Model) -> None:
    torch = pytest.importorskip("torch")
    with (
        pytest.raises(DeviceError, match=r"no `layers\.N` with `self_attn` and `mlp`"),
        hooked(torch.nn.Sequential(torch.nn.Linear(2, 2)), lambda *_: None),
    ):
        pass


@contextmanager
def small_suite(folder: Path) -> Iterator[Suite]:
    file = folder / "few.yaml"
    file.write_text(
        "generation:\n  max_new_tokens: 8\nprompts:\n"
        "  - id: a\n    text: The capital of France is Paris, and that of Spain is\n"
        "  - id: b\n    text: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13\n"
        "  - id: c\n    text: def fibonacci(n)\n",
        "utf-8",
    )
    yield load_suite(file)


def test_the_whole_of_it_on_one_command(embedded_model: Model, tmp_path: Path) -> None:
    with small_suite(tmp_path) as suite:
        found = locate(
            LocatePlan(
                "hf-cpu", "smollm2", suite, engine_args={"attention": "eager"}, root=tmp_path
            ),
            Silent(),
        )
    assert found.module is None
    assert found.hand_over is None
    assert "No module's error leaves the noise" in found.sentence
    assert found.controls == ["control-eager"]
    assert [p.id for p in found.prompts] == ["a", "b", "c"]
