"""What each class takes where config.json says nothing, by ``model_type``.

Read from Transformers 5 and 4.57; a blank (``-``) where a class has no number of its own, or where
both have another. A test holds the table against the Transformers that is installed. MiniCPM and
InternLM 1 to 3 are not in Transformers: their rows are from memory, and no test holds them.
"""

from __future__ import annotations

from typing import Any

_COLUMNS = (
    *("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads"),
    *("num_key_value_heads", "head_dim", "vocab_size", "max_position_embeddings"),
    "tie_word_embeddings",
)
#: The columns as above, then rope_theta in Transformers 4.57 and in 5.
_TABLE = """
llama             4096 11008 32 32  -  -   32000  2048   no  10000   10000
mistral           4096 14336 32 32  8  -   32000  131072 no  10000   10000
ministral         4096 14336 32 32  8  -   32000  131072 no  10000   10000
ministral3        4096 14336 34 32  8  128 131072 262144 no  -       1000000
qwen2             4096 22016 32 32  32 -   151936 32768  no  10000   10000
qwen2_vl          8192 29568 80 64  8  -   152064 32768  no  1000000 1000000
qwen2_5_vl        8192 29568 80 64  8  -   152064 32768  no  1000000 1000000
qwen2_vl_text     8192 29568 80 64  8  -   152064 32768  no  1000000 1000000
qwen2_5_vl_text   8192 29568 80 64  8  -   152064 32768  no  1000000 1000000
qwen3             4096 22016 32 32  32 128 151936 32768  no  10000   10000
qwen3_vl_text     4096 22016 32 32  32 128 151936 128000 no  5000000 500000
gemma             3072 24576 28 16  16 256 256000 8192   yes 10000   10000
gemma2            2304 9216  26 8   4  256 256000 8192   yes 10000   10000
gemma3_text       2304 9216  26 8   4  256 262208 131072 yes 1000000 1000000
phi3              3072 8192  32 32  -  -   32064  4096   no  10000   10000
glm               4096 13696 40 32  2  128 151552 131072 no  10000   10000
glm4              4096 13696 40 32  2  128 151552 131072 no  10000   10000
glm4v_text        4096 13696 40 32  2  -   151552 32768  no  10000   10000
granite           4096 11008 32 32  -  -   32000  2048   no  10000   10000
olmo              4096 11008 32 32  -  -   50304  2048   no  10000   10000
olmo2             4096 11008 32 32  -  -   50304  2048   no  10000   10000
olmo3             4096 11008 32 32  -  -   50304  2048   no  10000   500000
exaone4           4096 16384 32 32  32 -   102400 2048   no  10000   10000
smollm3           2048 11008 36 16  4  -   128256 32768  yes 2000000 2000000
seed_oss          4096 27648 64 80  8  128 155136 524288 no  10000   10000
cohere            8192 22528 40 64  -  -   256000 8192   yes 10000   500000
cohere2           8192 22528 40 64  -  -   256000 8192   yes 10000   10000
ernie4_5          1024 3072  18 16  2  128 103424 131072 yes 500000  500000
hunyuan_v1_dense  4096 11008 32 32  -  -   290943 2048   no  10000   10000
qwen2_moe         2048 5632  24 16  16 -   151936 32768  no  10000   10000
qwen3_moe         2048 6144  24 32  4  -   151936 32768  no  10000   10000
qwen3_vl_moe_text 2048 5632  24 16  16 -   151936 128000 -   5000000 500000
mixtral           4096 14336 32 32  8  -   32000  131072 no  1000000 1000000
glm4_moe          4096 10944 46 96  8  -   151552 131072 no  10000   10000
glm4v_moe_text    4096 10944 46 96  8  -   151424 65536  no  10000   10000
gpt_oss           2880 2880  36 64  8  64  201088 131072 no  150000  150000
ernie4_5_moe      2560 12288 28 20  4  -   103424 131072 yes 500000  500000
hunyuan_v1_moe    4096 11008 32 32  -  -   290943 2048   no  10000   10000
deepseek_v2       4096 11008 32 32  -  -   -      2048   no  10000   10000
deepseek_v3       7168 18432 61 128 -  -   129280 4096   no  10000   10000
minicpm3          2560 6400  62 40  -  -   73448  32768  yes -       10000
mamba             768  1536  32 -   -  -   50280  -      yes -       -
minicpm           4096 11008 32 32  -  -   32000  2048   yes 10000   10000
internlm          4096 11008 32 32  -  -   103168 2048   no  10000   10000
internlm2         4096 11008 32 32  -  -   103168 2048   no  10000   10000
internlm3         4096 11008 32 32  -  -   128512 32768  no  10000   10000
"""
#: Other fields that a row of the table of families asks for.
_MORE: dict[str, dict[str, Any]] = {
    "llama": {"attention_bias": False, "mlp_bias": False},
    "qwen3": {"attention_bias": False},
    "glm4v_text": {"attention_bias": True},
    "qwen3_vl_text": {"attention_bias": False},
    "gemma": {"attention_bias": False},
    "gemma2": {"attention_bias": False},
    "gemma3_text": {"attention_bias": False},
    "glm": {"attention_bias": True},
    "glm4": {"attention_bias": True},
    "granite": {"attention_bias": False, "mlp_bias": False},
    "olmo": {"attention_bias": False},
    "olmo2": {"attention_bias": False},
    "olmo3": {"attention_bias": False},
    "smollm3": {"attention_bias": False, "mlp_bias": False},
    "seed_oss": {"attention_bias": True, "attention_out_bias": False, "mlp_bias": False},
    "cohere": {"attention_bias": False, "use_qk_norm": False},
    "cohere2": {"attention_bias": False},
    "ernie4_5": {"use_bias": False},
    "hunyuan_v1_dense": {"attention_bias": False, "use_qk_norm": True},
    "qwen2_moe": {
        "moe_intermediate_size": 1408,
        "num_experts": 60,
        "qkv_bias": True,
        "shared_expert_intermediate_size": 5632,
    },
    "qwen3_moe": {"attention_bias": False, "moe_intermediate_size": 768, "num_experts": 128},
    "qwen3_vl_moe_text": {
        "attention_bias": False,
        "moe_intermediate_size": 1408,
        "num_experts": 60,
    },
    "mixtral": {"num_local_experts": 8},
    "glm4_moe": {
        "attention_bias": False,
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 1408,
        "n_routed_experts": 128,
        "n_shared_experts": 1,
        "use_qk_norm": False,
    },
    "glm4v_moe_text": {
        "attention_bias": True,
        "first_k_dense_replace": 1,
        "moe_intermediate_size": 1408,
        "n_routed_experts": 128,
        "n_shared_experts": 1,
    },
    "gpt_oss": {"attention_bias": True, "num_local_experts": 128},
    "ernie4_5_moe": {
        "moe_intermediate_size": 1536,
        "moe_num_experts": 64,
        "moe_num_shared_experts": 2,
        "use_bias": False,
    },
    "hunyuan_v1_moe": {"attention_bias": False, "num_experts": 1, "use_qk_norm": True},
    "deepseek_v2": {
        "first_k_dense_replace": 0,
        "kv_lora_rank": 512,
        "moe_intermediate_size": 1407,
        "n_routed_experts": 64,
        "n_shared_experts": 2,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
    },
    "deepseek_v3": {
        "first_k_dense_replace": 3,
        "kv_lora_rank": 512,
        "moe_intermediate_size": 2048,
        "n_routed_experts": 256,
        "n_shared_experts": 1,
        "q_lora_rank": 1536,
        "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
    },
    "minicpm3": {
        "kv_lora_rank": 256,
        "q_lora_rank": 768,
        "qk_nope_head_dim": 64,
        "qk_rope_head_dim": 32,
        "v_head_dim": 64,
    },
    "mamba": {"conv_kernel": 4, "state_size": 16, "use_bias": False, "use_conv_bias": True},
    "internlm": {"bias": True},
    "internlm2": {"bias": True},
}


