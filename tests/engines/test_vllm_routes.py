"""What vLLM's routers chose, against Transformers', on a tiny random mixture in float32."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from harness.devices.base import Completion, Request
from harness.devices.hf.device import HfDevice
from harness.devices.vllm.device import VllmDevice
from harness.model.model import Model

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
if importlib.util.find_spec("vllm") is None:
    pytest.skip("vllm is not installed", allow_module_level=True)

LAYERS, STEPS, VOCABULARY = 3, 5, 128
#: One prompt that fits into a step, and one that takes three.
PIECES = {"max_num_batched_tokens": "16", "max_model_len": "64", "max_num_seqs": "1"}
PROMPTS = {"short": tuple(range(5, 14)), "long": tuple(range(20, 62))}


def mixture(folder: Path) -> Model:
    import torch
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from transformers import PreTrainedTokenizerFast, Qwen3MoeConfig, Qwen3MoeForCausalLM

    torch.manual_seed(5)
    config = Qwen3MoeConfig(
        vocab_size=VOCABULARY,
        hidden_size=128,
        intermediate_size=128,
        moe_intermediate_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_experts=8,
        num_experts_per_tok=2,
        max_position_embeddings=128,
        initializer_range=0.1,
    )
    Qwen3MoeForCausalLM(config).save_pretrained(folder)
    words = {f"w{n}": n for n in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(words, unk_token="w0")), eos_token="w2"
    )
    tokenizer.save_pretrained(folder)
    return Model("mixture", str(folder))


def run(device: HfDevice | VllmDevice) -> dict[str, Completion]:
    requests = [Request(name, ids, "free", STEPS) for name, ids in PROMPTS.items()]
    device.open()
    try:
        return {done.prompt_id: done for done in device.generate(requests)}
    finally:
        device.close()


def test_every_token_of_prompt_and_output_has_its_experts(tmp_path: Path) -> None:
    """Also of a prompt that comes in pieces: float32 moves a router's logits by 1e-6."""
    model = mixture(tmp_path)
    truth = run(HfDevice("hf-cpu", model, dtype="float32"))
    found = run(VllmDevice("vllm-cpu", model, dtype="float32", engine_args=PIECES))
    for name, ids in PROMPTS.items():
        mine, theirs = found[name].routes, truth[name].routes
        assert mine is not None
        assert theirs is not None
        assert found[name].token_ids == truth[name].token_ids
        assert mine.chosen.shape == (len(ids) - 1 + STEPS, LAYERS)
        np.testing.assert_array_equal(mine.chosen, theirs.chosen)
        assert mine.margin is None
        assert theirs.margin is not None
    assert len(np.unique(found["long"].routes.chosen)) > 3  # type: ignore[union-attr]
