"""Folders that are no Transformers checkpoint are named for what they are."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from harness.errors import ModelError
from harness.model.find import find_model


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (json.dumps({"peft_type": "LORA", "base_model_name_or_path": "org/base"}), " of org/base"),
        (json.dumps({"peft_type": "LORA"}), "an adapter (LoRA, PEFT), no whole model"),
        ("[" * 100_000, "an adapter"),
        ("{}", "merge it into its base first"),
    ],
)
def test_an_adapter_is_called_one(tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError) as error:
        find_model(str(tmp_path))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


def test_an_adapter_s_file_that_never_ends_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "adapter_config.json")
    with pytest.raises(ModelError, match="an adapter"):
        find_model(str(tmp_path))


def test_gguf_files_are_called_so(tmp_path: Path) -> None:
    (tmp_path / "model-Q4_K_M.gguf").write_bytes(b"GGUF")
    with pytest.raises(ModelError, match=r"model-Q4_K_M\.gguf, weights quantized as GGUF"):
        find_model(str(tmp_path))


def test_an_empty_folder_is_no_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"no config\.json"):
        find_model(str(tmp_path))
