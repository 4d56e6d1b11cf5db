"""The second embedded model: a base model of another family, by its own packages."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from needed import needed

from harness.checkpoint.inspect import inspect
from harness.errors import MissingDependency, ModelError
from harness.model.find import find_model
from harness.model.fingerprint import fingerprint
from harness.model.model import Model
from harness.model.packaged import PACKAGED
from harness.model.tokenizer import open_tokenizer
from harness.suite.encode import encode_suite, fitting
from harness.suite.read import load_suite

pytestmark = [pytest.mark.engine, pytest.mark.slow]

needed("torch", "transformers")


@pytest.fixture(scope="session")
def gemma() -> Model:
    """Converted into the user's cache if need be, about 80 s."""
    try:
        return find_model("gemma3-270m")
    except MissingDependency as error:
        pytest.skip(str(error))


def test_the_checkpoint_is_that_of_gemma_3_270m(gemma: Model) -> None:
    found = fingerprint(gemma, open_tokenizer(gemma))
    assert found.parameters == 268_098_176
    assert found.template is None
    config = {**found.defaults, **found.config}
    assert config["architectures"] == ["Gemma3ForCausalLM"]
    assert config["tie_word_embeddings"] is True
    assert (config["sliding_window"], config["query_pre_attn_scalar"]) == (512, 256)
    assert config["layer_types"] == (["sliding_attention"] * 5 + ["full_attention"]) * 3
    assert {kind: rope["rope_theta"] for kind, rope in config["rope"].items()} == {
        "full_attention": 1_000_000,
        "sliding_attention": 10_000,
    }
    folder = Path(gemma.path)
    assert sorted(p.name for p in folder.iterdir()) == [
        "config.json",
        "conversion.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    marker = json.loads((folder / "conversion.json").read_text("utf-8"))
    assert marker["sha256"] == PACKAGED["gemma3-270m"].weights_sha256
    assert "Gemma Terms of Use" in marker["terms"]


def test_text_begins_with_one_bos_and_goes_there_and_back(gemma: Model) -> None:
    tokenizer = open_tokenizer(gemma)
    assert tokenizer.encode("The capital of France is") == (2, 818, 5279, 529, 7001, 563)
    for text in ("什么是三元量化？", "  a\tb\n", "\u202e\U0001f600", "\U00020000"):
        assert tokenizer.decode(tokenizer.encode(text)) == f"<bos>{text}"
    assert tokenizer.vocab_size == len(tokenizer.vocabulary) == 262_144
    with pytest.raises(ModelError, match="no chat template"):
        tokenizer.encode_chat([{"role": "user", "content": "hi"}])


def test_the_default_suite_fits_without_its_chats(gemma: Model) -> None:
    said: list[str] = []
    tokenizer = open_tokenizer(gemma)
    suite = fitting(load_suite("mixed"), tokenizer, gemma.slug, said.append)
    assert len(encode_suite(suite, tokenizer, 32_768)) == 31
    assert "5 of 36 prompts are left out" in said[0]


def test_the_inspection_finds_nothing_wrong_and_says_what_it_does_not_check(gemma: Model) -> None:
    found = inspect(gemma)
    assert (found.tensors, found.parameters) == (236, 268_098_176)
    assert found.ok
    assert found.findings == ()
    assert found.known_as == "Gemma 3"
    assert {f.name: f.weights for f in found.fields}["head_dim"] == 256
    assert found.not_checked == ("the values of the weights (--values)",)


def test_bfloat16_predicts_sense_and_both_attentions_agree(gemma: Model) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = open_tokenizer(gemma)
    ids = torch.tensor([tokenizer.encode("one two three four five six seven")])
    best = {}
    for attention in ("sdpa", "eager"):
        model = AutoModelForCausalLM.from_pretrained(
            gemma.path, dtype=torch.bfloat16, attn_implementation=attention
        )
        with torch.no_grad():
            best[attention] = int(model(ids).logits[0, -1].argmax())
    assert {a: tokenizer.piece(i) for a, i in best.items()} == {"sdpa": " eight", "eager": " eight"}
