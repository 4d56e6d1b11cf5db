"""Random models, small enough for the emulated NPU, as checkpoints on disk.

    python tests/ascend/tiny_models.py NAME FOLDER          # NAME: llama, qwen3_moe

The Llama's heads divide by 2 and 4, for tensor parallelism. The tokenizer is the embedded
model's. Weights are bfloat16 and larger than usual, so that every layer is heard in the logits.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness.model.find import find_model

_SHARED: dict[str, Any] = {
    "vocab_size": 49152,
    "hidden_size": 256,
    "num_hidden_layers": 3,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 2048,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "initializer_range": 0.1,
}


def _llama() -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**_SHARED, intermediate_size=512, tie_word_embeddings=True)
    return LlamaForCausalLM(config)


def _qwen3_moe() -> Any:
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    config = Qwen3MoeConfig(
        **_SHARED,
        intermediate_size=512,
        moe_intermediate_size=128,
        num_experts=8,
        num_experts_per_tok=2,
        norm_topk_prob=True,
        tie_word_embeddings=False,
    )
    model = Qwen3MoeForCausalLM(config)
    for layer in model.model.layers:
        # Random experts are chosen by a hair. A trained router is clearer, and rounding then
        # changes the choice less often.
        layer.mlp.gate.weight.data *= 8
    return model


MODELS: dict[str, Callable[[], Any]] = {"llama": _llama, "qwen3_moe": _qwen3_moe}


def make_tiny(name: str, folder: Path) -> None:
    """Write the model ``name`` of ``MODELS``, and a tokenizer, to a folder."""
    import torch

    torch.manual_seed(0)
    MODELS[name]().to(torch.bfloat16).save_pretrained(folder)
    embedded = Path(find_model("smollm2").path)
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        if (embedded / file).exists():
            shutil.copy(embedded / file, folder)


if __name__ == "__main__":
    make_tiny(sys.argv[1], Path(sys.argv[2]))
