"""A canary as a folder that every engine loads: config, weights, tokenizer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.canary.build import weights
from harness.canary.phases import factors
from harness.canary.sizes import LATENT, NOPE, VALUE, Sizes
from harness.errors import HarnessError
from harness.files.atomic import make_folder, write_bytes

#: Small enough that 1 stays 1 beside it in float32.
EPSILON = 1e-8

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "mixtral": "MixtralForCausalLM",
    "deepseek_v2": "DeepseekV2ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "gemma2": "Gemma2ForCausalLM",
    "gemma3": "Gemma3ForCausalLM",
}
#: Gemma 2 caps scores: so far above them that the best is still far from the second.
SCORE_CAP = 4096.0
#: First character and number of characters of blocks that have one printable character
#: for each code: no letter with two forms, no mark that joins the one before.
_BLOCKS = (
    (0x4E00, 20992), (0x20000, 42720), (0xF0000, 65534), (0x100000, 65534), (0x3400, 6592),
)  # fmt: skip


def save(sizes: Sizes, folder: Path) -> None:
    """Write the checkpoint; bytes of the same sizes are the same.

    Raises:
        HarnessError: if the folder or the disk does not take it.
        UsageError: as of :func:`weights`.
    """
    made = weights(sizes)
    try:
        make_folder(folder)
    except OSError as error:
        raise HarnessError(
            f"{folder}: cannot be made ({error.strerror or error}); choose another --out"
        ) from error
    write_bytes(folder / "model.safetensors", _safetensors(made))
    for name, content in (
        ("config.json", config(sizes)),
        ("tokenizer.json", tokenizer(sizes)),
        ("tokenizer_config.json", _TOKENIZER_CONFIG),
    ):
        text = json.dumps(content, indent=None if name == "tokenizer.json" else 1)
        write_bytes(folder / name, text.encode())


def config(sizes: Sizes) -> dict[str, Any]:
    """config.json, readable by Transformers 4 and 5."""
    window = {"sliding_window": sizes.sliding_window} if sizes.family == "mistral" else {}
    return {
        "architectures": [_CLASSES[sizes.family]],
        "model_type": "gemma3_text" if sizes.family == "gemma3" else sizes.family,
        "vocab_size": sizes.vocab_size,
        "hidden_size": sizes.hidden,
        "intermediate_size": sizes.intermediate,
        "num_hidden_layers": sizes.layers,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.kv_heads,
        "head_dim": sizes.head_dim,
        "max_position_embeddings": sizes.context,
        "rms_norm_eps": EPSILON,
        "rope_theta": sizes.rope_theta,
        **_rope(sizes),
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "attention_bias": False,
        "dtype": "bfloat16",
        "torch_dtype": "bfloat16",
        "bos_token_id": None,
        "eos_token_id": None,
        **window,
        **_of_family(sizes),
    }


def _of_family(sizes: Sizes) -> dict[str, Any]:
    """Entries that only some families have."""
    if sizes.family == "mixtral":
        return {
            "num_local_experts": sizes.experts,
            "num_experts_per_tok": 2,
            "output_router_logits": False,
            "sliding_window": None,
        }
    if sizes.tied:
        return _of_gemma(sizes)
    if sizes.family == "deepseek_v2":
        return {
            "num_key_value_heads": sizes.heads,  # that is what its values have
            "q_lora_rank": None,
            "kv_lora_rank": LATENT,
            "qk_nope_head_dim": NOPE,
            "qk_rope_head_dim": sizes.head_dim,
            "v_head_dim": VALUE,
            "first_k_dense_replace": sizes.layers,  # no experts
            "n_routed_experts": 2,
            "n_shared_experts": 1,
            "num_experts_per_tok": 1,
            "moe_intermediate_size": sizes.intermediate,
            "moe_layer_freq": 1,
            "n_group": 1,
            "topk_group": 1,
            "norm_topk_prob": False,
            "routed_scaling_factor": 1.0,
            "scoring_func": "softmax",
        }
    return {}


def _of_gemma(sizes: Sizes) -> dict[str, Any]:
    """What Gemma's classes read, with layers that have a window and layers that have none."""
    activation = "gelu_pytorch_tanh"
    common: dict[str, Any] = {
        "hidden_act": activation, "hidden_activation": activation, "tie_word_embeddings": True,
        "pad_token_id": None,
    }  # fmt: skip
    if not sizes.post_normed:
        return common
    windows = [sizes.window_of(layer) for layer in range(sizes.layers)]
    kinds = ["full_attention" if window is None else "sliding_attention" for window in windows]
    common |= {
        "layer_types": kinds,
        "sliding_window": sizes.sliding_window or sizes.context,
        "query_pre_attn_scalar": sizes.head_dim,
        "final_logit_softcapping": sizes.soft_cap,
        "attn_logit_softcapping": None if sizes.soft_cap is None else SCORE_CAP,
    }
    if sizes.family == "gemma2":
        return common
    local = sizes.theta_of(0)
    ropes = {"full_attention": sizes.rope_theta, "sliding_attention": local}
    return common | {
        "rope_local_base_freq": local,
        "sliding_window_pattern": 1 if sizes.sliding_window is None else 2,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": base} for kind, base in ropes.items()
        },
    }


