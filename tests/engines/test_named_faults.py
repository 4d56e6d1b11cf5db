"""Faults that are put into tiny models by other means than a diagnosis measures them with: it
names each first, and nothing of a correct candidate."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from needed import needed

from harness.devices.causes import Cause
from harness.diagnosis.errors import Errors, PromptErrors
from harness.diagnosis.run import diagnose
from harness.process.progress import Progress
from harness.statistics.rows import row_statistics
from harness.statistics.score import metric_of

pytestmark = [pytest.mark.engine, pytest.mark.slow]

needed("torch", "transformers")

VOCABULARY, PROMPTS, TOKENS, ROWS, NOISE = 67, 12, 20, 9, 0.01
SIZES = {
    "vocab_size": VOCABULARY, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
    "max_position_embeddings": 64, "tie_word_embeddings": False, "sliding_window": None,
}  # fmt: skip
GEMMA = {
    "query_pre_attn_scalar": 8,
    "sliding_window": 6,
    "layer_types": ["sliding_attention", "full_attention"] * 2,
}
CAPS = {"attn_logit_softcapping": 3.0, "final_logit_softcapping": 4.0}
#: Families of models, with the settings of theirs.
MODELS: dict[str, dict[str, Any]] = {
    "Llama": {},
    "Mistral": {"sliding_window": 6},
    "Gemma2": {**GEMMA, **CAPS},
    "Gemma2-plain": {**GEMMA, **dict.fromkeys(CAPS)},
    "Gemma3": GEMMA,
}
LAYER = "model.layers.{}."
Weights = dict[str, Any]


def config_of(family: str, changes: dict[str, Any]) -> Any:
    import transformers

    name = "Gemma3Text" if family == "Gemma3" else family.partition("-")[0]
    given = {**SIZES, **MODELS[family], **changes}
    if family == "Llama":
        given.pop("sliding_window")
    return getattr(transformers, f"{name}Config")(**given)


def weights_of(family: str) -> Weights:
    """Random ones, whose norms differ from layer to layer."""
    import torch

    torch.manual_seed(3)
    made = model_of(family).state_dict()
    for name, tensor in made.items():
        if tensor.dim() == 1:
            tensor.add_(0.4 * torch.randn_like(tensor))
        else:
            tensor.copy_(torch.randn_like(tensor) * (1.6 if "embed" not in name else 1.0) /
                         tensor.shape[1] ** 0.5)  # fmt: skip
    return {name: tensor.clone() for name, tensor in made.items()}


def model_of(family: str, weights: Weights | None = None, **changes: Any) -> Any:
    import transformers

    config = config_of(family, changes)
    config._attn_implementation = "eager" if family.startswith("Gemma") else "sdpa"
    made = getattr(transformers, f"{family.partition('-')[0]}ForCausalLM")(config).float().eval()
    if weights is not None:
        made.load_state_dict(weights, strict=not changes.get("tie_word_embeddings"))
        made.tie_weights()
    return made


def ids_of(prompt: int) -> tuple[int, ...]:
    random = np.random.default_rng(prompt)
    return tuple(int(i) for i in random.integers(3, VOCABULARY, TOKENS))


Forward = Callable[[Any, Any], Any]


def plainly(model: Any, ids: Any) -> Any:
    return model(ids).logits


def rows_of(model: Any, forward: Forward = plainly) -> list[np.ndarray]:
    import torch

    found = []
    with torch.no_grad():
        for prompt in range(PROMPTS):
            logits = forward(model, torch.tensor([ids_of(prompt)]))[0, -ROWS:].numpy()
            sketch = row_statistics(np.ascontiguousarray(logits)).sketch
            assert sketch is not None
            found.append(sketch.astype(np.float64))
    return found


def errors_of(truth: Sequence[np.ndarray], mine: Sequence[np.ndarray]) -> Errors:
    """With the rounding of four arms and of the candidate."""
    random = np.random.default_rng(8)
    made = []
    for prompt, (true, row) in enumerate(zip(truth, mine, strict=True)):
        deviation = NOISE * float(np.sqrt(np.mean(true**2)))
        shared = 0.3 * random.normal(size=true.shape)
        arms, own = (random.normal(size=(n, *true.shape)) + shared for n in (4, 1))
        error = row - true + deviation * own[0]
        made.append(PromptErrors(f"p{prompt}", ids_of(prompt), true, deviation * arms, error))
    return Errors(tuple(made), metric_of([p.arms for p in made]))


@dataclass(frozen=True)
class Fault:
    """A candidate of a family, and the cause that it is."""

    family: str
    cause: Cause
    weights: Callable[[Weights], Weights] = dict
    forward: Forward = plainly
    changes: tuple[tuple[str, Any], ...] = ()
    size: float | None = None
    architecture: str = ""

    def __str__(self) -> str:
        return f"{self.family}: {self.cause}"

    def rows(self, weights: Weights) -> list[np.ndarray]:
        family = self.architecture or self.family
        model = model_of(family, self.weights(weights), **dict(self.changes))
        return rows_of(model, self.forward)


def decoded_behind(model: Any, ids: Any) -> Any:
    """With a cache: the generated tokens one position behind."""
    import torch

    prompt = ids.shape[1] - ROWS + 1
    first = model(ids[:, :prompt], use_cache=True)
    found, cache = [first.logits], first.past_key_values
    for at in range(prompt, ids.shape[1]):
        one = model(
            ids[:, at : at + 1],
            past_key_values=cache,
            position_ids=torch.tensor([[at - 1]]),
            use_cache=True,
        )
        found.append(one.logits)
    return torch.cat(found, dim=1)


def queries_turned(weights: Weights) -> Weights:
    """What projects queries, rotated by one position in each head."""
    import torch

    width = SIZES["head_dim"]
    assert isinstance(width, int)
    half = width // 2
    angle = 10_000.0 ** (-torch.arange(half) / half)
    cos, sin = angle.cos()[None, :, None], angle.sin()[None, :, None]
    made = dict(weights)
    for name in weights:
        if "q_proj" in name:
            heads = weights[name].reshape(-1, width, weights[name].shape[1])
            one, other = heads[:, :half], heads[:, half:]
            turned = torch.cat([one * cos - other * sin, other * cos + one * sin], dim=1)
            made[name] = turned.reshape(weights[name].shape)
    return made


def ordered(*order: int) -> Callable[[Weights], Weights]:
    """Layers in another order, as many as are named."""

    def made(weights: Weights) -> Weights:
        found = {n: w for n, w in weights.items() if ".layers." not in n}
        for at, chosen in enumerate(order):
            for name, weight in weights.items():
                if name.startswith(LAYER.format(chosen)):
                    found[name.replace(LAYER.format(chosen), LAYER.format(at))] = weight
        return found

    return made


def norms(step: int, layers: Sequence[int], which: str = "norm") -> Callable[[Weights], Weights]:
    """Some layers' norms with the weights of others."""

    def made(weights: Weights) -> Weights:
        found = dict(weights)
        for at in layers:
            for name in weights:
                if name.startswith(LAYER.format(at)) and which in name:
                    other = name.replace(LAYER.format(at), LAYER.format(at + step))
                    found[name] = weights[other]
        return found

    return made


