"""Rows of mixtures of experts, of latent attention and of state spaces."""

from __future__ import annotations

from harness.checkpoint.family import Family, Group, OneOf
from harness.checkpoint.family_parts import (
    ATTENTION,
    BIASES,
    CORRECTION,
    FREQUENCIES,
    HEAD_NORMS,
    LATENT,
    LATENT_SIZES,
    LAYERNORMS_OF_HEADS,
    MLP,
    MLP_BIAS,
    MUP,
    NORMS,
    O_BIAS,
    QKV_BIAS,
    experts,
    row,
    shared,
)

MIXTURES = (
    row(
        "Qwen2-MoE",
        "qwen2_moe",
        "Qwen2MoeForCausalLM",
        *(ATTENTION, NORMS, Group(QKV_BIAS, "qkv_bias")),
        experts(
            "mlp.gate.weight",
            shared("shared_expert"),
            Group({"mlp.shared_expert_gate.weight": "1,hidden"}),
        ),
        sizes={
            "moe": "moe_intermediate_size",
            "experts": "num_experts",
            "shared": "shared_expert_intermediate_size",
        },
    ),
    row(
        "Qwen3-MoE",
        "qwen3_moe qwen3_vl_moe_text",
        "Qwen3MoeForCausalLM",
        *(ATTENTION, NORMS, BIASES, Group(HEAD_NORMS)),
        experts("mlp.gate.weight"),
        sizes={"moe": "moe_intermediate_size", "experts": "num_experts"},
    ),
    row(
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
    row(
        "GLM-4.5",
        "glm4_moe glm4v_moe_text",
        "Glm4MoeForCausalLM",
        *(ATTENTION, NORMS, Group(QKV_BIAS, "attention_bias"), Group(HEAD_NORMS, "use_qk_norm")),
        experts("mlp.gate.weight", shared("shared_experts"), Group(CORRECTION)),
        sizes={
            "moe": "moe_intermediate_size",
            "experts": "n_routed_experts",
            "shared": "n_shared_experts*moe_intermediate_size",
        },
        leading_dense="first_k_dense_replace",
    ),
    row(
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
    row(
        "ERNIE 4.5 MoE",
        "ernie4_5_moe",
        "Ernie4_5_MoeForCausalLM",
        *(ATTENTION, NORMS, Group({**QKV_BIAS, **O_BIAS, **MLP_BIAS.tensors}, "use_bias")),
        experts(
            "mlp.gate.weight",
            Group(shared("shared_experts").tensors, "?"),
            Group({"mlp.moe_statics.e_score_correction_bias": "1,experts"}),
        ),
        sizes={
            "moe": "moe_intermediate_size",
            "experts": "moe_num_experts",
            "shared": "moe_num_shared_experts*moe_intermediate_size",
        },
    ),
    row(
        "Hunyuan MoE",
        "hunyuan_v1_moe hunyuan",
        "HunYuanMoEV1ForCausalLM HunYuanMoeV1ForCausalLM",
        *(ATTENTION, NORMS, BIASES),
        LAYERNORMS_OF_HEADS,
        experts("mlp.gate.wg.weight", Group(shared("shared_mlp").tensors, "?")),
        sizes={"experts": "num_experts"},
        holds={"use_cla": False},  # else layers share their keys and values
    ),
)

LATENTS = (
    Family(
        "DeepSeek-V2",
        ("deepseek_v2",),
        ("DeepseekV2ForCausalLM",),
        (*LATENT, experts("mlp.gate.weight", Group(shared("shared_experts").tensors, "?"))),
        LATENT_SIZES,
        leading_dense="first_k_dense_replace",
        holds={"use_mla": True},  # else plain queries and keys
    ),
    Family(
        "DeepSeek-V3",
        ("deepseek_v3", "kimi_k2"),
        ("DeepseekV3ForCausalLM",),
        (*LATENT, experts("mlp.gate.weight", shared("shared_experts"), Group(CORRECTION))),
        LATENT_SIZES,
        leading_dense="first_k_dense_replace",
    ),
    Family(
        "MiniCPM3",
        ("minicpm3",),
        ("MiniCPM3ForCausalLM",),
        (*LATENT, MLP),
        LATENT_SIZES,
        multipliers=MUP,
    ),
)

MAMBA = Family(
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
