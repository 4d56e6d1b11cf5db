"""The architectures of the zoo: ``model_type`` of Transformers, and what each needs beside
the common sizes. Of a field, only what the class of the type knows is given to it."""

from __future__ import annotations

from typing import Any

#: Heads of 32 numbers: vLLM's CPU attention takes no smaller ones.
SIZES: dict[str, Any] = {
    **{"vocab_size": 512, "max_position_embeddings": 256, "num_hidden_layers": 2},
    **{"hidden_size": 128, "intermediate_size": 256, "head_dim": 32},
    **{"num_attention_heads": 4, "num_key_value_heads": 2, "query_pre_attn_scalar": 32},
    **{"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0},
    # Other names of the same.
    **{"n_embd": 128, "n_layer": 2, "n_head": 4, "n_inner": 256, "n_positions": 256},
    **{"ffn_dim": 256, "word_embed_proj_dim": 128, "n_ctx": 256, "max_window_layers": 2},
    # Mixtures of experts.
    **{"num_experts": 8, "num_local_experts": 8, "n_routed_experts": 8, "moe_num_experts": 8},
    **{"num_experts_per_tok": 2, "moe_k": 2, "moe_topk": 2, "n_group": 1, "topk_group": 1},
    **{"moe_intermediate_size": 64, "shared_expert_intermediate_size": 64},
    **{"first_k_dense_replace": 1, "moe_layer_start_index": 1, "num_nextn_predict_layers": 0},
    # Latent attention.
    **{"q_lora_rank": 64, "kv_lora_rank": 64, "qk_nope_head_dim": 32, "qk_rope_head_dim": 32},
    **{"v_head_dim": 32},
    # State spaces.
    **{"state_size": 16, "time_step_rank": 8, "sliding_window": 64},
}

#: Where the class's own stretches a context that is longer than these models have.
_PLAIN_ROPE = {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0}}
#: The sizes of a latent that vLLM's CPU engine has a kernel for.
_LATENT = {"num_key_value_heads": 4, "kv_lora_rank": 512, "qk_rope_head_dim": 64}
#: What a type needs beside that. vLLM's own classes run most of them; for a few it takes
#: Transformers' class, or none.
KINDS: dict[str, dict[str, Any]] = {
    **{kind: {} for kind in ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2")},
    "gemma3_text": {},
    **{kind: {} for kind in ("phi", "phi3", "glm", "glm4", "granite", "olmo", "olmo2", "olmo3")},
    **{kind: {} for kind in ("exaone4", "smollm3", "seed_oss", "cohere", "cohere2", "ernie4_5")},
    **{kind: {} for kind in ("hunyuan_v1_dense", "starcoder2", "stablelm", "nemotron", "arcee")},
    **{kind: {} for kind in ("helium", "persimmon", "gpt_neox", "gpt2", "opt")},
    **{kind: {} for kind in ("bloom", "gptj", "gpt_bigcode")},
    "apertus": _PLAIN_ROPE,
    "ministral3": _PLAIN_ROPE,
    "falcon": {"new_decoder_architecture": True, "num_kv_heads": 2},
    "mpt": {"d_model": 128, "n_heads": 4, "n_layers": 2, "max_seq_len": 256},
    "minicpm3": {"num_key_value_heads": 4},
    # Mixtures of experts.
    "mixtral": {},
    "qwen2_moe": {},
    "qwen3_moe": {},
    "qwen3_next": {
        **{"linear_num_key_heads": 2, "linear_num_value_heads": 4},
        **{"linear_key_head_dim": 32, "linear_value_head_dim": 32},
        "layer_types": ["linear_attention", "full_attention"],
    },
    **{kind: {} for kind in ("glm4_moe", "granitemoe", "granitemoeshared", "olmoe", "phimoe")},
    **{kind: {} for kind in ("ernie4_5_moe", "hunyuan_v1_moe")},
    # vLLM takes no gpt-oss without YaRN.
    "gpt_oss": {
        "rope_parameters": {
            **{"rope_type": "yarn", "rope_theta": 150000.0, "factor": 2.0},
            **{"original_max_position_embeddings": 128, "beta_fast": 32.0, "beta_slow": 1.0},
            "truncate": False,
        },
    },
    # Latent attention.
    "deepseek_v2": _LATENT,
    # vLLM looks here for the routers' bias; Transformers has no such field.
    "deepseek_v3": {**_LATENT, "topk_method": "noaux_tc"},
    # State spaces, and mixed with attention.
    "mamba": {},
    "mamba2": {"num_heads": 8, "n_groups": 1, "expand": 2, "head_dim": 32},
    "falcon_mamba": {},
    "bamba": {
        **{"mamba_n_heads": 8, "mamba_d_head": 32, "mamba_n_groups": 1, "mamba_d_state": 16},
        "attn_layer_indices": [1],
    },
    "jamba": {"mamba_d_state": 16, "attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
}