def without_head(weights: Weights) -> Weights:
    return {name: weight for name, weight in weights.items() if name != "lm_head.weight"}


def another_head(weights: Weights) -> Weights:
    return {**weights, "lm_head.weight": 0.3 * weights["lm_head.weight"].flip(0)}


def layers(count: int) -> tuple[tuple[str, Any], ...]:
    return (("num_hidden_layers", count),)


SLIDING, FULL = "sliding_attention", "full_attention"
FAULTS = [
    Fault("Gemma2", Cause("attention_cap_missing"), changes=(("attn_logit_softcapping", None),)),
    Fault("Gemma2", Cause("final_cap_missing"), changes=(("final_logit_softcapping", None),)),
    Fault("Gemma2", Cause("attention_cap"), changes=(("attn_logit_softcapping", 2.0),), size=2.0),
    Fault("Gemma2", Cause("final_cap"), changes=(("final_logit_softcapping", 5.0),), size=5.0),
    Fault("Gemma2-plain", Cause("attention_cap_added"), changes=(("attn_logit_softcapping", 6.0),),
          size=6.0),
    Fault("Gemma3", Cause("final_cap_added"), changes=(("final_logit_softcapping", 9.0),),
          size=9.0),
    Fault("Gemma3", Cause("window_missing", SLIDING), changes=(("sliding_window", 64),)),
    Fault("Gemma3", Cause("window", SLIDING, 7), changes=(("sliding_window", 7),)),
    Fault("Mistral", Cause("window", "", 5), changes=(("sliding_window", 5),)),
    Fault("Mistral", Cause("window_missing"), changes=(("sliding_window", None),)),
    Fault("Llama", Cause("window", "", 8), changes=(("sliding_window", 8),),
          architecture="Mistral"),
    Fault("Llama", Cause("decode_behind"), forward=decoded_behind),
    Fault("Llama", Cause("queries_ahead"), queries_turned),
    Fault("Llama", Cause("head_tied"), without_head, changes=(("tie_word_embeddings", True),)),
    Fault("Llama", Cause("norm_next", "model.layers.1.input_layernorm"),
          norms(1, [1], "input_layernorm")),
    Fault("Gemma3", Cause("norm_before", "model.layers.2"), norms(-1, [2])),
    Fault("Llama", Cause("norm_next"), norms(1, [0, 1, 2])),
    Fault("Llama", Cause("layer_skipped", "model.layers.2"), ordered(0, 1, 3), changes=layers(3)),
    Fault("Llama", Cause("layer_doubled", "model.layers.1"), ordered(0, 1, 1, 2, 3),
          changes=layers(5)),
    Fault("Llama", Cause("layers_exchanged", "model.layers.1", 2), ordered(0, 2, 1, 3)),
    Fault("Llama", Cause("layers_before"), ordered(0, 0, 1, 2)),
    Fault("Gemma3", Cause("layers_turned_after"), ordered(1, 2, 3, 0)),
]  # fmt: skip


