"""All of a config counts, but what is known to change no number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.model.config_fields import counts
from harness.model.config_form import config_differences, normal_form, normalized_config

#: Of a class that no release knows.
OURS: dict[str, Any] = {
    "architectures": ["OursForCausalLM"],
    "model_type": "ours",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "vocab_size": 100,
}
LLAMA: dict[str, Any] = {**OURS, "architectures": ["LlamaForCausalLM"], "model_type": "llama"}
GEMMA: dict[str, Any] = {
    **OURS,
    "architectures": ["Gemma3ForCausalLM"],
    "model_type": "gemma3_text",
    "num_hidden_layers": 2,
}


def form(**fields: Any) -> dict[str, Any]:
    return normalized_config({**OURS, **fields}, has_head=True)


def differ(mine: dict[str, Any], theirs: dict[str, Any], *, first: bool = False) -> list[str]:
    """The fields in which two files differ, the second perhaps recorded in the first form."""
    a, b = (normal_form(side, has_head=True) for side in (mine, theirs))
    found = config_differences(*a, b[0], None if first else b[1])
    return [key for key, x, y in found if x != y]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("attn_config", {"clip_qkv": 8, "attn_type": "mq", "rope_theta": 5e5}),
        ("block_types", ["recurrent", "attention"]),
        ("hybrid_override_pattern", "M-M*"),
        ("position_embedding_type", "alibi"),
        ("mlp_hidden_act", "relu2"),
        ("norm_topk_prob", False),
        ("use_qk_norm", False),
        ("attention_types", [[["global", "local"], 12]]),
        ("no_rope_layers", []),
        ("norm", ""),
        ("residual", {}),
        ("scale", 0),
        ("time_step_limit", [0.0, float("inf")]),
        ("deep", {"a": [{"b": "c"}, None]}),
    ],
)
def test_a_field_that_nobody_listed_counts(key: str, value: Any) -> None:
    told = form(**{key: value})
    assert told != form()
    json.dumps(told, allow_nan=False)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("_name_or_path", "elsewhere/model"),
        ("transformers_version", "4.40.0"),
        ("torch_dtype", "float16"),
        ("dtype", "bfloat16"),
        ("use_cache", False),
        ("auto_map", {"AutoModel": "modeling.py"}),
        ("attn_implementation", "eager"),
        ("hidden_dropout", 0.1),
        ("ffn_dropout_rate", 0.1),
        ("image_token_id", 7),
        ("vision_config", {"hidden_size": 12}),
        ("tokenizer_class", "Ours"),
        ("is_decoder", False),
        ("pruned_heads", {}),
        ("sliding_window", None),
    ],
)
def test_a_field_that_changes_no_number_does_not(key: str, value: Any) -> None:
    assert form(**{key: value}) == form()


def test_values_of_other_kinds_differ() -> None:
    for pair in ((0, False), (True, 1), ("8", 8), ([], None), ("", None), ({}, None)):
        a, b = (form(gate=value) for value in pair)
        assert json.dumps(a) != json.dumps(b), pair


class TestAClassThatTransformersKnows:
    @pytest.fixture(autouse=True)
    def transformers(self) -> None:
        pytest.importorskip("transformers")

    @pytest.mark.parametrize(
        "default",
        [
            {"hidden_act": "silu"},
            {"rms_norm_eps": 1e-6},
            {"num_hidden_layers": 32},
            {"mlp_bias": False},
            {"head_dim": 16},
            {"num_key_value_heads": 4},
            {"head_dim": None, "num_key_value_heads": None},
            {"rope_theta": 10000.0},
            {"rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"}},
        ],
    )
    def test_a_written_default_is_an_absent_field(self, default: dict[str, Any]) -> None:
        assert differ({**LLAMA, **default}, LLAMA) == []
        assert differ(LLAMA, {**LLAMA, **default}) == []
        assert normalized_config({**LLAMA, **default}, has_head=True) == normalized_config(
            LLAMA, has_head=True
        )

    def test_a_switch_whose_default_is_on_counts_when_it_is_off(self) -> None:
        gpt2 = {"architectures": ["GPT2LMHeadModel"], "model_type": "gpt2", "vocab_size": 100}
        assert differ({**gpt2, "scale_attn_weights": False}, gpt2) == ["scale_attn_weights"]
        assert differ({**gpt2, "scale_attn_weights": True}, gpt2) == []

    def test_a_null_that_switches_a_default_off_counts(self) -> None:
        gemma2 = {**OURS, "model_type": "gemma2"}
        assert differ({**gemma2, "attn_logit_softcapping": None}, gemma2) == [
            "attn_logit_softcapping"
        ]

    def test_two_ropes_have_one_spelling(self) -> None:
        four = {**GEMMA, "rope_theta": 1e6, "rope_local_base_freq": 1e4}
        kind = {"rope_type": "default"}
        five = {
            **GEMMA,
            "rope_parameters": {
                "full_attention": {**kind, "rope_theta": 1e6},
                "sliding_attention": {**kind, "rope_theta": 1e4},
            },
        }
        assert differ(four, five) == []
        five["rope_parameters"]["sliding_attention"]["rope_theta"] = 2e4
        assert differ(four, five) == ["rope"]

    def test_the_class_is_not_told_of_a_change_by_it(self) -> None:
        scaled = {**LLAMA, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
        before = json.dumps(scaled)
        normal_form(scaled, has_head=True)
        assert json.dumps(scaled) == before

    def test_a_release_that_does_not_know_a_field_agrees_with_its_default(self) -> None:
        config, defaults = normal_form(LLAMA, has_head=True)
        less = {k: v for k, v in defaults.items() if k != "mlp_bias"}
        assert all(a == b for _, a, b in config_differences(config, defaults, config, less))
        assert all(a == b for _, a, b in config_differences(config, less, config, defaults))
        other = {**defaults, "rms_norm_eps": 0.1}  # a release with another default
        found = [k for k, a, b in config_differences(config, defaults, config, other) if a != b]
        assert found == ["rms_norm_eps"]


class TestTheFirstForm:
    """Recordings of version 0.1 lack texts, tables with texts and switches that are off."""

    CONFIG = json.loads(
        Path(__file__).parents[3].joinpath("baselines/smollm2/port/bfloat16/reference.json")
        .read_text("utf-8")
    )["model"]["config"]  # fmt: skip

    def against(self, **changes: Any) -> list[str]:
        pytest.importorskip("transformers")
        rope = self.CONFIG["rope"]
        file = {k: v for k, v in self.CONFIG.items() if k != "rope"}
        file = {**file, "rope_theta": rope["rope_theta"], "attention_bias": False, **changes}
        config, defaults = normal_form(file, has_head=False)
        differences = config_differences(config, defaults, self.CONFIG, None)
        return [key for key, a, b in differences if a != b]

    def test_it_agrees_with_the_same_file(self) -> None:
        assert self.against() == []
        assert self.against(position_embedding_type="rope") == []  # as far as that form goes

    @pytest.mark.parametrize(
        "change",
        [
            {"hidden_act": "gelu"},
            {"rms_norm_eps": 1e-6},
            {"rope_theta": 10000.0},
            {"num_hidden_layers": 32},  # the class's default
            {"scale_emb": 12},
            {"attention_bias": True},
        ],
    )
    def test_it_differs_from_another(self, change: dict[str, Any]) -> None:
        [field] = change
        assert self.against(**change) == [field.replace("rope_theta", "rope")]

    def test_two_of_them_are_compared_as_they_are(self) -> None:
        found = list(config_differences({"a": "x"}, None, {"a": "y", "seq_aux": 1}, None))
        assert [key for key, *_ in found] == ["a", "seq_aux"]


def test_no_field_of_rope_counts_twice() -> None:
    assert not counts("rope_scaling")
    assert not counts("rope_theta")
