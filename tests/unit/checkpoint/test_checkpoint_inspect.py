from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import CONFIG, Weights, checkpoint, latents, write_bin, write_config
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.checkpoint.findings import Inspection
from harness.checkpoint.inspect import inspect
from harness.errors import ModelError
from harness.model.model import Model


def look(folder: Path, **options: Any) -> Inspection:
    return inspect(Model("m", str(folder)), **options)


def with_config(tmp_path: Path, **changes: Any) -> Inspection:
    config = {k: v for k, v in {**CONFIG, **changes}.items() if v is not None}
    return look(checkpoint(tmp_path / "c", config=config))


def errors(found: Inspection) -> str:
    return " | ".join(f.what for f in found.findings if f.severity == "error")


def test_a_right_checkpoint_has_nothing_wrong(tmp_path: Path) -> None:
    found = with_config(tmp_path)
    assert found.ok
    assert found.wrong == ()
    assert found.family == "llama"
    # 2 layers, keys and values, 2 KV heads of 16, 2 bytes each
    assert found.kv_bytes_per_token == 2 * 2 * 2 * 16 * 2
    assert found.parameters == sum(a.size for a in latents().values())
    assert found.bytes == 2 * found.parameters


def test_a_pickle_is_inspected_like_safetensors(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    write_bin(tmp_path / "p" / "pytorch_model.bin", latents())
    write_config(tmp_path / "p")
    assert look(tmp_path / "p").fields == with_config(tmp_path).fields


@pytest.mark.parametrize(
    ("field", "wrong", "true"),
    [
        ("hidden_size", 128, 64),
        ("num_hidden_layers", 3, 2),
        ("intermediate_size", 97, 96),
        ("vocab_size", 51, 50),
        ("hidden_size", 64.0, 64),
        ("num_hidden_layers", None, 2),
        ("tie_word_embeddings", True, False),
        ("attention_bias", True, False),
    ],
)
def test_each_wrong_field_is_named_alone(tmp_path: Path, field: str, wrong: Any, true: Any) -> None:
    found = with_config(tmp_path, **{field: wrong})
    assert [(f.name, f.config, f.weights) for f in found.wrong] == [(field, wrong, true)]
    assert not found.ok


def test_heads_that_contradict_the_weights_are_told_by_head_dim(tmp_path: Path) -> None:
    found = with_config(tmp_path, num_attention_heads=8, num_key_value_heads=4)
    assert {f.name: f.weights for f in found.wrong} == {
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    }


def test_heads_that_nothing_tells_are_said_to_be_unknown(tmp_path: Path) -> None:
    found = with_config(tmp_path, num_attention_heads=8, num_key_value_heads=8, head_dim=None)
    heads = {f.name: f.status for f in found.fields if "head" in f.name}
    assert set(heads.values()) == {"unknown"}
    assert "head_dim may be 32 (2 heads, 1 KV), 16 (4 heads, 2 KV)" in errors(found)
    told = look(tmp_path / "c", head_dim=16)
    assert {f.name for f in told.wrong} == {
        "num_attention_heads",
        "num_key_value_heads",
        "head_dim",
    }


def test_a_missing_head_dim_that_is_implied_is_right(tmp_path: Path) -> None:
    assert with_config(tmp_path, head_dim=None).ok


def test_old_rotary_frequencies_tell_head_dim(tmp_path: Path) -> None:
    weights: Weights = latents()
    for layer in range(2):
        name = f"model.layers.{layer}.self_attn.rotary_emb.inv_freq"
        weights[name] = np.ones(8, np.float32)
    config = {**CONFIG, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
    found = look(checkpoint(tmp_path, weights, config))
    assert {f.name: f.weights for f in found.wrong}["head_dim"] == 16


def test_a_missing_and_a_misshapen_tensor_are_named(tmp_path: Path) -> None:
    weights = latents()
    del weights["model.layers.1.mlp.up_proj.weight"]
    weights["model.layers.0.self_attn.o_proj.weight"] = np.zeros((64, 60), np.uint16)
    said = errors(look(checkpoint(tmp_path, weights)))
    assert "model.layers.1.mlp.up_proj.weight is missing" in said
    assert "o_proj.weight is [64, 60], the other tensors ask for [64, 64]" in said


def test_a_missing_head_must_be_tied(tmp_path: Path) -> None:
    weights = latents()
    del weights["lm_head.weight"]
    found = look(checkpoint(tmp_path, weights))
    assert [(f.name, f.weights) for f in found.wrong] == [("tie_word_embeddings", True)]


def test_a_repeated_embedding_may_be_tied(tmp_path: Path) -> None:
    weights = latents()
    weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    assert look(checkpoint(tmp_path, weights, {**CONFIG, "tie_word_embeddings": True})).ok


def test_a_foreign_tensor_and_what_the_family_lacks_are_both_told(tmp_path: Path) -> None:
    weights = {**latents(), "model.layers.0.self_attn.q_norm.weight": np.zeros(16, np.uint16)}
    assert "a Llama has no place for" in errors(look(checkpoint(tmp_path / "l", weights)))
    found = look(checkpoint(tmp_path / "q", weights, {**CONFIG, "model_type": "qwen3"}))
    assert found.family == "qwen3"
    assert "model.layers.1.self_attn.q_norm.weight is missing" in errors(found)


def test_a_training_form_is_said_to_be_one(tmp_path: Path) -> None:
    weights = {
        name.replace("q_proj.weight", "q_proj.linear.weight"): array
        for name, array in latents().items()
    }
    weights["model.layers.0.self_attn.q_proj.weight_quantizer.scale"] = np.ones(64, np.float32)
    found = look(checkpoint(tmp_path, weights))
    assert found.family == "llama"
    assert "2 keys are wrapped and 1 are parameters of a quantizer" in errors(found)


@pytest.mark.parametrize(
    ("rope", "said"),
    [
        ({}, ""),
        ({"factor": 32.0}, "scales cos and sin by 1.3093, vLLM by 1.0000"),
        ({"factor": None}, "Transformers 4.57 ends with a TypeError"),
        ({"long_factor": [1.0] * 7}, "long_factor has 7 entries, head_dim 16 asks for 8"),
        ({"short_factor": [1.0] * 7 + [0]}, "short_factor is not a list of positive numbers"),
        ({"original_max_position_embeddings": 256}, "256 is above max_position_embeddings 128"),
        ({"original_max_position_embeddings": None}, "without original_max_position_embeddings"),
        ({"attention_factor": 1.5}, "attention_factor 1.5"),
    ],
)
@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_longrope_is_checked(tmp_path: Path, key: str, rope: dict[str, Any], said: str) -> None:
    right: dict[str, Any] = {
        "rope_type": "longrope",
        "factor": 1.0,
        "long_factor": [1.0] * 8,
        "short_factor": [1.0] * 8,
        "original_max_position_embeddings": 128,
    }
    changed = {k: v for k, v in {**right, **rope}.items() if v is not None}
    found = with_config(tmp_path, **{key: changed})
    assert said in errors(found)
    assert found.ok == (not said)


def test_differing_factors_beyond_the_original_length_are_a_warning(tmp_path: Path) -> None:
    rope = {
        "type": "su",
        "factor": 2.0,
        "long_factor": [2.0] * 8,
        "short_factor": [1.0] * 8,
        "original_max_position_embeddings": 64,
    }
    found = with_config(tmp_path, rope_scaling=rope)
    assert found.ok
    assert [f.severity for f in found.findings] == ["warning"]
    assert "vLLM takes the long ones for every position" in found.findings[0].what


@pytest.mark.parametrize(("scale", "fine"), [(12, False), (1, True), (1.0, True), (None, True)])
def test_mup_under_a_llama_is_an_error(tmp_path: Path, scale: float | None, fine: bool) -> None:
    found = with_config(tmp_path, scale_emb=scale, dim_model_base=64, scale_depth=2**0.5)
    assert found.ok == fine
    assert ("scale_emb 12" in errors(found)) == (not fine)


def test_a_tokenizer_larger_than_the_embeddings_is_an_error(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    tokenizer = {"model": {"vocab": {"a": 0}}, "added_tokens": [{"id": 50}]}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert "ids up to 50, the embeddings only 50 rows" in errors(look(folder))


def test_a_sentencepiece_tokenizer_is_counted(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path)
    (folder / "tokenizer.json").unlink()
    piece = b"\x0a\x08" + b"\x0a\x01a\x15\x00\x00\x80\x3f"
    (folder / "tokenizer.model").write_bytes(piece * 51 + b"\x12\x02\x08\x01")
    assert "ids up to 50, the embeddings only 50 rows" in errors(look(folder))


@pytest.mark.parametrize(
    "content",
    [
        '{"model": {',
        '{"model": {"vocab": {"a": 1e999}}}',
        '{"model": {"vocab": {"a": -1e999}}}',
        '{"model": {"vocab": {}}, "added_tokens": [{"id": 1e999, "content": "x"}]}',
    ],
)
def test_a_damaged_tokenizer_is_one_line(tmp_path: Path, content: str) -> None:
    folder = checkpoint(tmp_path)
    (folder / "tokenizer.json").write_text(content)
    with pytest.raises(ModelError, match=r"tokenizer\.json: not readable as a tokenizer"):
        look(folder)


def test_an_eos_id_outside_the_vocabulary_is_an_error(tmp_path: Path) -> None:
    assert "eos id 50 of config.json is outside" in errors(with_config(tmp_path, eos_token_id=50))


def test_custom_code_and_another_dtype_are_mentioned(tmp_path: Path) -> None:
    found = with_config(tmp_path, auto_map={"AutoModel": "m.M"}, torch_dtype="float32")
    said = [(f.severity, f.what.split(":")[0]) for f in found.findings]
    assert said == [
        ("warning", "config.json asks for code of the checkpoint (auto_map)"),
        ("note", "config.json declares float32, the weights are bfloat16"),
    ]


def test_weights_that_are_not_finite_are_counted_when_asked(tmp_path: Path) -> None:
    weights = latents()
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = 0x7FC0
    folder = checkpoint(tmp_path, weights)
    assert look(folder).ok
    read: list[str] = []
    found = look(folder, values=True, progress=read.append)
    assert "model.layers.1.mlp.up_proj.weight: 1 of 6144" in errors(found)
    assert len(read) == len(weights)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "c")
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    (folder / "config.json").unlink()
    (folder / "config.json").symlink_to(tmp_path / "config.json")
    with pytest.raises(ModelError, match="link out of its folder"):
        look(folder)


def test_the_json_form_holds_everything(tmp_path: Path) -> None:
    found = with_config(tmp_path, hidden_size=128)
    content = json.loads(json.dumps(found.as_json()))
    assert content["schema"] == "harness.inspection/1"
    assert content["ok"] is False
    assert content["fields"][0] == {
        "name": "hidden_size",
        "config": 128,
        "weights": 64,
        "status": "wrong",
        "note": "",
    }


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=2)
    ),
    max_leaves=4,
)
ROPE = st.fixed_dictionaries(
    {"rope_type": st.just("longrope")},
    optional=dict.fromkeys(
        (
            *("factor", "long_factor", "short_factor", "attention_factor", "short_mscale"),
            *("original_max_position_embeddings", "partial_rotary_factor"),
        ),
        ANYTHING | st.just([1.0] * 8),
    ),
)
KEYS = (
    *CONFIG,
    "scale_emb",
    "scale_depth",
    "dim_model_base",
    "auto_map",
    "attention_bias",
    "dtype",
)


@pytest.mark.slow
@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(st.sampled_from(KEYS), ANYTHING, max_size=4),
    st.dictionaries(st.sampled_from(("rope_scaling", "rope_parameters")), ROPE | ANYTHING),
)
def test_no_config_gives_anything_but_an_inspection_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, changes: dict[str, Any], rope: dict[str, Any]
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    checkpoint(folder, config={**CONFIG, "max_position_embeddings": 128, **changes, **rope})
    found = look(folder)
    json.dumps(found.as_json())
    assert found.ok == (not found.wrong and not errors(found))


def test_an_empty_matrix_is_told(tmp_path: Path) -> None:
    weights = latents()
    weights["model.layers.0.self_attn.k_proj.weight"] = np.zeros((0, 64), np.uint16)
    assert "k_proj.weight is [0, 64]" in errors(look(checkpoint(tmp_path, weights)))
