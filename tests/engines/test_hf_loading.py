"""A checkpoint that is not the model's is refused, and one that is loads as it is."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from broken_checkpoint import Fault, Weights, break_checkpoint
from needed import needed

from harness.devices.hf.device import HfDevice
from harness.devices.hf.load import Taken
from harness.errors import DeviceError, UnloadedWeights
from harness.model.model import Model

pytestmark = pytest.mark.engine

needed("torch", "transformers")

SMALL: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 60,
    "max_position_embeddings": 64,
    "pad_token_id": None,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
MOE = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "head_dim": 16}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 60}
MADE = {
    "llama": ("LlamaConfig", SMALL),
    "tied": ("LlamaConfig", {**SMALL, "tie_word_embeddings": True}),
    "qwen2": ("Qwen2Config", SMALL),
    "qwen3_moe": ("Qwen3MoeConfig", {**SMALL, **MOE}),
    "gemma2": ("Gemma2Config", {**SMALL, "head_dim": 16, "query_pre_attn_scalar": 16}),
    "gpt2": ("GPT2Config", GPT2),
    "mamba": ("MambaConfig", {**SMALL, "state_size": 4, "tie_word_embeddings": False}),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    root = tmp_path_factory.mktemp("good")

    def make(name: str) -> Path:
        folder = root / name
        if not folder.exists():
            import torch
            import transformers

            config, fields = MADE[name]
            torch.manual_seed(0)
            model = transformers.AutoModelForCausalLM.from_config(
                getattr(transformers, config)(**fields)
            )
            model.save_pretrained(folder)
        return folder

    return make


def opened(folder: Path, **options: Any) -> tuple[str | None, str | None]:
    """The attention and the warning of the engine."""
    device = HfDevice("hf-cpu", Model("m", str(folder)), dtype="float32", **options)
    try:
        engine = device.open().engine
        return engine.attention, engine.warning
    finally:
        device.close()


def refused(folder: Path, *named: str, **options: Any) -> str:
    with pytest.raises(UnloadedWeights) as caught:
        opened(folder, **options)
    text = str(caught.value)
    assert "\n" not in text
    for name in named:
        assert name in text, text
    return text


@pytest.mark.parametrize("name", [n for n in MADE if n not in ("mamba", "gemma2")])
def test_a_whole_checkpoint_loads_without_a_word(good: Callable[[str], Path], name: str) -> None:
    assert opened(good(name)) == ("sdpa", None)


def test_weights_that_are_links_into_another_folder_load(
    good: Callable[[str], Path], tmp_path: Path
) -> None:
    """Nothing of them is copied or written: the library follows links as well."""
    for file in good("llama").iterdir():
        (tmp_path / file.name).symlink_to(file)
    assert opened(tmp_path) == ("sdpa", None)


@pytest.mark.parametrize("name", ["mamba", "gemma2"])
def test_without_a_faithful_sdpa_attention_is_eager(good: Callable[[str], Path], name: str) -> None:
    assert opened(good(name)) == ("eager", None)


def test_another_attention_is_the_users_word(good: Callable[[str], Path]) -> None:
    assert opened(good("gemma2"), attention="sdpa") == ("sdpa", None)


def set_field(**fields: Any) -> Fault:
    return lambda config, _: config.update(fields)


def drop(pattern: str) -> Fault:
    def fault(_: dict[str, Any], weights: Weights) -> None:
        gone = [name for name in weights if re.search(pattern, name)]
        assert gone
        for name in gone:
            del weights[name]

    return fault


def add(*names: str) -> Fault:
    def fault(_: dict[str, Any], weights: Weights) -> None:
        import torch

        weights.update({name: torch.ones(32) for name in names})

    return fault


def renamed(old: str, new: str) -> Fault:
    def fault(_: dict[str, Any], weights: Weights) -> None:
        for name in list(weights):
            weights[re.sub(old, new, name)] = weights.pop(name)

    return fault


def as_int8(pattern: str) -> Fault:
    def fault(_: dict[str, Any], weights: Weights) -> None:
        import torch

        for name in weights:
            if re.search(pattern, name):
                weights[name] = (weights[name] * 100).to(torch.int8)

    return fault


def as_fp8(_: dict[str, Any], weights: Weights) -> None:
    import torch

    name = "model.layers.0.mlp.up_proj.weight"
    weights[name] = weights[name].to(torch.float8_e4m3fn)


def unknown_scheme(config: dict[str, Any], weights: Weights) -> None:
    as_int8("q_proj.weight")(config, weights)
    config["quantization_config"] = {"quant_method": "ours", "bits": 8}


def narrow_head(_: dict[str, Any], weights: Weights) -> None:
    weights["lm_head.weight"] = weights["lm_head.weight"][:50].clone()


BROKEN: list[tuple[str, Fault, tuple[str, ...]]] = [
    ("llama", drop("lm_head"), ("1 weight is missing", "lm_head.weight")),
    ("llama", set_field(num_hidden_layers=3), ("9 weights are missing", "layers.2.", "6 more")),
    ("llama", set_field(num_hidden_layers=1), ("9 weights are without", "layers.1.", "6 more")),
    ("llama", drop("layers.1.input_layernorm"), ("layers.1.input_layernorm.weight",)),
    ("llama", drop("layers.1.self_attn.k_proj"), ("layers.1.self_attn.k_proj.weight",)),
    ("llama", set_field(attention_bias=True), ("8 weights are missing", "q_proj.bias")),
    ("llama", add("model.layers.0.self_attn.q_norm.weight"), ("self_attn.q_norm.weight",)),
    ("llama", add("model.layers.0.self_attn.q_proj.bias"), ("self_attn.q_proj.bias",)),
    ("llama", narrow_head, ("lm_head.weight", "(50, 32) stored", "(60, 32) in the model")),
    ("llama", set_field(intermediate_size=40), ("of another shape", "down_proj.weight")),
    ("llama", renamed("^lm_head", "score"), ("lm_head.weight",)),
    ("llama", as_int8("q_proj.weight"), ("2 weights are quantized", "q_proj.weight (I8)")),
    ("llama", as_fp8, ("1 weight is quantized", "up_proj.weight (F8_E4M3)")),
    ("llama", unknown_scheme, ("quantized", "q_proj.weight (I8)")),
    ("llama", renamed("q_proj.weight", "q_proj.qweight"), ("missing", "q_proj.weight")),
    ("tied", drop("embed_tokens"), ("embed_tokens",)),
    ("qwen2", drop("layers.0.self_attn.v_proj.bias"), ("layers.0.self_attn.v_proj.bias",)),
    ("qwen3_moe", drop(r"layers.0.mlp.experts.3\."), ("layers.0.mlp.experts",)),
    ("qwen3_moe", drop(r"layers.0.mlp.experts.1\."), ("layers.0.mlp.experts",)),
    ("qwen3_moe", drop(r"layers.0.mlp.experts.1.up_proj"), ("0.mlp.experts.1.up_proj.weight",)),
    ("qwen3_moe", drop(r"layers.0.mlp.gate\."), ("layers.0.mlp.gate.weight",)),
    ("qwen3_moe", as_int8(r"layers.0.mlp.experts.1.up_proj"), ("experts.1.up_proj.weight (I8)",)),
    ("gpt2", drop("h.1.mlp.c_fc.bias"), ("h.1.mlp.c_fc.bias",)),
]


@pytest.mark.parametrize(("name", "fault", "named"), BROKEN)
def test_what_is_not_the_models_is_refused_by_name(
    good: Callable[[str], Path], tmp_path: Path, name: str, fault: Fault, named: tuple[str, ...]
) -> None:
    break_checkpoint(good(name), tmp_path / "m", fault)
    refused(tmp_path / "m", *named)


def test_the_names_of_a_multimodal_wrapper_are_not_the_models(
    good: Callable[[str], Path], tmp_path: Path
) -> None:
    break_checkpoint(good("llama"), tmp_path / "m", renamed("^model", "language_model.model"))
    # Transformers 4 finds the file corrupted before it counts.
    with pytest.raises((UnloadedWeights, DeviceError), match=r"embed_tokens|corrupted"):
        opened(tmp_path / "m")


INNOCENT: list[tuple[str, Fault]] = [
    # RoPE's frequencies and masks, which old checkpoints hold, are computed.
    ("llama", add("model.layers.0.self_attn.rotary_emb.inv_freq")),
    ("gpt2", as_int8("no such name")),
    # A body that was saved without its head's prefix.
    ("tied", renamed(r"^model\.", "")),
]


@pytest.mark.parametrize(("name", "fault"), INNOCENT)
def test_what_the_model_computes_itself_is_no_fault(
    good: Callable[[str], Path], tmp_path: Path, name: str, fault: Fault
) -> None:
    break_checkpoint(good(name), tmp_path / "m", fault)
    assert opened(tmp_path / "m") == ("sdpa", None)


def test_surplus_goes_by_name_only_and_is_told(good: Callable[[str], Path], tmp_path: Path) -> None:
    break_checkpoint(good("llama"), tmp_path / "m", add("v_head.weight", "v_head.bias", "mtp.0.w"))
    refused(tmp_path / "m", "3 weights", "unused=")
    refused(tmp_path / "m", "1 weight is", "mtp.0.w", taken=Taken(unused=("v_head.",)))
    _, warning = opened(tmp_path / "m", taken=Taken(unused=("v_head.", "mtp.")))
    assert warning is not None
    assert "3 weights" in warning
    assert "v_head.weight" in warning


def test_what_is_missing_cannot_be_excused(good: Callable[[str], Path], tmp_path: Path) -> None:
    break_checkpoint(good("llama"), tmp_path / "m", drop("lm_head"))
    refused(tmp_path / "m", "lm_head.weight", taken=Taken(unused=("lm_head",)))


def test_an_adapter_beside_the_weights_is_refused(
    good: Callable[[str], Path], tmp_path: Path
) -> None:
    break_checkpoint(good("llama"), tmp_path / "m", lambda *_: None)
    (tmp_path / "m" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    refused(tmp_path / "m", "adapter")


@pytest.mark.parametrize(
    "fields",
    [
        {"_attn_implementation": "eager"},
        {"attn_implementation": "eager"},
        {"_attn_implementation": "kernels-community/some-kernel"},
        {"_attn_implementation_internal": "eager"},
        {"_experts_implementation": "someone/some-experts"},
    ],
)
@pytest.mark.parametrize("name", ["llama", "qwen3_moe"])
def test_config_json_does_not_choose_the_kernels(
    good: Callable[[str], Path], tmp_path: Path, name: str, fields: dict[str, str]
) -> None:
    folder = tmp_path / "m"
    shutil.copytree(good(name), folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **fields}))
    assert opened(folder)[0] == "sdpa"
    assert opened(folder, attention="sdpa")[0] == "sdpa"
    assert opened(folder, attention="eager")[0] == "eager"
