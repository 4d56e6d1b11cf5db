"""The families that are known, a row each. Sources: the ``configuration_*.py`` and
``modeling_*.py`` of Transformers 4.57 and 5, and vLLM's ``model_executor/models``.

A test makes a tiny checkpoint of each with Transformers itself and holds it to its row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.checkpoint.family import Family, Fields, Group, OneOf, classes_of

_SIZES = {
    "hidden": "hidden_size",
    "inner": "intermediate_size",
    "vocab": "vocab_size",
    "q": "num_attention_heads*head_dim",
    "k": "num_key_value_heads*head_dim",
    "head": "head_dim",
    "heads": "num_attention_heads",
    "kv": "num_key_value_heads",
}


def _linears(base: str, dims: Mapping[str, str], kind: str = "weight") -> dict[str, str]:
    """Keys of linears; a bias has the first dimension alone."""
    return {
        f"{base}.{name}.{kind}": shape if kind == "weight" else shape.partition(",")[0]
        for name, shape in dims.items()
    }


_QKV = {"q_proj": "q,hidden", "k_proj": "k,hidden", "v_proj": "k,hidden"}
_O = {"o_proj": "hidden,q"}
_MLP = {"gate_proj": "inner,hidden", "up_proj": "inner,hidden", "down_proj": "hidden,inner"}

ATTENTION = Group(_linears("self_attn", {**_QKV, **_O}))
QKV_BIAS = _linears("self_attn", _QKV, "bias")
O_BIAS = _linears("self_attn", _O, "bias")
BIASES = Group({**QKV_BIAS, **O_BIAS}, "attention_bias")
MLP = Group(_linears("mlp", _MLP))
MLP_BIAS = Group(_linears("mlp", _MLP, "bias"), "mlp_bias")
HEAD_NORMS = {"self_attn.q_norm.weight": "head", "self_attn.k_norm.weight": "head"}
NORMS = Group({"input_layernorm.weight": "hidden", "post_attention_layernorm.weight": "hidden"})
#: A buffer of old checkpoints: half a head's frequencies.
FREQUENCIES = Group({"self_attn.rotary_emb.inv_freq": "half"}, "?")
_LLAMA = (ATTENTION, MLP, NORMS, FREQUENCIES)
GATE_UP = Group(
    {"mlp.gate_up_proj.weight": "2*inner,hidden", "mlp.down_proj.weight": "hidden,inner"}
)
SANDWICH = Group(
    {
        "input_layernorm.weight": "hidden",
        "post_attention_layernorm.weight": "hidden",
        "pre_feedforward_layernorm.weight": "hidden",
        "post_feedforward_layernorm.weight": "hidden",
    }
)
POST_NORMS = Group(
    {"post_attention_layernorm.weight": "hidden", "post_feedforward_layernorm.weight": "hidden"}
)


def _experts(router: str, shared: Group | None = None, *more: Group) -> OneOf:
    """A dense MLP, or a router and experts, which may stand in one tensor."""
    each = {"gate_proj": "moe,hidden", "up_proj": "moe,hidden", "down_proj": "hidden,moe"}
    rest = (Group({router: "experts,hidden"}), *((shared,) if shared else ()), *more)
    stacked = Group(
        {"mlp.experts.gate_up_proj": "experts,*,*", "mlp.experts.down_proj": "experts,*,*"}
    )
    return OneOf(
        ((MLP,), (Group(_linears("mlp.experts.*", each)), *rest), (stacked, *rest)),
    )


def _shared(name: str) -> Group:
    each = {"gate_proj": "shared,hidden", "up_proj": "shared,hidden", "down_proj": "hidden,shared"}
    return Group(_linears(f"mlp.{name}", each))


_LATENT = (
    OneOf(
        (
            (Group({"self_attn.q_proj.weight": "mq,hidden"}),),
            (
                Group(
                    {
                        "self_attn.q_a_proj.weight": "qrank,hidden",
                        "self_attn.q_a_layernorm.weight": "qrank",
                        "self_attn.q_b_proj.weight": "mq,qrank",
                    }
                ),
                Group({"self_attn.q_a_proj.bias": "qrank"}, "?"),
            ),
        )
    ),
    Group(
        {
            "self_attn.kv_a_proj_with_mqa.weight": "rank+rope,hidden",
            "self_attn.kv_a_layernorm.weight": "rank",
            "self_attn.kv_b_proj.weight": "mkv,rank",
            "self_attn.o_proj.weight": "hidden,mo",
        }
    ),
    Group(
        {"self_attn.kv_a_proj_with_mqa.bias": "rank+rope", "self_attn.o_proj.bias": "hidden"}, "?"
    ),
    NORMS,
    FREQUENCIES,
)
_LATENT_SIZES = {
    "hidden": "hidden_size",
    "vocab": "vocab_size",
    "inner": "intermediate_size",
    "qrank": "q_lora_rank",
    "rank": "kv_lora_rank",
    "rope": "qk_rope_head_dim",
    "mq": "num_attention_heads*(qk_nope_head_dim+qk_rope_head_dim)",
    "mkv": "num_attention_heads*(qk_nope_head_dim+v_head_dim)",
    "mo": "num_attention_heads*v_head_dim",
    "moe": "moe_intermediate_size",
    "experts": "n_routed_experts",
    "shared": "n_shared_experts*moe_intermediate_size",
}
_CORRECTION = {"mlp.gate.e_score_correction_bias": "experts"}
_MUP = frozenset({"scale_emb", "dim_model_base", "scale_depth"})
_GEMMA = frozenset({"query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"})
_GRANITE = frozenset(
    {"embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"}
)


def _dense(name: str, kinds: str, classes: str, *layer: Group | OneOf, **more: Any) -> Family:
    """A row; names of types and classes are separated by blanks."""
    sizes = {**_SIZES, **more.pop("sizes", {})}
    return Family(name, tuple(kinds.split()), tuple(classes.split()), layer, sizes, **more)


_DENSE = (
    _dense("Llama", "llama", "LlamaForCausalLM", *_LLAMA, BIASES, MLP_BIAS, fused=True),
    _dense(
        "Mistral",
        "mistral ministral ministral3",
        "MistralForCausalLM MinistralForCausalLM Ministral3ForCausalLM",
        *_LLAMA,
        fused=True,
    ),
    _dense(
        "Qwen2",
        "qwen2 qwen2_vl qwen2_5_vl qwen2_vl_text qwen2_5_vl_text",
        "Qwen2ForCausalLM Qwen2VLForConditionalGeneration Qwen2_5_VLForConditionalGeneration",
        *_LLAMA,
        Group(QKV_BIAS),
        fused=True,
    ),
    _dense(
        "Qwen3",
        "qwen3 qwen3_vl_text",
        "Qwen3ForCausalLM",
        *_LLAMA,
        Group(HEAD_NORMS),
        BIASES,
        fused=True,
    ),
    _dense(
        "Gemma", "gemma", "GemmaForCausalLM", *_LLAMA, BIASES, fused=True, norm_is_one_plus=True
    ),
    _dense(
        "Gemma 2",
        "gemma2",
        "Gemma2ForCausalLM",
        *(ATTENTION, MLP, SANDWICH, BIASES),
        multipliers=_GEMMA,
        fused=True,
        norm_is_one_plus=True,
    ),
    _dense(
        "Gemma 3",
        "gemma3_text",
        "Gemma3ForCausalLM Gemma3TextModel",
        *(ATTENTION, MLP, SANDWICH, BIASES, Group(HEAD_NORMS)),
        multipliers=_GEMMA,
        fused=True,
        norm_is_one_plus=True,
    ),
    _dense(
        "Phi-3",
        "phi3",
        "Phi3ForCausalLM",
        Group({"self_attn.qkv_proj.weight": "q+2*k,hidden", **_linears("self_attn", _O)}),
        *(GATE_UP, NORMS),
    ),
    _dense(
        "GLM-4",
        "glm",
        "GlmForCausalLM",
        ATTENTION,
        GATE_UP,
        NORMS,
        Group(QKV_BIAS, "attention_bias"),
    ),
    _dense(
        "GLM-4-0414",
        "glm4 glm4v_text",
        "Glm4ForCausalLM",
        *(ATTENTION, GATE_UP, NORMS, Group(QKV_BIAS, "attention_bias")),
        Group({"post_mlp_layernorm.weight": "hidden", "post_self_attn_layernorm.weight": "hidden"}),
    ),
    _dense(
        "Granite",
        "granite",
        "GraniteForCausalLM",
        *_LLAMA,
        *(BIASES, MLP_BIAS),
        multipliers=_GRANITE,
        fused=True,
    ),
    _dense("OLMo", "olmo", "OlmoForCausalLM", ATTENTION, MLP, BIASES, norm="", fused=True),
    _dense(
        "OLMo 2",
        "olmo2 olmo3",
        "Olmo2ForCausalLM Olmo3ForCausalLM",
        *(ATTENTION, MLP, POST_NORMS, BIASES),
        Group({"self_attn.q_norm.weight": "q", "self_attn.k_norm.weight": "k"}),
        fused=True,
    ),
    _dense(
        "EXAONE 4",
        "exaone4",
        "Exaone4ForCausalLM",
        *(ATTENTION, MLP, POST_NORMS, Group(HEAD_NORMS)),
        fused=True,
    ),
    _dense("SmolLM3", "smollm3", "SmolLM3ForCausalLM", *_LLAMA, BIASES, MLP_BIAS, fused=True),
    _dense(
        "Seed-OSS",
        "seed_oss",
        "SeedOssForCausalLM",
        *_LLAMA,
        *(Group(QKV_BIAS, "attention_bias"), Group(O_BIAS, "attention_out_bias"), MLP_BIAS),
        fused=True,
    ),
    _dense(
        "MiniCPM",
        "minicpm",
        "MiniCPMForCausalLM",
        *_LLAMA,
        BIASES,
        multipliers=_MUP,
        fused=True,
        as_llama=True,
    ),
    _dense(
        "InternLM",
        "internlm",
        "InternLMForCausalLM",
        *_LLAMA,
        Group({**QKV_BIAS, **O_BIAS}, "bias"),
        fused=True,
    ),
    _dense(
        "InternLM2",
        "internlm2",
        "InternLM2ForCausalLM",
        Group({"attention.wqkv.weight": "q+2*k,hidden", "attention.wo.weight": "hidden,q"}),
        Group({"attention.wqkv.bias": "q+2*k", "attention.wo.bias": "hidden"}, "bias"),
        Group(
            {
                "feed_forward.w1.weight": "inner,hidden",
                "feed_forward.w3.weight": "inner,hidden",
                "feed_forward.w2.weight": "hidden,inner",
                "attention_norm.weight": "hidden",
                "ffn_norm.weight": "hidden",
            }
        ),
        embedding="tok_embeddings.weight",
        head="output.weight",
    ),
    _dense(
        "InternLM3",
        "internlm3",
        "InternLM3ForCausalLM",
        *_LLAMA,
        *(Group(QKV_BIAS, "qkv_bias"), Group({**O_BIAS, **MLP_BIAS.tensors}, "bias")),
        fused=True,
    ),
    _dense(
        "Cohere",
        "cohere cohere2",
        "CohereForCausalLM Cohere2ForCausalLM",
        *(ATTENTION, MLP, Group({"input_layernorm.weight": "hidden"}), BIASES),
        Group(
            {"self_attn.q_norm.weight": "heads,head", "self_attn.k_norm.weight": "kv,head"},
            "use_qk_norm",
        ),
        multipliers=frozenset({"logit_scale"}),
        fused=True,
    ),
    _dense(
        "ERNIE 4.5",
        "ernie4_5",
        "Ernie4_5ForCausalLM Ernie4_5_ForCausalLM",
        *_LLAMA,
        Group({**QKV_BIAS, **O_BIAS, **MLP_BIAS.tensors}, "use_bias"),
        fused=True,
    ),
    _dense(
        "Hunyuan",
        "hunyuan_v1_dense",
        "HunYuanDenseV1ForCausalLM",
        *_LLAMA,
        BIASES,
        Group(
            {
                "self_attn.query_layernorm.weight": "head",
                "self_attn.key_layernorm.weight": "head",
            },
            "use_qk_norm",
        ),
        fused=True,
    ),
)

_MIXTURES = (
    _dense(
        "Qwen2-MoE",
        "qwen2_moe",
        "Qwen2MoeForCausalLM",
        *(ATTENTION, NORMS, Group(QKV_BIAS, "qkv_bias")),
        _experts(
            "mlp.gate.weight",
            _shared("shared_expert"),
            Group({"mlp.shared_expert_gate.weight": "1,hidden"}),
        ),
        sizes={
            "moe": "moe_intermediate_size",
            "experts": "num_experts",
            "shared": "shared_expert_intermediate_size",
        },
    ),
    _dense(
        "Qwen3-MoE",
        "qwen3_moe qwen3_vl_moe_text",
        "Qwen3MoeForCausalLM",
        *(ATTENTION, NORMS, BIASES, Group(HEAD_NORMS)),
        _experts("mlp.gate.weight"),
        sizes={"moe": "moe_intermediate_size", "experts": "num_experts"},
    ),
    _dense(
        "Mixtral",
        "mixtral",
        "MixtralForCausalLM",
        *(ATTENTION, NORMS, FREQUENCIES),
        Group(
            {
                "block_sparse_moe.gate.weight": "experts,hidden",
                "block_sparse_moe.experts.*.w1.weight": "inner,hidden",
                "block_sparse_moe.experts.*.w2.weight": "hidden,inner",
                "block_sparse_moe.experts.*.w3.weight": "inner,hidden",
            }
        ),
        sizes={"experts": "num_local_experts"},
    ),
    _dense(
        "GLM-4.5",
        "glm4_moe glm4v_moe_text",
        "Glm4MoeForCausalLM",
        *(ATTENTION, NORMS, Group(QKV_BIAS, "attention_bias"), Group(HEAD_NORMS, "use_qk_norm")),
        _experts("mlp.gate.weight", _shared("shared_experts"), Group(_CORRECTION)),
        sizes={
            "moe": "moe_intermediate_size",
            "experts": "n_routed_experts",
            "shared": "n_shared_experts*moe_intermediate_size",
        },
        leading_dense="first_k_dense_replace",
    ),
    _dense(
        "gpt-oss",
        "gpt_oss",
        "GptOssForCausalLM",
        *(ATTENTION, NORMS, BIASES, Group({"self_attn.sinks": "heads"})),
        Group(
            {
                "mlp.router.weight": "experts,hidden",
                "mlp.router.bias": "experts",
                "mlp.experts.gate_up_proj_bias": "experts,2*inner",
                "mlp.experts.down_proj_bias": "experts,hidden",
            }
        ),
        OneOf(
            (
                (
                    Group(
                        {
                            "mlp.experts.gate_up_proj": "experts,hidden,2*inner",
                            "mlp.experts.down_proj": "experts,inner,hidden",
                        }
                    ),
                ),
                (
                    Group(
                        {
                            "mlp.experts.gate_up_proj_blocks": "experts,2*inner,*,*",
                            "mlp.experts.gate_up_proj_scales": "experts,2*inner,*",
                            "mlp.experts.down_proj_blocks": "experts,hidden,*,*",
                            "mlp.experts.down_proj_scales": "experts,hidden,*",
                        }
                    ),
                ),
            )
        ),
        sizes={"experts": "num_local_experts"},
    ),
    _dense(
        "ERNIE 4.5 MoE",
        "ernie4_5_moe",
        "Ernie4_5_MoeForCausalLM",
        *(ATTENTION, NORMS, Group({**QKV_BIAS, **O_BIAS, **MLP_BIAS.tensors}, "use_bias")),
        _experts(
            "mlp.gate.weight",
            Group(_shared("shared_experts").tensors, "?"),
            Group({"mlp.moe_statics.e_score_correction_bias": "1,experts"}),
        ),
        sizes={
            "moe": "moe_intermediate_size",
            "experts": "moe_num_experts",
            "shared": "moe_num_shared_experts*moe_intermediate_size",
        },
    ),
    _dense(
        "Hunyuan MoE",
        "hunyuan_v1_moe hunyuan",
        "HunYuanMoEV1ForCausalLM HunYuanMoeV1ForCausalLM",
        *(ATTENTION, NORMS, BIASES),
        Group(
            {
                "self_attn.query_layernorm.weight": "head",
                "self_attn.key_layernorm.weight": "head",
            },
            "use_qk_norm",
        ),
        _experts("mlp.gate.wg.weight", Group(_shared("shared_mlp").tensors, "?")),
        sizes={"experts": "num_experts"},
    ),
)

_LATENTS = (
    Family(
        "DeepSeek-V2",
        ("deepseek_v2",),
        ("DeepseekV2ForCausalLM",),
        (*_LATENT, _experts("mlp.gate.weight", Group(_shared("shared_experts").tensors, "?"))),
        _LATENT_SIZES,
        leading_dense="first_k_dense_replace",
    ),
    Family(
        "DeepSeek-V3",
        ("deepseek_v3", "kimi_k2"),
        ("DeepseekV3ForCausalLM",),
        (*_LATENT, _experts("mlp.gate.weight", _shared("shared_experts"), Group(_CORRECTION))),
        _LATENT_SIZES,
        leading_dense="first_k_dense_replace",
    ),
    Family(
        "MiniCPM3",
        ("minicpm3",),
        ("MiniCPM3ForCausalLM",),
        (*_LATENT, MLP),
        _LATENT_SIZES,
        multipliers=_MUP,
    ),
)

_MAMBA = Family(
    "Mamba",
    ("mamba",),
    ("MambaForCausalLM",),
    (
        Group(
            {
                "norm.weight": "hidden",
                "mixer.A_log": "inner,state",
                "mixer.D": "inner",
                "mixer.in_proj.weight": "2*inner,hidden",
                "mixer.conv1d.weight": "inner,1,kernel",
                "mixer.x_proj.weight": "rank+2*state,inner",
                "mixer.dt_proj.weight": "inner,rank",
                "mixer.dt_proj.bias": "inner",
                "mixer.out_proj.weight": "hidden,inner",
            }
        ),
        Group({"mixer.conv1d.bias": "inner"}, "use_conv_bias"),
        Group({"mixer.in_proj.bias": "2*inner", "mixer.out_proj.bias": "hidden"}, "use_bias"),
    ),
    {
        "hidden": "hidden_size",
        "vocab": "vocab_size",
        "state": "state_size",
        "kernel": "conv_kernel",
        "inner": "intermediate_size",
    },
    embedding="embeddings.weight",
    norm="norm_f.weight",
)

FAMILIES = (*_DENSE, *_MIXTURES, *_LATENTS, _MAMBA)
LLAMA = FAMILIES[0]

_BY_TYPE = {kind: family for family in FAMILIES for kind in family.types}
_BY_CLASS = {name: family for family in FAMILIES for name in family.classes}
#: The language model of a wrapper whose nested object does not name its type.
_INSIDE = {"llava": "llama", "llava_next": "llama", "gemma3": "gemma3_text", "mistral3": "mistral"}


def family_of(fields: Fields) -> tuple[Family | None, Family | None]:
    """The family by ``model_type``, which Transformers goes by, else by ``architectures``;
    and the family by ``architectures``, which vLLM goes by."""
    values = fields.values
    outer = fields.outer.get("model_type")
    kind = values.get("model_type") or (_INSIDE.get(str(outer)) if fields.within else None)
    named = [_BY_CLASS[name] for name in classes_of(values) if name in _BY_CLASS]
    by_class = named[0] if named else None
    by_type = _BY_TYPE.get(kind) if isinstance(kind, str) else None
    return by_type or by_class, by_class
