"""The tokenizer, its eos, dead tensors, and links into the Hub cache, as inspect sees them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoints import checkpoint, latents

from harness.checkpoint.findings import Inspection
from harness.checkpoint.inspect import inspect
from harness.errors import ModelError
from harness.model.model import Model


def look(folder: Path, **options: Any) -> Inspection:
    return inspect(Model("m", str(folder)), **options)


def said(found: Inspection) -> str:
    return " | ".join(f"{f.severity}: {f.what}" for f in found.findings)


@pytest.mark.parametrize("size", [50, 60])
def test_tekken_alone_is_named_and_held_against_the_rows(tmp_path: Path, size: int) -> None:
    folder = checkpoint(tmp_path)
    (folder / "tokenizer.json").unlink()
    tekken = {"config": {"default_vocab_size": size}, "vocab": []}
    (folder / "tekken.json").write_text(json.dumps(tekken))
    found = look(folder)
    assert found.ok == (size == 50)
    assert "the tokenizer is tekken.json alone" in said(found)


@pytest.mark.parametrize("file", ["vocab.json", "tiktoken.model", "tokenizer.model.v3"])
def test_a_tokenizer_whose_size_is_not_read_is_named(tmp_path: Path, file: str) -> None:
    folder = checkpoint(tmp_path)
    (folder / "tokenizer.json").unlink()
    (folder / file).write_text("")
    assert f"note: the tokenizer is {file}" in said(look(folder))


@pytest.mark.parametrize(
    ("eos", "stops", "told"),
    [
        ("w2", 2, False),
        ("w3", 2, True),
        ({"content": "w3"}, 2, True),
        ("w3", [2, 3], False),
        ("unheard of", 2, False),
        (None, 2, False),
        (["w3"], 2, False),
    ],
)
def test_an_eos_of_the_tokenizer_that_no_config_names(
    tmp_path: Path, eos: Any, stops: Any, told: bool
) -> None:
    folder = checkpoint(tmp_path)
    (folder / "tokenizer_config.json").write_text(json.dumps({"eos_token": eos}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": stops}))
    found = look(folder)
    assert found.ok
    assert ("note: the tokenizer's eos" in said(found)) == told


@pytest.mark.parametrize("name", ["layers.0.mlp.gate_proj", "layers.1.input_layernorm"])
def test_a_dead_tensor_is_named_when_values_are_read(tmp_path: Path, name: str) -> None:
    weights = latents()
    key = f"model.{name}.weight"
    weights[key] = np.zeros_like(weights[key])
    folder = checkpoint(tmp_path, weights)
    assert name not in said(look(folder))
    found = look(folder, values=True)
    assert f"warning: {key}: all {weights[key].size} weights are zero" in said(found)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HF_HOME"])
def test_a_link_into_the_user_s_hub_cache_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    monkeypatch.setenv(variable, str(tmp_path / "cache"))
    hub = tmp_path / "cache" / ("hub" if variable == "HF_HOME" else ".")
    blobs = hub / "models--org--m" / "blobs"
    blobs.mkdir(parents=True)
    folder = checkpoint(tmp_path / "m")
    shutil.move(folder / "model.safetensors", blobs / "abc")
    (folder / "model.safetensors").symlink_to(blobs / "abc")
    assert look(folder).ok
    other = hub / "models--org--m" / "refs"
    other.mkdir()
    shutil.move(blobs / "abc", other / "abc")
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").symlink_to(other / "abc")
    with pytest.raises(ModelError, match="link out of its folder"):
        look(folder)
