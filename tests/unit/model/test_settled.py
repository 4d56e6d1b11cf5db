"""What two releases of Transformers write of one model, made the same."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.model.packaged import PACKAGED
from harness.model.settled import settle, spell_both

SMOLLM2 = PACKAGED["smollm2"]
VOCABULARY = {"<|endoftext|>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "a": 3}
ADDED = [{"id": i, "content": token} for i, token in enumerate(list(VOCABULARY)[:3])]

FIVE: dict[str, dict[str, Any]] = {
    "config.json": {
        "vocab_size": 4,
        "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
    },
    "tokenizer.json": {
        "added_tokens": ADDED,
        "normalizer": None,
        "post_processor": {"type": "TemplateProcessing", "single": [], "special_tokens": {}},
        "model": {"type": "BPE", "unk_token": None, "byte_fallback": False, "vocab": VOCABULARY},
    },
    "tokenizer_config.json": {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers"},
}
FOUR: dict[str, dict[str, Any]] = {
    "config.json": {"vocab_size": 4, "rope_scaling": None, "rope_theta": 100000.0},
    "tokenizer.json": {
        "added_tokens": [*ADDED, {"id": 4, "content": "<PRE>"}],
        "normalizer": {"type": "Sequence", "normalizers": []},
        "post_processor": {"type": "TemplateProcessing", "single": ["<|im_start|>", "A"]},
        "model": {
            "type": "BPE",
            "unk_token": "<|endoftext|>",
            "byte_fallback": True,
            "vocab": VOCABULARY,
        },
    },
    "tokenizer_config.json": {"add_bos_token": True, "eos_token": "<|im_start|>"},
    "special_tokens_map.json": {},
}


def settled(folder: Path, files: dict[str, dict[str, Any]]) -> dict[str, Any]:
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    settle(SMOLLM2, folder)
    return {path.name: json.loads(path.read_text("utf-8")) for path in folder.iterdir()}


def test_two_releases_leave_one_model(tmp_path: Path) -> None:
    four, five = settled(tmp_path / "4", FOUR), settled(tmp_path / "5", FIVE)
    assert four == five
    tokenizer = four["tokenizer.json"]
    assert tokenizer["post_processor"]["special_tokens"] == {}
    assert tokenizer["model"]["vocab"] == VOCABULARY
    assert len(tokenizer["added_tokens"]) == 3
    assert four["tokenizer_config.json"]["eos_token"] == "<|im_end|>"


def test_a_model_without_a_form_keeps_its_tokenizer(tmp_path: Path) -> None:
    for name, content in FIVE.items():
        (tmp_path / name).write_text(json.dumps(content))
    settle(replace(SMOLLM2, tokenizer=None), tmp_path)
    assert json.loads((tmp_path / "tokenizer.json").read_text("utf-8")) == FIVE["tokenizer.json"]
    portable = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    assert portable == {"tokenizer_class": "PreTrainedTokenizerFast"}


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ({"vocab_size": 4}, {"vocab_size": 4}),
        (
            {"rope_theta": 5.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
            {"rope_theta": 5.0, "rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        ),
        (
            {"rope_theta": 5.0},
            {"rope_theta": 5.0, "rope_parameters": {"rope_type": "default", "rope_theta": 5.0}},
        ),
    ],
)
def test_a_base_is_written_twice_and_a_scaling_stays(
    tmp_path: Path, written: dict[str, Any], left: dict[str, Any]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps(written))
    spell_both(tmp_path / "config.json")
    assert json.loads((tmp_path / "config.json").read_text("utf-8")) == left
