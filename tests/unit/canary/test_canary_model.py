"""The compiled weights, and the rows that arithmetic says."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from numpy_engine import NumpyEngine, read_checkpoint, rounded

from harness.canary.build import weights
from harness.canary.checkpoint import character, save, tokenizer
from harness.canary.expected import continuation, prompt, rows, states
from harness.canary.layout import factors, head_bits, layout, probes, symbol_ids
from harness.canary.phases import planes
from harness.canary.sizes import Sizes
from harness.devices.base import Request
from harness.errors import UsageError
from harness.model.safetensors_file import safetensors_header

SMALL = {"context": 192, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 32, "hidden": 128}
SHAPES = {
    "llama": {},
    "mistral": {"family": "mistral", "sliding_window": 20},
    "qwen2": {"family": "qwen2"},
    "qwen3": {"family": "qwen3"},
    "longrope": {"original_context": 64, "layers": 1, "context": 256},
    "mixtral": {"family": "mixtral", "heads": 8},
    "four_experts": {"family": "mixtral", "experts": 4, "layers": 1},
    "latent": {"family": "deepseek_v2", "kv_heads": 1},
    "one_kv_head": {"kv_heads": 1, "head_dim": 64},
    "as_many_kv_heads": {"kv_heads": 4},
    "hidden_not_a_power_of_two": {"hidden": 160},
    "base_of_a_long_context": {"rope_theta": 5e5, "head_dim": 64},
    "one_layer": {"layers": 1},
    "large_vocabulary": {"vocab_size": 1000},
}


def made(**given) -> Sizes:
    return Sizes(**(SMALL | {"vocab_size": 128, "intermediate": 64} | given))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_a_float_forward_pass_has_the_rows_of_arithmetic(
    shape: str, dtype: str, tmp_path: Path
) -> None:
    sizes = made(**SHAPES[shape])
    save(sizes, tmp_path)
    ids = prompt(sizes, min(sizes.context, sizes.history + 24), 7)
    least = sizes.history + 1
    engine = NumpyEngine(tmp_path, dtype)
    forced = ids[least:]
    request = Request("p", ids[:least], "forced-prefill", len(forced), forced_token_ids=forced)
    (completion,) = engine.generate([request])
    wanted = rows(sizes, states(sizes, ids[:-1]))[least - 1 :]
    assert np.array_equal(completion.logits, wanted)


def test_a_head_copies_the_bit_of_the_token_at_its_distance() -> None:
    """By hand, with Python's own integers."""
    sizes = made()
    ids = prompt(sizes, sizes.history + 4, 3)
    symbols = [i // sizes.stride for i in ids]

    def value(layer: int, bit: int, position: int) -> int:
        """A bit of what layer ``layer`` reads, ±1."""
        if layer == 0:
            return 1 if symbols[position] >> bit & 1 else -1
        x, y = factors(sizes, bit)
        first = copied(layer - 1, x, position)
        other = value(layer - 1, bit, position) if y is None else copied(layer - 1, y, position)
        return first * other

    def copied(layer: int, head: int, position: int) -> int:
        back = sizes.reads[layer][head]
        return value(layer, head_bits(sizes, layer)[head], position - back)

    found, last = states(sizes, ids), len(ids) - 1
    for layer in range(sizes.layers):
        assert found.attention[layer][last].tolist() == [
            copied(layer, h, last) for h in range(sizes.heads)
        ]
    bits = [value(sizes.layers, b, last) for b in range(sizes.bits)]
    token = sum((bit > 0) << b for b, bit in enumerate(bits)) * sizes.stride
    assert continuation(sizes, ids, 1) == (token,)


def test_values_without_enough_history_are_unknown() -> None:
    sizes = made()
    found = states(sizes, prompt(sizes, sizes.history + 1, 1))
    assert (found.mlp[-1][-1] != 0).all()
    assert (found.mlp[-1][0] == 0).all()


def test_the_squares_of_a_row_add_up_to_the_hidden_size() -> None:
    for given in SHAPES.values():
        sizes = made(**given)
        table = weights(sizes)["model.embed_tokens.weight"]
        assert ((table**2).sum(axis=1) == sizes.hidden).all()
        places = layout(sizes)
        assert max(places.ones.max(initial=0), places.twos.max()) < sizes.hidden


def test_all_weights_but_queries_and_keys_are_exact_in_every_dtype() -> None:
    for name, values in weights(made()).items():
        if "q_proj" not in name and "k_proj" not in name:
            for dtype in ("bfloat16", "float16"):
                assert np.array_equal(rounded(values, dtype), values), name


def test_the_score_at_the_right_distance_is_far_above_all_others() -> None:
    for context in (256, 4096, 131_072):
        found = planes(Sizes(context=context), 0)
        assert found.share >= 0.06
        assert found.amplitude**2 * found.count < 60_000


def test_the_same_sizes_make_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        save(made(), tmp_path / folder)
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    with open(tmp_path / "a" / "model.safetensors", "rb") as stream:
        entries, _ = safetensors_header(tmp_path / "a" / "model.safetensors", stream)
    config, tensors = read_checkpoint(tmp_path / "a")
    assert {e[0] for e in entries} == set(tensors)
    assert config["architectures"] == ["LlamaForCausalLM"]


def test_each_token_is_one_character() -> None:
    sizes = made(vocab_size=70_000)
    vocabulary = json.loads(json.dumps(tokenizer(sizes)))["model"]["vocab"]
    assert len(vocabulary) == sizes.vocab_size
    assert all(len(text) == 1 and text.isprintable() for text in list(vocabulary)[:60_000])
    assert vocabulary[character(69_999)] == 69_999


def test_symbols_and_probes_share_the_vocabulary_without_meeting() -> None:
    for size in (128, 512, 1000, 151_936):
        sizes = made(vocab_size=size)
        ids = [p.token_id for p in probes(sizes)] + symbol_ids(sizes).tolist()
        assert len(set(ids)) == len(ids)
        assert max(ids) < size


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"heads": 6, "kv_heads": 4}, "multiple"),
        ({"head_dim": 31}, "even"),
        ({"layers": 40}, "room for"),
        ({"context": 32, "layers": 3}, "too short"),
        ({"context": 1 << 20}, "131,072"),
        ({"family": "gpt2"}, "llama"),
        ({"sliding_window": 64}, "mistral"),
        ({"vocab_size": 30}, "vocabulary"),
        ({"intermediate": 8}, "intermediate"),
        ({"rope_theta": float("nan")}, "rope_theta"),
        ({"layers": 0}, "layers"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(given: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        made(**given)


def test_rope_that_cannot_tell_positions_apart_is_refused() -> None:
    with pytest.raises(UsageError, match="head_dim"):
        planes(Sizes(context=131_072, head_dim=10), 0)
