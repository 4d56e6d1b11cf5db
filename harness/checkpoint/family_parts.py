"""Groups of tensors that rows of the table of families share, and what makes a row of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.checkpoint.family import Family, Group, OneOf

SIZES = {
    "hidden": "hidden_size",
    "inner": "intermediate_size",
    "vocab": "vocab_size",
    "q": "num_attention_heads*head_dim",
    "k": "num_key_value_heads*head_dim",
    "head": "head_dim",
    "heads": "num_attention_heads",
    "kv": "num_key_value_heads",
}


def linears(base: str, dims: Mapping[str, str], kind: str = "weight") -> dict[str, str]:
    """Keys of linears; a bias has the first dimension alone."""
    return {
        f"{base}.{name}.{kind}": shape if kind == "weight" else shape.partition(",")[0]
        for name, shape in dims.items()
    }


QKV = {"q_proj": "q,hidden", "k_proj": "k,hidden", "v_proj": "k,hidden"}
OUT = {"o_proj": "hidden,q"}
MLP_DIMS = {"gate_proj": "inner,hidden", "up_proj": "inner,hidden", "down_proj": "hidden,inner"}

ATTENTION = Group(linears("self_attn", {**QKV, **OUT}))
QKV_BIAS = linears("self_attn", QKV, "bias")
O_BIAS = linears("self_attn", OUT, "bias")
BIASES = Group({**QKV_BIAS, **O_BIAS}, "attention_bias")
MLP = Group(linears("mlp", MLP_DIMS))
MLP_BIAS = Group(linears("mlp", MLP_DIMS, "bias"), "mlp_bias")
HEAD_NORMS = {"self_attn.q_norm.weight": "head", "self_attn.k_norm.weight": "head"}
NORMS = Group({"input_layernorm.weight": "hidden", "post_attention_layernorm.weight": "hidden"})
#: Norms of heads, under Hunyuan's names.
LAYERNORMS_OF_HEADS = Group(
    {"self_attn.query_layernorm.weight": "head", "self_attn.key_layernorm.weight": "head"},
    "use_qk_norm",
)
#: A buffer of old checkpoints: half a head's frequencies.
FREQUENCIES = Group({"self_attn.rotary_emb.inv_freq": "half"}, "?")
LLAMA_LAYER = (ATTENTION, MLP, NORMS, FREQUENCIES)
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


def experts(router: str, shared: Group | None = None, *more: Group) -> OneOf:
    """A dense MLP, or a router and experts, which may stand in one tensor."""
    each = {"gate_proj": "moe,hidden", "up_proj": "moe,hidden", "down_proj": "hidden,moe"}
    rest = (Group({router: "experts,hidden"}), *((shared,) if shared else ()), *more)
    stacked = Group(
        {"mlp.experts.gate_up_proj": "experts,*,*", "mlp.experts.down_proj": "experts,*,*"}
    )
    return OneOf(
        ((MLP,), (Group(linears("mlp.experts.*", each)), *rest), (stacked, *rest)),
        dense_first=True,
    )


def shared(name: str) -> Group:
    each = {"gate_proj": "shared,hidden", "up_proj": "shared,hidden", "down_proj": "hidden,shared"}
    return Group(linears(f"mlp.{name}", each))


LATENT = (
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
LATENT_SIZES = {
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
CORRECTION = {"mlp.gate.e_score_correction_bias": "experts"}
MUP = frozenset({"scale_emb", "dim_model_base", "scale_depth"})
GEMMA = frozenset({"query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"})
GRANITE = frozenset(
    {"embedding_multiplier", "residual_multiplier", "attention_multiplier", "logits_scaling"}
)


def row(name: str, kinds: str, classes: str, *layer: Group | OneOf, **more: Any) -> Family:
    """A row; names of types and classes are separated by blanks."""
    sizes = {**SIZES, **more.pop("sizes", {})}
    return Family(name, tuple(kinds.split()), tuple(classes.split()), layer, sizes, **more)
