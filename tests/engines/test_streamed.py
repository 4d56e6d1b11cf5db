"""Weights that stay on disk give the bits of weights in memory, also after a kill."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from needed import needed

from harness.baseline import make
from harness.baseline.folder import load_baseline
from harness.baseline.make import Plan, make_baseline
from harness.devices import memory
from harness.devices.base import Completion, Request
from harness.devices.hf import stages
from harness.devices.hf.device import HfDevice
from harness.devices.hf.load import Taken
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.errors import DeviceError, UsageError
from harness.model.find import find_model
from harness.model.model import Model
from harness.process.progress import Silent
from harness.suite.read import load_suite
from harness.suite.suite import Suite

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]
needed("torch", "transformers", "accelerate")

STREAM = Taken(streamed=True)
_SIZES = {
    **{"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3, "vocab_size": 300},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "num_experts": 4},
    **{"moe_intermediate_size": 48, "num_local_experts": 4, "num_experts_per_tok": 2},
    **{"shared_expert_intermediate_size": 48, "n_embd": 64, "n_layer": 3, "n_head": 4},
    **{"pad_token_id": 0, "max_position_embeddings": 128, "n_positions": 128},
}


def tiny(kind: str, folder: Path, dtype: str = "bfloat16", **more: Any) -> Model:
    """A random checkpoint of a type, as Transformers saves it."""
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    known = CONFIG_MAPPING[kind]().to_dict()
    fields = {k: v for k, v in {**_SIZES, **more}.items() if k in known or k in more}
    config = CONFIG_MAPPING[kind](**fields)
    torch.manual_seed(5)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    model.to(getattr(torch, dtype)).save_pretrained(folder)
    shutil.copy(Path(find_model("smollm2").path) / "tokenizer.json", folder)
    return find_model(str(folder))


def requests(vocabulary: int, keep: Any = "full") -> list[Request]:
    random = np.random.default_rng(1)
    return [
        Request(
            f"prompt {i}",
            tuple(random.integers(0, vocabulary, 4 + 9 * i).tolist()),
            "forced-prefill",
            6,
            forced_token_ids=tuple(random.integers(0, vocabulary, 6).tolist()),
            keep=keep,
        )
        for i in range(3)
    ]


@contextmanager
def opened(model: Model, **options: Any) -> Iterator[tuple[HfDevice, list[Request]]]:
    device = HfDevice("hf-cpu", model, **options)
    try:
        yield device, requests(device.open().vocab_size)
    finally:
        device.close()


def ran(model: Model, **options: Any) -> list[Completion]:
    with opened(model, **options) as (device, asked):
        return list(device.generate(asked))


def same(first: list[Completion], second: list[Completion]) -> None:
    for a, b in zip(first, second, strict=True):
        assert a.prompt_id == b.prompt_id
        assert a.logits is not None
        assert b.logits is not None
        assert a.logits.tobytes() == b.logits.tobytes()
        assert (a.routes is None) == (b.routes is None)
        if a.routes is not None and b.routes is not None:
            np.testing.assert_array_equal(a.routes.chosen, b.routes.chosen)
            assert (a.routes.margin is None) == (b.routes.margin is None)


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "float32"},
        {"dtype": "bfloat16"},
        {"dtype": "bfloat16", "matmul": "widened"},
        {"dtype": "float32", "matmul": "native"},
        {"dtype": "bfloat16", "matmul": "split-2", "attention": "eager"},
    ],
)
def test_the_bits_are_those_of_weights_in_memory(
    options: dict[str, Any], embedded_model: Model
) -> None:
    same(ran(embedded_model, **options), ran(embedded_model, taken=STREAM, **options))


def test_a_large_layer_is_not_converted_as_a_whole(
    embedded_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    monkeypatch.setattr(stages, "_CONVERTED", 0)
    monkeypatch.setattr(stages, "_SHARE", 0.0)
    seen: set[Any] = set()
    linear = torch.nn.functional.linear

    def product(x: Any, weight: Any, bias: Any = None) -> Any:
        seen.add(weight.dtype)
        return linear(x, weight, bias)

    whole = ran(embedded_model, dtype="float32")
    with opened(embedded_model, dtype="float32", taken=STREAM) as (device, asked):
        monkeypatch.setattr(torch.nn.functional, "linear", product)
        same(whole, list(device.generate(asked)))
    assert seen == {torch.float32}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("llama", {"tie_word_embeddings": False}),
        ("gemma2", {"attn_logit_softcapping": 50.0}),  # scaled embedding, tied head, soft-caps
        ("qwen2", {"tie_word_embeddings": True}),
        ("gpt2", {}),  # another name of the layers, Conv1D in place of linear layers
        ("mixtral", {}),  # experts that Transformers 5 stacks
        ("qwen3_moe", {"norm_topk_prob": True}),
    ],
)
def test_other_architectures(kind: str, more: dict[str, Any], dtype: str, tmp_path: Path) -> None:
    model = tiny(kind, tmp_path, **more)
    same(ran(model, dtype=dtype), ran(model, dtype=dtype, taken=STREAM))


def test_weights_stored_wider_than_they_are_computed_with(tmp_path: Path) -> None:
    model = tiny("llama", tmp_path, "float32")
    options = {"dtype": "bfloat16", "matmul": "widened"}
    same(ran(model, **options), ran(model, taken=STREAM, **options))


def test_weights_in_a_file_of_torch(tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    model = tiny("llama", tmp_path)
    torch.save(load_file(tmp_path / "model.safetensors"), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    same(ran(model, dtype="float32"), ran(model, dtype="float32", taken=STREAM))


class Killed(Exception):
    pass


def test_a_job_that_was_killed_goes_on(tmp_path: Path) -> None:
    model, place = tiny("mixtral", tmp_path / "model"), tmp_path / "out.json.layers"
    with opened(model) as (device, asked):
        whole = list(device.generate(asked))
        rows = sum(device.steps(r) for r in asked)
    assert rows == 3
    with opened(model, taken=STREAM) as (device, asked):
        device.resume_in(place, "job")
        assert sum(device.steps(r) for r in asked) == 3 * 4
        left = 5

        def tick() -> None:
            nonlocal left
            left -= 1
            if not left:
                raise Killed

        with pytest.raises(Killed):
            list(device.generate(asked, tick))
    with opened(model, taken=STREAM) as (device, asked):
        device.resume_in(place, "another job")
        assert sum(device.steps(r) for r in asked) == 3 * 4
        device.resume_in(place, "job")
        assert sum(device.steps(r) for r in asked) == 3 * 4 - 5
        ticks: list[int] = []
        same(whole, list(device.generate(asked, lambda: ticks.append(1))))
    assert len(ticks) == 3 * 4 - 5
    assert not place.exists()


def test_states_that_somebody_else_wrote_are_not_taken(tmp_path: Path) -> None:
    model, place = tiny("llama", tmp_path / "model"), tmp_path / "out.json.layers"

    def after(count: int) -> Any:
        ticks = iter(range(count))

        def tick() -> None:
            if next(ticks, None) is None:
                raise Killed

        return tick

    with opened(model, taken=STREAM) as (device, asked):
        device.resume_in(place, "job")
        with pytest.raises(Killed):
            list(device.generate(asked, after(6)))
    for file in place.iterdir():
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        file.write_bytes(data)
    with opened(model, taken=STREAM) as (device, asked):
        device.resume_in(place, "job")
        assert sum(device.steps(r) for r in asked) == 3 * 4
        same(ran(model), list(device.generate(asked)))


def test_traces_are_those_of_weights_in_memory(embedded_model: Model) -> None:
    sequences = [("a", tuple(range(3, 20))), ("b", tuple(range(100, 130)))]
    traces = []
    for taken in (Taken(), STREAM):
        with opened(embedded_model, dtype="bfloat16", taken=taken) as (device, _):
            traces.append(list(device.trace(sequences)))
    for one, other in zip(*traces, strict=True):
        assert one.digests == other.digests
        assert list(one.digests) == list(other.digests)


def test_what_cannot_be_streamed_is_refused(tmp_path: Path, embedded_model: Model) -> None:
    with opened(embedded_model, taken=STREAM) as (device, _):
        free = Request("p", (1, 2, 3), "free", 4)
        with pytest.raises(DeviceError, match=r"weights=stream .* --replay forced-prefill"):
            list(device.generate([free]))
    with pytest.raises(UsageError, match="weights=disk: it is memory or stream"):
        open_target(DeviceSpec("hf-cpu", engine_args={"weights": "disk"}))
    quantized = tiny("llama", tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "fp8"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(UsageError, match="plain weights only"), opened(quantized, taken=STREAM):
        pass


@pytest.fixture
def few(tmp_path: Path) -> Suite:
    """Three prompts of four tokens."""
    texts = "".join(f"  - {{id: p{i}, text: {'one two ' * (i + 1)}}}\n" for i in range(3))
    file = tmp_path / "few.yaml"
    file.write_text(f"generation: {{max_new_tokens: 4, ignore_eos: true}}\nprompts:\n{texts}")
    return load_suite(str(file))


def test_a_baseline_with_a_streamed_oracle_is_the_same(
    few: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = DeviceSpec("hf-cpu", "smollm2")
    monkeypatch.setattr(make, "LOWER_ISA", {"AVX2": {}})
    one = make_baseline(Plan(spec, few, tmp_path / "a", oracle="memory"), Silent())
    other = make_baseline(Plan(spec, few, tmp_path / "b", oracle="stream"), Silent())
    # What does not fit is streamed without being asked for; a free run is not.
    monkeypatch.setattr(memory, "available_bytes", lambda: 600_000_000)
    third = make_baseline(Plan(spec, few, tmp_path / "c"), Silent())
    assert one.oracle is not None
    for baseline in (other, third):
        assert baseline.folder is not None
        assert load_baseline(baseline.folder).oracle is not None
        assert sorted(p.suffix for p in baseline.folder.iterdir()) == [".json"] * len(
            list(baseline.folder.iterdir())
        )
        for (name, arm), (also, twin) in zip(one.arms(), baseline.arms(), strict=True):
            assert name == also
            for a, b in zip(arm.prompts, twin.prompts, strict=True):
                np.testing.assert_array_equal(a.run.rows.digest, b.run.rows.digest)


def test_a_reference_that_streams_needs_tokens(few: Suite, tmp_path: Path) -> None:
    spec = DeviceSpec("hf-cpu", "smollm2")
    with pytest.raises(UsageError, match="give --context RECORDING"):
        make_baseline(Plan(spec, few, tmp_path, reference="stream"), Silent())
    other = DeviceSpec("fake-reference")
    with pytest.raises(UsageError, match="--oracle stream is for hf-cpu"):
        make_baseline(Plan(other, few, tmp_path, oracle="stream"), Silent())