def _rope(sizes: Sizes) -> dict[str, Any]:
    """The entries about RoPE, where each release looks for them."""
    original = sizes.original_context
    if sizes.scaling is not None:
        entries = sizes.scaling.entries()
        return {
            "rope_scaling": entries,
            "rope_parameters": {**entries, "rope_theta": sizes.rope_theta},
        }
    if original is None:
        return {"rope_parameters": {"rope_type": "default", "rope_theta": sizes.rope_theta}}
    scaling = {
        "rope_type": "longrope",
        "short_factor": factors(sizes, "short").tolist(),
        "long_factor": factors(sizes, "long").tolist(),
        "original_max_position_embeddings": original,
        "factor": sizes.context / original,
        # Otherwise cosines and sines are scaled, by each engine in its own way.
        "attention_factor": 1.0,
        "short_mscale": 1.0,
        "long_mscale": 1.0,
    }
    return {
        "rope_scaling": scaling,
        "rope_parameters": {**scaling, "rope_theta": sizes.rope_theta},
        "original_max_position_embeddings": original,
    }


_TOKENIZER_CONFIG = {
    "tokenizer_class": "PreTrainedTokenizerFast",
    "clean_up_tokenization_spaces": False,
}


def character(token_id: int) -> str:
    """The text of a token: one character, or its number where characters run out."""
    left = token_id
    for first, count in _BLOCKS:
        if left < count:
            return chr(first + left)
        left -= count
    return f"<{token_id}>"


def tokenizer(sizes: Sizes) -> dict[str, Any]:
    """tokenizer.json: each character is one token."""
    if sizes.family == "qwen2":
        return _of_bytes(sizes)
    split = {"type": "Split", "pattern": {"Regex": "[\\s\\S]"}, "behavior": "Isolated"}
    words = {
        "type": "WordLevel",
        "vocab": {character(i): i for i in range(sizes.vocab_size)},
        "unk_token": character(0),
    }
    return _tokenizer_json({**split, "invert": False}, {"type": "Fuse"}, words)


def _of_bytes(sizes: Sizes) -> dict[str, Any]:
    """The same for a family whose tokenizer is made of bytes, whatever tokenizer.json says: the
    bytes of a character are merged into its token. Parts of a character have ids above the
    model's vocabulary."""
    letters = _byte_letters()
    spelled = [tuple(letters[b] for b in character(i).encode()) for i in range(sizes.vocab_size)]
    vocabulary = {"".join(parts): i for i, parts in enumerate(spelled)}
    merges: dict[tuple[str, str], None] = {}
    for parts in spelled:
        whole = parts[0]
        for part in parts[1:]:
            merges[whole, part] = None
            whole += part
    for text in (*letters, *(a for a, _ in merges)):
        vocabulary.setdefault(text, len(vocabulary))
    as_bytes = {
        "type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False,
    }  # fmt: skip
    pieces = {"type": "BPE", "vocab": vocabulary, "merges": [list(pair) for pair in merges]}
    return _tokenizer_json(as_bytes, as_bytes, pieces)


def _tokenizer_json(
    before: dict[str, Any], after: dict[str, Any], model: dict[str, Any]
) -> dict[str, Any]:
    """The file: what is done before the model, the model, and what after it."""
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": before,
        "post_processor": None,
        "decoder": after,
        "model": model,
    }


def _byte_letters() -> list[str]:
    """The character that stands for each byte in such a tokenizer: printable ones for
    themselves, the others from code 256 on."""
    own = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = iter(range(256, 512))
    return [chr(byte if byte in own else next(others)) for byte in range(256)]


def bfloat16(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """The bits of the nearest bfloat16, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    return ((bits + ((bits >> 16) & 1) + 0x7FFF) >> 16).astype("<u2")


def _safetensors(tensors: dict[str, NDArray[np.float32]]) -> bytes:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    parts, end = [], 0
    for name, values in tensors.items():
        data = bfloat16(values).tobytes()
        header[name] = {
            "dtype": "BF16",
            "shape": list(values.shape),
            "data_offsets": [end, end + len(data)],
        }
        end += len(data)
        parts.append(data)
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *parts])
