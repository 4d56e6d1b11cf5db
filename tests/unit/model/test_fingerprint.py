from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import HarnessError, ModelError
from harness.model.fingerprint import Fingerprint, fingerprint, normalized_config
from harness.model.model import Model
from harness.model.tokenizer import Tokenizer
from harness.model.weights import read_tensors

Arrays = dict[str, "np.ndarray[Any, np.dtype[np.float32]]"]

V4 = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "num_attention_heads": 2,
    "vocab_size": 11,
    "rms_norm_eps": 1e-5,
    "rope_theta": 500000.0,
    "rope_scaling": {"type": "linear", "rope_type": "linear", "factor": 2.0},
    "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
    "attention_bias": False,
    "transformers_version": "4.57.1",
}
V5 = {
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": 8,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "vocab_size": 11,
    "rms_norm_eps": 1e-5,
    "rope_parameters": {"rope_type": "linear", "factor": 2, "rope_theta": 500000},
    "dtype": "bfloat16",
    "tie_word_embeddings": False,
    "transformers_version": "5.19.0",
}


def safetensors(path: Path, arrays: Arrays) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, array in arrays.items():
        data = array.astype("<f4").tobytes()
        offsets = [len(body), len(body) + len(data)]
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": offsets}
        body += data
    raw(path, header, body)


def raw(path: Path, header: Any, body: bytes) -> None:
    text = (header if isinstance(header, str) else json.dumps(header)).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def arrays(seed: int = 0) -> Arrays:
    random = np.random.default_rng(seed)
    shapes = {"model.embed_tokens.weight": (11, 8), "model.norm.weight": (8,), "scale": ()}
    return {n: random.standard_normal(s, dtype=np.float32) for n, s in shapes.items()}


class Words:
    chat_template: str | None = "template"

    def __init__(self, words: dict[str, int]) -> None:
        self.words = words

    def __len__(self) -> int:
        return len(self.words)

    def get_vocab(self) -> dict[str, int]:
        return self.words


def of(folder: Path, words: dict[str, int] | None = None, **config: Any) -> Fingerprint:
    (folder / "config.json").write_text(json.dumps({**V4, **config}))
    tokenizer = Tokenizer(Words(words or {"a": 0, "b": 1}), "m")
    return fingerprint(Model("m", str(folder)), tokenizer)


def shard(folder: Path, content: Arrays) -> None:
    files = {name: f"model-{i}.safetensors" for i, name in enumerate(content)}
    for name, file in files.items():
        safetensors(folder / file, {name: content[name]})
    index = {"weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def test_shards_and_order_make_no_difference(tmp_path: Path) -> None:
    one, other, sharded = (tmp_path / n for n in ("one", "other", "sharded"))
    for folder in (one, other, sharded):
        folder.mkdir()
    safetensors(one / "model.safetensors", arrays())
    safetensors(other / "model.safetensors", dict(reversed(arrays().items())))
    shard(sharded, arrays())
    assert of(one) == of(other) == of(sharded)
    assert (of(one).parameters, of(one).weight_bytes) == (97, 388)


def test_the_digest_is_that_of_the_bytes(tmp_path: Path) -> None:
    safetensors(tmp_path / "model.safetensors", arrays())
    tensors = {t.name: t for t in read_tensors(tmp_path)}
    norm = arrays()["model.norm.weight"]
    assert tensors["model.norm.weight"].sha256 == hashlib.sha256(norm.tobytes()).hexdigest()
    assert tensors["scale"].shape == ()


@pytest.mark.parametrize("change", ["value", "name", "shape"])
def test_any_change_of_a_tensor_changes_the_weights(tmp_path: Path, change: str) -> None:
    content = arrays()
    safetensors(tmp_path / "model.safetensors", content)
    before = of(tmp_path).weights
    norm = content.pop("model.norm.weight")
    if change == "value":
        norm[3] = np.nextafter(norm[3], np.float32(9))
    new = norm.reshape(2, 4) if change == "shape" else norm
    content["model.norm.weights" if change == "name" else "model.norm.weight"] = new
    safetensors(tmp_path / "model.safetensors", content)
    assert of(tmp_path).weights != before


def test_a_repeated_tied_embedding_does_not_count(tmp_path: Path) -> None:
    content = arrays()
    safetensors(tmp_path / "model.safetensors", content)
    plain = of(tmp_path, tie_word_embeddings=True)
    content["lm_head.weight"] = content["model.embed_tokens.weight"]
    safetensors(tmp_path / "model.safetensors", content)
    assert of(tmp_path, tie_word_embeddings=True) == plain
    assert of(tmp_path, tie_word_embeddings=False).weights != plain.weights


def test_a_tied_head_of_other_bytes_counts(tmp_path: Path) -> None:
    content = arrays()
    safetensors(tmp_path / "model.safetensors", content)
    plain = of(tmp_path, tie_word_embeddings=True)
    content["lm_head.weight"] = content["model.embed_tokens.weight"] + 1
    safetensors(tmp_path / "model.safetensors", content)
    assert of(tmp_path, tie_word_embeddings=True).weights != plain.weights


def test_tokenizer_and_template_are_fingerprinted_by_meaning(tmp_path: Path) -> None:
    safetensors(tmp_path / "model.safetensors", arrays())
    plain = of(tmp_path, {"a": 0, "b": 1})
    assert of(tmp_path, {"b": 1, "a": 0}) == plain
    assert of(tmp_path, {"a": 1, "b": 0}).tokenizer != plain.tokenizer
    assert plain.template == hashlib.sha256(b"template").hexdigest()


def test_transformers_4_and_5_write_the_same_config() -> None:
    assert normalized_config(V4, has_head=True) == normalized_config(V5, has_head=True)
    assert normalized_config(V4, has_head=True)["rope"] == {
        "factor": 2,
        "rope_theta": 500000,
        "rope_type": "linear",
    }


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_theta", 10000.0),
        ("rope_scaling", None),
        ("num_key_value_heads", 1),
        ("head_dim", 8),
        ("rms_norm_eps", 1e-6),
        ("scale_emb", 12),
        ("scale_depth", 1.4),
        ("dim_model_base", 256),
        ("attention_bias", True),
        ("tie_word_embeddings", True),
        ("sliding_window", 4096),
        ("hidden_act", "gelu"),
        ("quantization_config", {"bits": 4}),
        ("layer_types", ["sliding_attention"]),
    ],
)
def test_fields_that_change_numbers_change_the_config(key: str, value: Any) -> None:
    changed = normalized_config({**V4, key: value}, has_head=True)
    assert changed != normalized_config(V4, has_head=True)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("use_cache", False),
        ("eos_token_id", [2]),
        ("attention_dropout", 0.1),
        ("sliding_window", None),
        ("layer_types", ["full_attention"]),
        ("temperature", 0.5),
        ("mlp_bias", False),
        ("auto_map", {"AutoModel": "modeling.py"}),
        ("partial_rotary_factor", 1.0),
    ],
)
def test_fields_that_change_no_number_do_not_count(key: str, value: Any) -> None:
    changed = normalized_config({**V4, key: value}, has_head=True)
    assert changed == normalized_config(V4, has_head=True)


