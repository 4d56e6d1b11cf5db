"""What routers chose, by hooks, against what Transformers itself tells of their logits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from needed import needed

from harness.devices.hf.routers import Routers
from harness.statistics.routes import set_hashes

pytestmark = pytest.mark.engine
needed("torch", "transformers")

SMALL = {
    **{"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "vocab_size": 64},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "num_experts": 6},
    **{"moe_intermediate_size": 24, "shared_expert_intermediate_size": 24, "moe_num_experts": 6},
    **{"num_local_experts": 6, "num_experts_per_tok": 2, "moe_k": 2, "moe_topk": 2},
    **{"n_routed_experts": 6, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1},
    **{"q_lora_rank": 16, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 16},
    **{"v_head_dim": 16, "moe_layer_start_index": 1, "pad_token_id": 0},
}


def tiny(kind: str) -> Any:
    import torch
    import transformers
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    known = CONFIG_MAPPING[kind]().to_dict() if kind in CONFIG_MAPPING else None
    if known is None:
        pytest.skip(f"this Transformers has no type {kind}")
    fields = {k: v for k, v in SMALL.items() if k in known}
    if "kv_lora_rank" in known:  # latent attention has as many heads of keys
        fields["num_key_value_heads"] = 2
    config = CONFIG_MAPPING[kind](**fields)
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1 and "correction" not in name:  # a bias of the choice alone
                parameter.normal_(std=parameter.shape[-1] ** -0.5)
    return model


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        *(("mixtral", 3), ("qwen2_moe", 3), ("qwen3_moe", 3), ("gpt_oss", 3), ("olmoe", 3)),
        *(("deepseek_v3", 2), ("glm4_moe", 2), ("ernie4_5_moe", 2), ("hunyuan_v1_moe", 3)),
    ],
)
def test_the_routes_are_those_of_the_router_s_own_logits(kind: str, layers: int) -> None:
    import torch

    model = tiny(kind)
    routers = Routers(model)
    ids = torch.arange(1, 12)[None]
    kept: list[Any] = []
    for name, module in model.named_modules():
        if name.endswith((".gate", ".router")):
            module.register_forward_hook(lambda _, __, output: kept.append(output))
    with torch.inference_mode():
        model(ids, use_cache=False)
    routes = routers.take()
    assert routes is not None
    assert routes.chosen.shape == (11, layers)
    for layer, output in enumerate(kept):
        parts = output if isinstance(output, tuple) else (output,)
        logits = next(p for p in parts if p.shape[-1] == 6).reshape(-1, 6).float()
        best = logits.topk(3, dim=-1)
        np.testing.assert_array_equal(routes.chosen[:, layer], set_hashes(best.indices[:, :2]))
        assert routes.margin is not None
        expected = (best.values[:, 1] - best.values[:, 2]).numpy()
        np.testing.assert_allclose(routes.margin[:, layer], expected, rtol=1e-5)


def test_a_choice_that_does_not_go_by_the_logits_has_no_margins() -> None:
    """A bias of the choice alone, as DeepSeek-V3's routers learn it."""
    import torch

    model = tiny("deepseek_v3")
    for name, buffer in [*model.named_buffers(), *model.named_parameters()]:
        if name.endswith("e_score_correction_bias"):
            with torch.no_grad():
                buffer.copy_(torch.tensor([9.0, 0, 0, 0, 0, 0]))
    routers = Routers(model)
    with torch.inference_mode():
        model(torch.arange(1, 12)[None], use_cache=False)
    routes = routers.take()
    assert routes is not None
    assert routes.margin is None


def test_a_dense_model_has_no_routes_and_a_pass_is_told_once() -> None:
    import torch

    dense, mixture = tiny("llama"), tiny("mixtral")
    of_dense, of_mixture = Routers(dense), Routers(mixture)
    with torch.inference_mode():
        for model in (dense, mixture):
            model(torch.arange(1, 6)[None], use_cache=False)
    assert of_dense.take() is None
    told = of_mixture.take()
    assert told is not None
    assert len(told) == 5
    assert of_mixture.take() is None  # they are gone with the first question
