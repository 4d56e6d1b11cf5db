"""Gradients of a model's sketches against what its own passes show, in four architectures."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest

from harness.devices.causes import SETTINGS, WHOLE, Cause
from harness.devices.hf.seen import Sketches
from harness.statistics.rows import Detail, row_statistics

pytestmark = pytest.mark.engine
for package in ("torch", "transformers"):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed", allow_module_level=True)

VOCABULARY, ROWS, WINDOW = 97, 7, 4
IDS = (3, 14, 15, 9, 26, 5, 35, 8, 9, 79)
SMALL = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 64,
}


def model_of(name: str) -> Any:
    """A random model in float32, whose norms and biases are not those of a fresh one."""
    import torch
    import transformers

    torch.manual_seed(5)
    config = getattr(transformers, f"{name}Config")(**SMALL)
    found = getattr(transformers, f"{name}ForCausalLM")(config).float().eval()
    with torch.no_grad():
        for parameter_name, parameter in found.named_parameters():
            parameter.mul_(2.0)
            if parameter.dim() == 1:
                parameter.add_(0.2 * torch.randn_like(parameter))
            assert torch.isfinite(parameter).all(), parameter_name
    return found


@pytest.fixture(params=["Llama", "Qwen2", "Qwen3", "Gemma3"])
def oracle(request: pytest.FixtureRequest) -> Any:
    import torch

    from harness.devices.hf.sensitivity import Sensitivity

    name = "Gemma3Text" if request.param == "Gemma3" else request.param
    if name == "Gemma3Text":
        import transformers

        torch.manual_seed(5)
        layers = {"sliding_window": WINDOW, "layer_types": ["sliding_attention", "full_attention"]}
        config = transformers.Gemma3TextConfig(**SMALL, **layers)
        made = transformers.Gemma3ForCausalLM(config).float()
        with torch.no_grad():
            for parameter in made.parameters():
                if parameter.dim() == 1:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        return Sensitivity(torch, made.eval(), VOCABULARY, keep_rounded=False)
    return Sensitivity(torch, model_of(name), VOCABULARY, keep_rounded=False)


def moved(oracle: Any, cause: Cause, size: float) -> np.ndarray:
    with oracle.changed(cause, size):
        found: np.ndarray = oracle.sketches(IDS, ROWS)
    return found


def test_sketches_are_those_of_row_statistics(oracle: Any) -> None:
    import torch

    model = oracle._model
    with torch.no_grad():
        rows = model(torch.tensor([list(IDS)])).logits[0, -ROWS:].numpy()
    expected = row_statistics(np.ascontiguousarray(rows[:, :VOCABULARY])).sketch
    assert oracle.sketches(IDS, ROWS) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize("buckets", [16, 1024])
def test_rows_are_seen_in_as_many_buckets_as_recordings_have(buckets: int) -> None:
    import torch

    from harness.devices.hf.sensitivity import Sensitivity

    model = model_of("Llama")
    oracle = Sensitivity(
        torch, model, VOCABULARY, keep_rounded=False, seen=Sketches(torch, VOCABULARY, buckets)
    )
    with torch.no_grad():
        rows = model(torch.tensor([list(IDS)])).logits[0, -ROWS:].numpy()
    detail = Detail(20, buckets)
    expected = row_statistics(np.ascontiguousarray(rows[:, :VOCABULARY]), detail).sketch
    assert oracle.sketches(IDS, ROWS) == pytest.approx(expected, rel=1e-4, abs=1e-4)
    vector = np.random.default_rng(1).normal(size=(ROWS, buckets))
    seen, (found,) = oracle.gradients(IDS, [vector])
    assert seen == pytest.approx(expected, rel=1e-4, abs=1e-4)
    cause, step = Cause("logit_scale"), 0.003
    shown = (moved(oracle, cause, step) - moved(oracle, cause, -step)) / (2.0 * step)
    assert found.whole[cause] == pytest.approx(float(np.sum(shown * vector)), rel=0.03)


def test_every_gradient_is_what_two_passes_show(oracle: Any) -> None:
    vector = np.random.default_rng(1).normal(size=(ROWS, 64))
    before = oracle.sketches(IDS, ROWS)
    rows, (found,) = oracle.gradients(IDS, [vector])
    assert rows == pytest.approx(before, rel=1e-6, abs=1e-6)
    causes = dict(found.whole)
    for (kind, place), values in found.parts.items():
        index = IDS[2] if kind in ("embedding_row", "head_row") else len(values) // 2
        causes[Cause(kind, place, index)] = float(values[index])
    assert {c.kind for c in causes} >= {
        "softmax_scale", "attention", "mlp", "layer", "norm", "head", "value_head", "int8", "fp8",
        "logit_scale", "embedding_scale", "distance", "norm_next", "norm_before",
        "row", "column", "channel", "embedding_row", "head_row",
    }  # fmt: skip
    usual = float(np.median([abs(v) for v in causes.values() if v]))
    for cause, value in causes.items():
        step = 0.01 if cause.kind in WHOLE else 0.003
        up, down = moved(oracle, cause, step), moved(oracle, cause, -step)
        shown = float(np.sum((up - down) * vector) / (2.0 * step))
        assert value == pytest.approx(shown, rel=0.03, abs=0.01 * usual), cause
    assert oracle.sketches(IDS, ROWS) == pytest.approx(before, rel=0, abs=0)


def test_gradients_at_chosen_ids_are_what_two_passes_show(oracle: Any) -> None:
    """Rows are seen at the likeliest ids alone, of which some rows have fewer."""
    import torch

    from harness.devices.hf.seen import Chosen
    from harness.statistics.rows import NO_TOKEN

    with torch.no_grad():
        logits = oracle._model(torch.tensor([list(IDS)])).logits[0, -ROWS:, :VOCABULARY].numpy()
    ids = row_statistics(np.ascontiguousarray(logits)).top_ids.copy()
    ids[2, 7:], ids[4, :] = NO_TOKEN, NO_TOKEN
    oracle._seen = Chosen(torch, {IDS: ids})
    seen = oracle.sketches(IDS, ROWS)
    for row in range(ROWS):
        chosen = ids[row][ids[row] != NO_TOKEN]
        expected = logits[row, chosen] - (logits[row, chosen].mean() if len(chosen) else 0.0)
        assert seen[row, : len(chosen)] == pytest.approx(expected, abs=1e-4)
        assert not seen[row, len(chosen) :].any()
    vector = np.random.default_rng(1).normal(size=ids.shape)
    rows, (found,) = oracle.gradients(IDS, [vector])
    assert rows == pytest.approx(seen, rel=1e-6, abs=1e-6)
    causes = {c: v for c, v in found.whole.items() if c.kind not in WHOLE}
    causes[Cause("row", "model.layers.1.mlp.up_proj", 3)] = float(
        found.parts["row", "model.layers.1.mlp.up_proj"][3]
    )
    usual = float(np.median([abs(v) for v in causes.values() if v]))
    for cause, value in causes.items():
        up, down = moved(oracle, cause, 0.003), moved(oracle, cause, -0.003)
        shown = float(np.sum((up - down) * vector) / 0.006)
        assert value == pytest.approx(shown, rel=0.03, abs=0.01 * usual), cause
    token = found.parts["head_row", ""]
    met = np.isin(np.arange(VOCABULARY), ids[ids != NO_TOKEN])
    assert not token[~met].any()


def test_roundings_that_are_kept_are_nearly_those_made_anew(oracle: Any) -> None:
    """Kept in a byte each: a part in 254 of the largest difference of each row."""
    import torch

    from harness.devices.causes import ROUNDINGS
    from harness.devices.hf.sensitivity import Sensitivity

    vector = np.random.default_rng(3).normal(size=(ROWS, 64))
    _, (anew,) = oracle.gradients(IDS, [vector])
    kept = Sensitivity(torch, oracle._model, VOCABULARY)
    _, (found,) = kept.gradients(IDS, [vector])
    for kind in ROUNDINGS:
        these = [c for c in anew.whole if c.kind == kind and "proj" in c.place]
        ours, theirs = ([g.whole[c] for c in these] for g in (found, anew))
        assert np.corrcoef(ours, theirs)[0, 1] > 0.99, kind


def test_several_vectors_take_one_pass_and_are_each_their_own(oracle: Any) -> None:
    random = np.random.default_rng(2)
    vectors = [random.normal(size=(ROWS, 64)) for _ in range(2)]
    _, both = oracle.gradients(IDS, vectors)
    for vector, found in zip(vectors, both, strict=True):
        _, (alone,) = oracle.gradients(IDS, [vector])
        assert alone.whole.keys() == found.whole.keys()
        for cause, value in found.whole.items():
            assert value == pytest.approx(alone.whole[cause], rel=1e-4, abs=1e-5), cause


def test_settings_change_rows_and_are_put_back(oracle: Any) -> None:
    before = oracle.sketches(IDS, ROWS)
    kinds = {cause.kind for cause in oracle.settings}
    assert kinds <= set(SETTINGS)
    assert kinds == {
        "rope_base", "rope_scale", "norm_epsilon", "kv_int8", "kv_fp8",
    } | (
        {"attention_cap_added", "final_cap_added", "window", "window_missing"}
        if "Gemma3" in type(oracle._model).__name__ else {"head_tied"}
    )  # fmt: skip
    for cause in oracle.settings:
        size = 1.0 if cause.kind in WHOLE else 0.1
        assert not np.array_equal(moved(oracle, cause, size), before), cause
        if cause.kind not in WHOLE:
            assert moved(oracle, cause, 0.0) == pytest.approx(before, rel=1e-5, abs=1e-5), cause
    assert np.array_equal(oracle.sketches(IDS, ROWS), before)


def test_a_base_and_an_epsilon_are_read(oracle: Any) -> None:
    for cause in oracle.settings:
        now = oracle.now(cause)
        if cause.kind == "norm_epsilon":
            assert now == pytest.approx(1e-6)
        elif cause.kind == "rope_base":
            assert now == pytest.approx(10_000.0, rel=1e-4) or now == pytest.approx(1e6, rel=1e-4)
        elif cause.kind.startswith("window"):
            assert now == WINDOW
        else:
            assert now is None


@pytest.mark.parametrize("kind", ["row", "column"])
def test_single_weights_move_rows_as_two_passes_show(oracle: Any, kind: str) -> None:
    vectors = list(np.random.default_rng(4).normal(size=(2, ROWS, 64)))
    place = next(
        c.place for c in oracle.gradients(IDS, vectors[:1])[1][0].whole if "down" in c.place
    )
    found = oracle.entries(Cause(kind, place, 5), IDS, vectors)
    assert len(found) == 2
    usual = float(np.median(np.abs(found)))
    for other in (0, 3, found.shape[1] - 1):
        row, column = (5, other) if kind == "row" else (other, 5)
        cause, step = Cause("weight", place, row, column), 0.02
        up, down = moved(oracle, cause, step), moved(oracle, cause, -step)
        for vector, values in zip(vectors, found, strict=True):
            shown = float(np.sum((up - down) * vector) / (2.0 * step))
            assert values[other] == pytest.approx(shown, rel=0.05, abs=0.05 * usual)


def test_exchanges_change_rows_and_are_put_back(oracle: Any) -> None:
    before = oracle.sketches(IDS, ROWS)
    kinds = {cause.kind for cause in oracle.exchanges}
    assert kinds >= {
        "gate_up_exchanged", "norms_exchanged", "rope_interleaved", "kv_heads_reversed",
        "heads_tiled", "layers_before", "layers_after", "layers_turned_before",
        "layers_turned_after", "window", "norm_next", "norm_before",
        "decode_behind", "decode_ahead", "decode_from_zero",
        "queries_behind", "queries_ahead",
    }  # fmt: skip
    begins = oracle._model.config.bos_token_id is not None
    assert {"bos_added", "bos_missing"} & kinds == (
        {"bos_added", "bos_missing"} if begins else set()
    )
    assert ("bias_missing" in kinds) == ("Qwen2" in type(oracle._model).__name__)
    for cause in oracle.exchanges:
        same = np.array_equal(moved(oracle, cause, 1.0), before)
        # These ids begin with another one, and fit into a longer window.
        longer = cause.kind == "window" and cause.index >= len(IDS) and oracle.now(cause) is None
        assert same == (cause.kind == "bos_missing" or longer), cause
        assert np.array_equal(oracle.sketches(IDS, ROWS), before), cause


def test_heads_and_pairs_are_exchanged_as_a_wrong_kernel_would(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Against Transformers' own attention with the mistake in it."""
    import torch
    from transformers.models.llama import modeling_llama

    from harness.devices.hf.sensitivity import Sensitivity

    model = model_of("Llama")
    model.set_attn_implementation("eager")
    oracle = Sensitivity(torch, model, VOCABULARY, keep_rounded=False)
    before = oracle.sketches(IDS, ROWS)

    def tiled(states: Any, times: int) -> Any:
        return states.repeat(1, times, 1, 1)

    def neighbours(q: Any, k: Any, cos: Any, sin: Any, *_: Any, **__: Any) -> Any:
        half = cos.shape[-1] // 2
        c, s = (x[..., :half].unsqueeze(1).repeat_interleave(2, -1) for x in (cos, sin))

        def turned(x: Any) -> Any:
            other = torch.stack([-x[..., 1::2], x[..., ::2]], -1).flatten(-2)
            return x * c + other * s

        return turned(q), turned(k)

    for kind, name, wrong in (
        ("heads_tiled", "repeat_kv", tiled),
        ("rope_interleaved", "apply_rotary_pos_emb", neighbours),
    ):
        mine = moved(oracle, Cause(kind), 1.0)
        with monkeypatch.context() as patch:
            patch.setattr(modeling_llama, name, wrong)
            theirs = oracle.sketches(IDS, ROWS)
        assert not np.allclose(theirs, before, rtol=1e-3)
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-3), kind


def test_what_comes_out_of_attention_has_a_bias_without_heads() -> None:
    import torch
    import transformers

    from harness.devices.hf.sensitivity import Sensitivity

    torch.manual_seed(5)
    config = transformers.LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True)
    oracle = Sensitivity(torch, transformers.LlamaForCausalLM(config).float().eval(), VOCABULARY)
    before = oracle.sketches(IDS, ROWS)
    for kind in ("heads_tiled", "kv_heads_reversed", "rope_interleaved"):
        assert not np.array_equal(moved(oracle, Cause(kind), 1.0), before), kind