def test_an_unused_sliding_window_does_not_count() -> None:
    written = {**V4, "use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 3}
    assert normalized_config(written, has_head=True) == normalized_config(V4, has_head=True)


def test_without_a_word_on_tying_the_weights_decide() -> None:
    silent = {k: v for k, v in V4.items() if k != "tie_word_embeddings"}
    assert normalized_config(silent, has_head=False)["tie_word_embeddings"] is True
    assert normalized_config(silent, has_head=True)["tie_word_embeddings"] is False


def entry(**changes: Any) -> dict[str, Any]:
    return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}


@pytest.mark.parametrize(
    ("header", "body"),
    [
        (entry(data_offsets=[0, 4]), b"x" * 8),
        (entry(data_offsets=[0, 800], shape=[200]), b"x" * 8),
        (entry(data_offsets=[-8, 0]), b"x" * 8),
        (entry(data_offsets=[4, 12]), b"x" * 12),
        (entry(shape=[-2]), b"x" * 8),
        (entry(shape=[True, 2]), b"x" * 8),
        (entry(shape="ab"), b"x" * 8),
        (entry(dtype="F31"), b"x" * 8),
        (entry(dtype=["F32"]), b"x" * 8),
        (entry(), b"x" * 9),
        (entry(), b"x" * 7),
        ({**entry(), "b": entry()["a"]}, b"x" * 8),
        ({"a": None}, b""),
        ([], b""),
        ("{", b""),
        ("[" * 200_000, b""),
        ('{"a": {}, "a": {}}', b""),
    ],
)
def test_damaged_headers_are_refused_in_one_line(tmp_path: Path, header: Any, body: bytes) -> None:
    raw(tmp_path / "model.safetensors", header, body)
    with pytest.raises(ModelError) as caught:
        read_tensors(tmp_path)
    assert "\n" not in str(caught.value)


@given(st.binary(max_size=200))
def test_arbitrary_bytes_never_escape_the_error_tree(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    folder = tmp_path_factory.getbasetemp() / "hostile"
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes(content)
    try:
        tensors = read_tensors(folder)
    except HarnessError:
        return
    assert sum(t.bytes for t in tensors) < len(content)


@pytest.mark.parametrize(
    "file", ["../model.safetensors", "/etc/passwd", "x.bin", "gone.safetensors"]
)
def test_an_index_that_leaves_its_folder_is_refused(tmp_path: Path, file: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": file}}))
    with pytest.raises(ModelError, match=r"index\.json"):
        read_tensors(tmp_path)


def test_a_tensor_that_only_the_index_knows_is_missed(tmp_path: Path) -> None:
    shard(tmp_path, arrays())
    index = tmp_path / "model.safetensors.index.json"
    content = json.loads(index.read_text())
    content["weight_map"]["gone"] = next(iter(content["weight_map"].values()))
    index.write_text(json.dumps(content))
    with pytest.raises(ModelError, match="'gone'"):
        read_tensors(tmp_path)


def test_a_folder_without_weights_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights"):
        read_tensors(tmp_path)