def oracle_of(family: str, weights: Weights, stored_head: Any = None, **changes: Any) -> Any:
    import torch

    from harness.devices.hf.sensitivity import Sensitivity

    model = model_of(family, weights, **changes)
    return Sensitivity(torch, model, VOCABULARY, roundings=("int8",), stored_head=stored_head)


def diagnosed(oracle: Any, mine: Sequence[np.ndarray]) -> Any:
    truth = [oracle.sketches(ids_of(p), ROWS) for p in range(PROMPTS)]
    return diagnose(errors_of(truth, mine), oracle, Progress(io.StringIO()))


def first_of(found: Any) -> Cause:
    best = found.explanations[0]
    return Cause(best.kind, best.place, best.index, best.column)


@pytest.mark.parametrize("fault", FAULTS, ids=str)
def test_the_fault_is_named_first(fault: Fault) -> None:
    weights = weights_of(fault.family)
    found = diagnosed(oracle_of(fault.family, weights), fault.rows(weights))
    assert found.finding == "SYSTEMATIC"
    assert first_of(found) == fault.cause, found.sentence
    best = found.explanations[0]
    assert best.share > 0.9
    if fault.size is not None:
        assert best.size.value == pytest.approx(fault.size, rel=0.05)


@pytest.mark.parametrize("family", MODELS)
def test_a_correct_candidate_is_accused_of_nothing(family: str) -> None:
    """Attention in another kernel, where there is one."""
    weights = weights_of(family)
    model = model_of(family, weights)
    if family != "Gemma2":
        model.config._attn_implementation = "eager" if family in ("Llama", "Mistral") else "sdpa"
    found = diagnosed(oracle_of(family, weights), rows_of(model))
    assert found.finding == "NOTHING", found.sentence


def test_a_head_that_the_checkpoint_holds_and_the_model_does_not_use() -> None:
    weights = weights_of("Llama")
    tied = {**weights, "lm_head.weight": weights["model.embed_tokens.weight"]}
    stored = another_head(weights)["lm_head.weight"]
    oracle = oracle_of("Llama", tied, stored, tie_word_embeddings=True)
    right = rows_of(model_of("Llama", tied, tie_word_embeddings=True))
    assert diagnosed(oracle, right).finding == "NOTHING"
    wrong = rows_of(model_of("Llama", another_head(weights)))
    assert first_of(diagnosed(oracle, wrong)) == Cause("head_untied")


def test_the_head_of_a_checkpoint_is_found_where_the_model_is_tied(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    from harness.devices.hf.stored_head import stored_head

    weights = weights_of("Llama")
    tied = model_of("Llama", without_head(weights), tie_word_embeddings=True)
    assert stored_head(tied, tmp_path) is None
    save_file(without_head(weights), tmp_path / "model.safetensors")
    assert stored_head(tied, tmp_path) is None
    save_file(weights, tmp_path / "model.safetensors")
    assert stored_head(tied, tmp_path).equal(weights["lm_head.weight"])
    assert stored_head(model_of("Llama", weights), tmp_path) is None


def test_a_weaker_distance_is_named_with_its_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens 4 to 7 back have half their weight: by the attention's own function."""
    import torch
    from transformers.models.llama import modeling_llama

    weights = weights_of("Llama")
    model = model_of("Llama", weights)
    model.config._attn_implementation = "eager"
    own = modeling_llama.eager_attention_forward

    def weaker(module: Any, q: Any, k: Any, v: Any, mask: Any, **named: Any) -> Any:
        at = torch.arange(q.shape[2])
        apart = at[:, None] - at[None]
        less = torch.where((apart >= 4) & (apart < 8), np.log(0.5), 0.0)
        return own(module, q, k, v, mask + less, **named)

    with monkeypatch.context() as patch:
        patch.setattr(modeling_llama, "eager_attention_forward", weaker)
        wrong = rows_of(model)
    found = diagnosed(oracle_of("Llama", weights), wrong)
    assert first_of(found) == Cause("distance", "", 3)
    assert found.explanations[0].size.value == pytest.approx(0.5, abs=0.03)
    assert "tokens 4 to 7 back" in found.sentence
