"""The table of families against Transformers: a tiny checkpoint of each type, made by its class."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.checkpoint.class_defaults import DEFAULTS
from harness.checkpoint.families import FAMILIES
from harness.checkpoint.findings import Inspection
from harness.checkpoint.inspect import inspect
from harness.devices.hf.skeleton import load_skeleton
from harness.model.model import Model

pytestmark = pytest.mark.engine

TYPES = [kind for family in FAMILIES for kind in family.types]
#: Types whose classes are the checkpoints' own code, or those of a wrapper's part.
ELSEWHERE = {"minicpm", "internlm", "internlm2", "internlm3", "kimi_k2", "hunyuan"}
SMALL: dict[str, Any] = {
    **{"hidden_size": 48, "intermediate_size": 112, "num_hidden_layers": 3, "vocab_size": 260},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "num_experts": 6},
    **{"moe_intermediate_size": 24, "shared_expert_intermediate_size": 40, "num_local_experts": 6},
    **{"n_routed_experts": 6, "num_experts_per_tok": 2, "moe_num_experts": 6, "moe_k": 2},
    **{"n_group": 1, "topk_group": 1, "first_k_dense_replace": 1, "q_lora_rank": 20},
    **{"kv_lora_rank": 18, "qk_nope_head_dim": 12, "qk_rope_head_dim": 8, "v_head_dim": 10},
    **{"moe_layer_start_index": 1, "state_size": 8, "time_step_rank": 4, "moe_topk": 2},
    **{"max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2},
    **{"num_nextn_predict_layers": 0, "max_window_layers": 3},
}


def tiny(kind: str, folder: Path, **more: Any) -> dict[str, Any]:
    """Save a random model of a type; returns its config.json."""
    transformers = pytest.importorskip("transformers")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    if kind not in CONFIG_MAPPING or kind not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        pytest.skip(f"this Transformers has no language model of the type {kind}")
    known = CONFIG_MAPPING[kind]().to_dict()
    fields = {key: value for key, value in SMALL.items() if key in known}
    if "layer_types" in known:
        fields["layer_types"] = None
    config = CONFIG_MAPPING[kind](**{**fields, **more})
    model = transformers.AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    content: dict[str, Any] = json.loads((folder / "config.json").read_text())
    return content


def look(folder: Path, config: dict[str, Any]) -> Inspection:
    (folder / "config.json").write_text(json.dumps(config))
    return inspect(Model("m", str(folder)))


def wrong(found: Inspection) -> list[str]:
    errors = [f.what for f in found.findings if f.severity == "error"]
    return [f.name for f in found.wrong] + errors


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind not in ELSEWHERE])
def test_what_the_class_saves_has_nothing_wrong_and_a_broken_config_is_told(
    tmp_path: Path, kind: str
) -> None:
    config = tiny(kind, tmp_path)
    found = look(tmp_path, config)
    assert found.known_as is not None
    assert wrong(found) == []
    for field in ("hidden_size", "num_hidden_layers", "vocab_size"):
        assert field in wrong(look(tmp_path, {**config, field: 777}))
    if not found.family.endswith(("moe", "mamba")):
        assert "intermediate_size" in wrong(look(tmp_path, {**config, "intermediate_size": 777}))


def test_a_load_without_memory_lists_the_keys_that_do_not_fit(tmp_path: Path) -> None:
    """One class whose layers are stored as they are, one whose experts are stacked."""
    config = tiny("qwen3_moe", tmp_path)
    model = Model("m", str(tmp_path))
    assert load_skeleton(model, quantized=False).findings == ()
    changed = {"num_hidden_layers": 2, "vocab_size": 300, "attention_bias": True}
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed}))
    found = load_skeleton(model, quantized=False)
    missing, shapes, surplus = found.findings
    assert [f.severity for f in found.findings] == ["error", "error", "warning"]
    assert "model.layers.0.self_attn.k_proj.bias" in missing.what
    assert "[260, 48] stored, [300, 48] in the class" in shapes.what
    assert "model.layers.2." in surplus.what
    assert str(found.checked).endswith("Qwen3MoeForCausalLM")


@pytest.mark.parametrize("kind", ["llama", "granite", "glm4", "cohere", "smollm3", "ernie4_5"])
def test_biases_that_the_config_asks_for_are_the_class_s(tmp_path: Path, kind: str) -> None:
    flag = "use_bias" if kind == "ernie4_5" else "attention_bias"
    config = tiny(kind, tmp_path, **{flag: True})
    assert wrong(look(tmp_path, config)) == []
    assert flag in wrong(look(tmp_path, {**config, flag: False}))


def test_norms_of_heads_that_the_config_asks_for(tmp_path: Path) -> None:
    config = tiny("cohere", tmp_path, use_qk_norm=True)
    assert wrong(look(tmp_path, config)) == []
    assert wrong(look(tmp_path, {**config, "use_qk_norm": False})) == ["use_qk_norm"]


def test_a_latent_attention_without_a_rank_of_queries(tmp_path: Path) -> None:
    config = tiny("deepseek_v2", tmp_path, q_lora_rank=None)
    assert wrong(look(tmp_path, config)) == []


@pytest.mark.parametrize("kind", [kind for kind in DEFAULTS if kind not in ELSEWHERE])
def test_the_defaults_are_those_of_the_class(kind: str) -> None:
    pytest.importorskip("transformers")
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this Transformers has no type {kind}")
    config = CONFIG_MAPPING[kind]()
    for name, value in DEFAULTS[kind].items():
        known = getattr(config, name, None)
        assert known in (None, value), f"{kind}: {name}"