def _row(line: str) -> tuple[str, dict[str, Any], tuple[float | None, float | None]]:
    kind, *cells = line.split()
    values = [_value(cell) for cell in cells]
    told = {name: v for name, v in zip(_COLUMNS, values, strict=False) if v is not None}
    return kind, {**told, **_MORE.get(kind, {})}, (values[-2], values[-1])


def _value(cell: str) -> Any:
    return {"-": None, "yes": True, "no": False}[cell] if not cell.isdigit() else int(cell)


_ROWS = [_row(line) for line in _TABLE.split("\n") if line]
#: Fields by model_type; a field that is not there follows from others, or is not known.
DEFAULTS = {kind: fields for kind, fields, _ in _ROWS}
#: rope_theta by model_type: in Transformers 4.57, in 5; None where the release lacks the type.
THETAS = {kind: thetas for kind, _, thetas in _ROWS}
#: rope_theta of other types in Transformers 4.57, where it is not 10000.
OTHER_THETAS = {
    **{"apertus": 12_000_000, "bitnet": 500_000, "csm": 500_000, "evolla": 500_000},
    **{"falcon_h1": 100_000, "flex_olmo": 500_000, "fuyu": 25_000, "gemma3n_text": 1_000_000},
    **{"helium": 100_000, "lfm2": 1_000_000, "llama4_text": 500_000, "minimax": 1_000_000},
    **{"longcat_flash": 10_000_000, "modernbert": 160_000, "modernbert-decoder": 160_000},
    **{"persimmon": 25_000, "phimoe": 1_000_000},
}
