"""Each family of the table: a correct checkpoint has nothing wrong, a broken one is told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import CONFIG, checkpoint, latents
from family_checkpoints import config_of, made, weights_of

from harness.checkpoint.families import FAMILIES
from harness.checkpoint.family import Family
from harness.checkpoint.findings import Inspection
from harness.checkpoint.fix import plan_changes
from harness.checkpoint.fuse_plan import plan_fuse
from harness.checkpoint.inspect import inspect
from harness.errors import HarnessError, ModelError
from harness.model.model import Model

each_family = pytest.mark.parametrize("family", FAMILIES, ids=lambda f: f.types[0])
NAMES = {family.types[0]: family for family in FAMILIES}


def look(folder: Path, **options: Any) -> Inspection:
    return inspect(Model("m", str(folder)), **options)


def errors(found: Inspection) -> str:
    return " | ".join(f.what for f in found.findings if f.severity == "error")


@each_family
@pytest.mark.parametrize("flags", [False, True])
def test_a_correct_checkpoint_has_nothing_wrong(
    tmp_path: Path, family: Family, flags: bool
) -> None:
    config = config_of(family, flags=flags)
    found = look(checkpoint(tmp_path, weights_of(family, config), config))
    assert (found.wrong, errors(found)) == ((), "")
    assert found.known_as == family.name
    assert found.family == family.types[0]
    assert plan_changes(found) == []


@each_family
def test_a_missing_tensor_of_any_layer_is_named(tmp_path: Path, family: Family) -> None:
    config = config_of(family)
    weights = weights_of(family, config)
    gone = [name for name in weights if f"{family.stack}.1." in name][-1]
    del weights[gone]
    found = look(checkpoint(tmp_path, weights, config))
    assert not found.ok
    assert f"{gone} is missing" in errors(found)


@each_family
def test_a_tensor_that_the_family_lacks_switches_nothing_off(
    tmp_path: Path, family: Family
) -> None:
    config = config_of(family)
    weights = weights_of(family, config)
    weights["model.layers.0.self_attn.extra_norm.weight"] = np.zeros(16, np.uint16)
    found = look(checkpoint(tmp_path, weights, {**config, "num_hidden_layers": 5}))
    assert "layers.0.self_attn.extra_norm.weight" in errors(found)
    assert [f.name for f in found.wrong] == ["num_hidden_layers"]


@each_family
@pytest.mark.parametrize(
    "field", ["hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size"]
)
def test_a_dimension_of_a_sibling_is_named(tmp_path: Path, family: Family, field: str) -> None:
    found = look(made(tmp_path, family, **{field: 777}))
    inner = field == "intermediate_size" and not any(
        dims == "inner" or "inner" in dims.split(",") for dims in family.dimensions().values()
    )
    assert inner or field in [f.name for f in found.wrong]


@each_family
def test_a_missing_head_must_be_tied(tmp_path: Path, family: Family) -> None:
    config = {**config_of(family), "tie_word_embeddings": True}
    weights = weights_of(family, config)
    assert look(checkpoint(tmp_path / "tied", weights, config)).ok
    found = look(checkpoint(tmp_path / "m", weights, {**config, "tie_word_embeddings": False}))
    assert [f.name for f in found.wrong] == ["tie_word_embeddings"]


@pytest.mark.parametrize("kind", ["qwen2", "glm", "seed_oss", "gpt_oss", "qwen2_moe"])
def test_biases_that_a_class_always_has_need_no_field(tmp_path: Path, kind: str) -> None:
    family = NAMES[kind]
    config = config_of(family, flags=True)
    weights = weights_of(family, {**config, "attention_out_bias": False, "mlp_bias": False})
    silent = {k: v for k, v in config.items() if "bias" not in k}
    found = look(checkpoint(tmp_path, weights, silent))
    assert (found.wrong, errors(found)) == ((), "")


@pytest.mark.parametrize("kind", ["mistral", "llama", "qwen3"])
def test_biases_that_a_class_leaves_out_are_told(tmp_path: Path, kind: str) -> None:
    config = config_of(NAMES[kind])
    weights = weights_of(NAMES[kind], config)
    for layer in range(2):
        for x, rows in (("q", 64), ("k", 32), ("v", 32)):
            weights[f"model.layers.{layer}.self_attn.{x}_proj.bias"] = np.ones(rows, np.uint16)
    assert not look(checkpoint(tmp_path, weights, config)).ok


@pytest.mark.parametrize("kind", ["qwen3", "gemma3_text", "hunyuan_v1_dense", "gpt_oss"])
def test_heads_that_a_tensor_tells_are_not_taken_from_config(tmp_path: Path, kind: str) -> None:
    wrong = {"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    found = look(made(tmp_path, NAMES[kind], **wrong))
    assert {f.name: f.weights for f in found.wrong} == {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
    }


def test_a_latent_attention_is_held_against_its_product(tmp_path: Path) -> None:
    found = look(made(tmp_path, NAMES["deepseek_v3"], qk_nope_head_dim=16))
    assert "num_attention_heads × (qk_nope_head_dim + qk_rope_head_dim)" in errors(found)
    with pytest.raises(ModelError, match="do not determine the heads"):
        plan_changes(found)


def test_a_missing_expert_is_named(tmp_path: Path) -> None:
    config = config_of(NAMES["qwen3_moe"])
    weights = weights_of(NAMES["qwen3_moe"], config)
    del weights["model.layers.1.mlp.experts.2.up_proj.weight"]
    said = errors(look(checkpoint(tmp_path, weights, config)))
    assert "model.layers.1.mlp.experts.2.up_proj.weight is missing" in said


def test_layers_that_predict_further_tokens_are_no_layers(tmp_path: Path) -> None:
    config = config_of(NAMES["deepseek_v3"])
    weights = weights_of(NAMES["deepseek_v3"], config)
    weights["model.layers.2.eh_proj.weight"] = np.zeros((64, 128), np.uint16)
    weights["model.layers.2.enorm.weight"] = np.zeros(64, np.uint16)
    found = look(checkpoint(tmp_path, weights, {**config, "num_nextn_predict_layers": 1}))
    assert found.ok
    assert "1 layers that predict further tokens" in found.not_checked


@pytest.mark.parametrize(
    ("outer", "prefix"),
    [("llava", "language_model.model."), ("qwen3_vl", "model.language_model.")],
)
def test_a_wrapper_is_read_at_its_language_model(tmp_path: Path, outer: str, prefix: str) -> None:
    inner = config_of(NAMES["qwen3"])
    weights = weights_of(NAMES["qwen3"], inner, prefix)
    weights = {
        name if name.startswith(prefix) else "lm_head.weight": array
        for name, array in weights.items()
    }
    weights["visual.blocks.0.attn.qkv.weight"] = np.zeros((8, 8), np.uint16)
    config = {"model_type": outer, "text_config": inner, "vision_config": {}, "dtype": "bfloat16"}
    found = look(checkpoint(tmp_path, weights, config))
    assert (found.wrong, errors(found), found.within) == ((), "", "text_config")
    assert any("visual (1)" in f.what for f in found.findings)
    config["text_config"] = {**inner, "num_hidden_layers": 4}
    found = look(checkpoint(tmp_path, weights, config))
    assert [f.name for f in found.wrong] == ["num_hidden_layers"]
    with pytest.raises(ModelError, match="stand under text_config"):
        plan_changes(found)


def test_fields_that_a_wrapper_leaves_out_are_the_class_s(tmp_path: Path) -> None:
    inner = {"model_type": "gemma3_text", "hidden_size": 64, "num_hidden_layers": 2}
    config = config_of(NAMES["gemma3_text"])
    weights = weights_of(NAMES["gemma3_text"], config, "language_model.model.")
    found = look(checkpoint(tmp_path, weights, {"model_type": "gemma3", "text_config": inner}))
    # 4 heads of 16 where the class has 8 of 256: what it would take is held as well.
    assert {f.name for f in found.wrong} >= {"head_dim", "num_attention_heads", "vocab_size"}
    assert "num_key_value_heads" in {f.name for f in found.wrong}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, ""),
        ({"num_hidden_layers": 4}, "num_hidden_layers"),
        ({"vocab_size": 512}, "vocab_size"),
        ({"vocab_size": 30}, ""),  # rows beyond the vocabulary are some classes' own
    ],
)
def test_a_family_that_is_not_known_is_checked_in_part(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    config = {**CONFIG, "model_type": "newest", "architectures": ["NewestForCausalLM"], **change}
    weights = {name.replace("self_attn", "mixer"): a for name, a in latents().items()}
    found = look(checkpoint(tmp_path, weights, config))
    assert " ".join(f.name for f in found.wrong) == said
    assert found.known_as is None
    assert any("not among the families" in f.what for f in found.findings)
    assert "the tensors of each layer, and the other dimensions" in found.not_checked


def test_a_lost_layer_and_a_lost_head_need_no_family(tmp_path: Path) -> None:
    config = {**CONFIG, "model_type": "newest", "architectures": [], "num_hidden_layers": 2}
    weights = {n.replace("layers.0.", "layers.7."): a for n, a in latents().items()}
    del weights["lm_head.weight"]
    found = look(checkpoint(tmp_path, weights, config))
    assert "layer 0 of model.layers is missing" in errors(found)
    assert {"num_hidden_layers", "tie_word_embeddings"} == {f.name for f in found.wrong}
    with pytest.raises(ModelError, match="is not known"):
        plan_changes(found)


def test_weights_of_another_family_are_told(tmp_path: Path) -> None:
    config = config_of(NAMES["mamba"])
    found = look(checkpoint(tmp_path, weights_of(NAMES["mamba"], config), dict(CONFIG)))
    assert "config.json says Llama" in errors(found)


def test_model_type_and_architectures_that_contradict_are_told(tmp_path: Path) -> None:
    found = look(made(tmp_path, NAMES["qwen3"], architectures=["LlamaForCausalLM"]))
    said = [f.what for f in found.findings if f.severity == "warning"]
    assert any("Transformers goes by the former, vLLM by the latter" in what for what in said)


@pytest.mark.parametrize(
    ("kind", "multiplier", "fine"),
    [
        ("granite", {"embedding_multiplier": 12.0, "logits_scaling": 8.0}, True),
        ("llama", {"embedding_multiplier": 12.0, "logits_scaling": 8.0}, False),
        ("cohere", {"logit_scale": 0.0625}, True),
        ("qwen2", {"logit_scale": 0.0625}, False),
        ("gemma2", {"final_logit_softcapping": 30.0}, True),
        ("mistral", {"final_logit_softcapping": 30.0}, False),
        ("mistral", {"final_logit_softcapping": None, "embedding_multiplier": 1}, True),
        ("minicpm", {"scale_emb": 12}, True),
        ("qwen3", {"scale_emb": 12}, False),
    ],
)
def test_multipliers_belong_to_the_families_that_obey_them(
    tmp_path: Path, kind: str, multiplier: dict[str, Any], fine: bool
) -> None:
    config = config_of(NAMES[kind], flags=kind == "qwen2")
    found = look(checkpoint(tmp_path, weights_of(NAMES[kind], config), {**config, **multiplier}))
    assert found.ok == fine
    assert fine or next(iter(multiplier)) in errors(found)


@each_family
def test_fuse_keeps_the_family_or_refuses_it(tmp_path: Path, family: Family) -> None:
    source = made(tmp_path / "in", family)
    if not family.fused:
        with pytest.raises(HarnessError, match=r"not defined for|no linear of"):
            plan_fuse(Model("m", str(source)), tmp_path / "out", 8)
        return
    config = config_of(family)
    rng = np.random.default_rng(0)
    weights = {
        name: rng.integers(0x3C00, 0x3F80, array.shape).astype(np.uint16)
        for name, array in weights_of(family, config).items()
    }
    plan = plan_fuse(Model("m", str(checkpoint(source, weights, config))), tmp_path / "out", 8)
    kept = "llama" if family.as_llama else family.types[0]
    assert plan.config["model_type"] == kept
    assert all(plan.config[key] == config[key] for key in ("hidden_size", "tie_word_embeddings"))


def test_fuse_refuses_a_family_that_is_not_known(tmp_path: Path) -> None:
    config = {**CONFIG, "model_type": "newest", "architectures": ["NewestForCausalLM"]}
    with pytest.raises(ModelError, match="not among the families"):
        plan_fuse(Model("m", str(checkpoint(tmp_path / "in", config=config))), tmp_path / "o", 8)


@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("minicpm", {"num_experts": 8}),
        ("deepseek_v2", {"use_mla": False, "kv_lora_rank": None, "qk_nope_head_dim": 0}),
        ("hunyuan_v1_moe", {"use_cla": True, "model_type": "hunyuan"}),
    ],
)
def test_a_class_that_builds_other_tensors_is_checked_in_part(
    tmp_path: Path, kind: str, changes: dict[str, Any]
) -> None:
    config = config_of(NAMES[kind])
    weights = {
        name.replace("v_proj", "another").replace("kv_b_proj", "another").replace("mlp", "moe"): a
        for name, a in weights_of(NAMES[kind], config).items()
    }
    assert not look(checkpoint(tmp_path / "a", weights, config)).ok
    found = look(checkpoint(tmp_path / "b", weights, {**config, **changes}))
    assert (found.wrong, errors(found), found.known_as) == ((), "", None)
    found = look(checkpoint(tmp_path / "c", weights, {**config, **changes, "vocab_size": 777}))
    assert [f.name for f in found.wrong] == ["vocab_size"]


@pytest.mark.parametrize(
    ("name", "fine"),
    [
        ("LlamaForSequenceClassification", True),
        ("LlamaModel", True),
        ("LlamaForCausalLM", False),
        ("ChatGLMModel", False),
        ("GPT2LMHeadModel", False),
    ],
)
def test_a_class_without_a_head_lacks_none(tmp_path: Path, name: str, fine: bool) -> None:
    weights = {n: a for n, a in latents().items() if n != "lm_head.weight"}
    found = look(checkpoint(tmp_path, weights, {**CONFIG, "architectures": [name]}))
    assert found.ok == fine
    assert [f.name for f in found.wrong] == ([] if fine else ["tie_word_embeddings"])
