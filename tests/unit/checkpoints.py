"""Small Llama checkpoints for tests, written without torch."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.checkpoint.ternary import to_bfloat16

Weights = dict[str, NDArray[Any]]

HIDDEN, LAYERS, HEADS, KV_HEADS, HEAD_DIM, INTERMEDIATE, VOCABULARY = 64, 2, 4, 2, 16, 96, 50
CONFIG: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "num_key_value_heads": KV_HEADS,
    "head_dim": HEAD_DIM,
    "intermediate_size": INTERMEDIATE,
    "vocab_size": VOCABULARY,
    "max_position_embeddings": 128,
    "rms_norm_eps": 1e-5,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "eos_token_id": 2,
}
#: dtype of numpy, name in safetensors, class of storage in torch.
_DTYPES = {
    "uint16": ("BF16", "BFloat16Storage"),
    "float16": ("F16", "HalfStorage"),
    "float32": ("F32", "FloatStorage"),
}


def shapes(layers: int = LAYERS) -> dict[str, tuple[int, ...]]:
    query, key = HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM
    table: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (VOCABULARY, HIDDEN)}
    for layer in range(layers):
        here = f"model.layers.{layer}."
        table |= {
            here + "self_attn.q_proj.weight": (query, HIDDEN),
            here + "self_attn.k_proj.weight": (key, HIDDEN),
            here + "self_attn.v_proj.weight": (key, HIDDEN),
            here + "self_attn.o_proj.weight": (HIDDEN, query),
            here + "mlp.gate_proj.weight": (INTERMEDIATE, HIDDEN),
            here + "mlp.up_proj.weight": (INTERMEDIATE, HIDDEN),
            here + "mlp.down_proj.weight": (HIDDEN, INTERMEDIATE),
            here + "input_layernorm.weight": (HIDDEN,),
            here + "post_attention_layernorm.weight": (HIDDEN,),
        }
    return table | {"model.norm.weight": (HIDDEN,), "lm_head.weight": (VOCABULARY, HIDDEN)}


def latents(seed: int = 0, dtype: str = "BF16") -> Weights:
    """Random weights of every tensor, bfloat16 as bits."""
    random = np.random.default_rng(seed)
    made: Weights = {}
    for name, shape in shapes().items():
        values = (random.standard_normal(shape) * 0.02).astype(np.float32)
        made[name] = to_bfloat16(values) if dtype == "BF16" else values
    return made


def write_safetensors(path: Path, weights: Weights) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, array in weights.items():
        data = array.tobytes()
        header[name] = {
            "dtype": _DTYPES[array.dtype.name][0],
            "shape": list(array.shape),
            "data_offsets": [len(body), len(body) + len(data)],
        }
        body += data
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)


def checkpoint(
    folder: Path, weights: Weights | None = None, config: Mapping[str, Any] | None = None
) -> Path:
    """A checkpoint in one safetensors file."""
    folder.mkdir(parents=True, exist_ok=True)
    write_safetensors(folder / "model.safetensors", latents() if weights is None else weights)
    write_config(folder, config)
    return folder


def sharded(folder: Path, weights: Weights | None = None) -> Path:
    """The same in two files with an index."""
    folder.mkdir(parents=True)
    weights = latents() if weights is None else weights
    names = list(weights)
    where: dict[str, str] = {}
    for number, part in enumerate((names[:7], names[7:]), 1):
        file = f"model-{number:05d}-of-00002.safetensors"
        write_safetensors(folder / file, {name: weights[name] for name in part})
        where |= dict.fromkeys(part, file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    write_config(folder)
    return folder


def write_config(folder: Path, config: Mapping[str, Any] | None = None) -> None:
    text = json.dumps(CONFIG if config is None else config, indent=2) + "\n"
    (folder / "config.json").write_text(text)
    tokenizer = {"model": {"vocab": {f"w{i}": i for i in range(VOCABULARY)}}}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def torch_pickle(weights: Weights) -> bytes:
    """What torch.save writes for a state dict, instruction by instruction."""
    out = bytearray(b"\x80\x02ccollections\nOrderedDict\n)R(")
    for number, (name, array) in enumerate(weights.items()):
        strides = [s // array.itemsize for s in array.strides]
        out += _text(name) + b"ctorch._utils\n_rebuild_tensor_v2\n"
        out += b"((" + _text("storage") + b"ctorch\n%s\n" % _DTYPES[array.dtype.name][1].encode()
        out += _text(str(number)) + _text("cpu") + _int(array.size) + b"tQ"
        out += _int(0) + b"(" + b"".join(map(_int, array.shape)) + b"t"
        out += b"(" + b"".join(map(_int, strides)) + b"t"
        out += b"\x89ccollections\nOrderedDict\n)RtR"
    return bytes(out + b"u.")


def _text(text: str) -> bytes:
    data = text.encode()
    return b"X" + struct.pack("<I", len(data)) + data


def _int(number: int) -> bytes:
    return b"J" + struct.pack("<i", number)


def write_bin(path: Path, weights: Weights, content: bytes | None = None) -> None:
    """A ``pytorch_model.bin``; ``content`` instead of its own pickle."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("archive/data.pkl", torch_pickle(weights) if content is None else content)
        archive.writestr("archive/byteorder", "little")
        for number, array in enumerate(weights.values()):
            archive.writestr(f"archive/data/{number}", array.tobytes())


class Harmful:
    """A pickle of it makes a file when it is loaded by an ordinary unpickler."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, ...]:
        return (open, (str(self.target), "w"))


def harmful_pickle(target: Path) -> bytes:
    return pickle.dumps({"model.norm.weight": Harmful(target)}, protocol=2)


@contextmanager
def folder_that_takes_no_file() -> Iterator[tuple[Path, Callable[[], None]]]:
    """A folder to fill, and the function that closes it, for a user who is not root."""
    folder = Path(tempfile.mkdtemp())
    user = os.geteuid()

    def close() -> None:
        os.chmod(folder, 0o555)
        if user == 0:
            os.seteuid(65534)

    try:
        yield folder, close
    finally:
        os.seteuid(user)
        os.chmod(folder, 0o755)
        shutil.rmtree(folder)
