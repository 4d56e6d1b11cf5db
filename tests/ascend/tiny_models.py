"""Random models, small enough for the emulated NPU, as checkpoints on disk.

    python tests/ascend/tiny_models.py NAME FOLDER      # NAME: llama, qwen3_moe
    python tests/ascend/tiny_models.py NAME FOLDER W8A8_DYNAMIC   # or W8A8: as ModelSlim's

The Llama's heads divide by 2 and 4, for tensor parallelism. The tokenizer is the embedded
model's. Weights are bfloat16 and larger than usual, so that every layer is heard in the logits.
"""

from __future__ import annotations

import json
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


#: What ModelSlim leaves in floating point: these are the tensors of an engine's other layers.
_FLOAT = ("norm", "embed_tokens", "lm_head", "mlp.gate.")
#: The largest activation that a static scale holds, and its offset.
_STATIC_RANGE, _STATIC_OFFSET = 12.0, 3


def quantize(folder: Path, scheme: str) -> None:
    """Make a checkpoint one of ModelSlim's: ``W8A8_DYNAMIC``, or ``W8A8`` with static scales.

    Weights become int8 with a scale for each row; ``quant_model_description.json`` tells each
    tensor's kind. W8A8 is for dense models: experts have no static scheme.
    """
    import torch
    from safetensors.torch import load_file, save_file

    made: dict[str, torch.Tensor] = {}
    # A tied head has no tensor, but vLLM-Ascend looks it up.
    kinds = {"model_quant_type": scheme, "lm_head.weight": "FLOAT"}
    for name, tensor in load_file(folder / "model.safetensors").items():
        if any(part in name for part in _FLOAT):
            made[name], kinds[name] = tensor, "FLOAT"
            continue
        stem = name.removesuffix(".weight")
        scale = tensor.float().abs().amax(-1, keepdim=True) / 127
        made[name] = (tensor.float() / scale).round().to(torch.int8)
        made[f"{stem}.weight_scale"] = scale.to(torch.bfloat16)
        made[f"{stem}.weight_offset"] = torch.zeros_like(scale, dtype=torch.bfloat16)
        if scheme == "W8A8":
            made.update(_static(stem, made[name], scale[:, 0]))
        kinds.update({key: scheme for key in made if key.startswith(f"{stem}.")})
    save_file(made, folder / "model.safetensors", {"format": "pt"})
    (folder / "quant_model_description.json").write_text(json.dumps(kinds, indent=1), "utf-8")


def _static(stem: str, weight: Any, scale: Any) -> dict[str, Any]:
    """The tensors of a static scheme: one scale for all activations of a product.

    ``quant_bias`` takes back what the activations' offset adds to each sum.
    """
    import torch

    step = torch.tensor([_STATIC_RANGE / 127], dtype=torch.bfloat16)
    return {
        f"{stem}.input_scale": step,
        f"{stem}.input_offset": torch.tensor([_STATIC_OFFSET], dtype=torch.int8),
        f"{stem}.deq_scale": scale * step.float(),
        f"{stem}.quant_bias": -_STATIC_OFFSET * weight.int().sum(-1, dtype=torch.int32),
    }


if __name__ == "__main__":
    make_tiny(sys.argv[1], Path(sys.argv[2]))
    if sys.argv[3:]:
        quantize(Path(sys.argv[2]), sys.argv[3])
