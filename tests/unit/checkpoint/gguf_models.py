"""Small GGUF files, with zeros for weights."""

from __future__ import annotations

import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from harness.checkpoint.gguf_file import TYPES

_NUMBERS = {name: kind for kind, (name, _, _) in TYPES.items()}
_FORMATS = {int: (4, "I"), float: (6, "f"), bool: (7, "?")}


@dataclass(frozen=True)
class Given:
    """One tensor to write."""

    shape: tuple[int, ...]
    dtype: str = "Q4_0"


def string(value: str) -> bytes:
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def value(given: Any) -> bytes:
    if isinstance(given, str):
        return struct.pack("<I", 8) + string(given)
    if isinstance(given, list):
        kind = 8 if given and isinstance(given[0], str) else 4
        items = b"".join(string(i) if kind == 8 else struct.pack("<I", i) for i in given)
        return struct.pack("<IIQ", 9, kind, len(given)) + items
    kind, letter = _FORMATS[type(given)]
    return struct.pack("<I" + letter, kind, given)


def written(
    path: Path,
    values: Mapping[str, Any],
    tensors: Mapping[str, Given],
    *,
    version: int = 3,
    cut: int = 0,
) -> Path:
    """A GGUF file with zeros for weights."""
    out = b"GGUF" + struct.pack("<IQQ", version, len(tensors), len(values))
    for key, given in values.items():
        out += string(key) + value(given)
    begin = 0
    for name, tensor in tensors.items():
        kind = _NUMBERS[tensor.dtype]
        _, block, size = TYPES[kind]
        out += string(name) + struct.pack("<I", len(tensor.shape))
        out += struct.pack(f"<{len(tensor.shape)}Q", *tensor.shape)
        out += struct.pack("<IQ", kind, begin)
        begin += -(-math.prod(tensor.shape) // block * size // 32) * 32
    out += bytes(-len(out) % 32 + begin - cut)
    path.write_bytes(out)
    return path


@dataclass(frozen=True)
class Model:
    """A small Llama in GGUF."""

    values: dict[str, Any] = field(
        default_factory=lambda: {
            "general.architecture": "llama",
            "llama.block_count": 8,
            "llama.embedding_length": 64,
            "llama.attention.head_count": 4,
            "llama.attention.head_count_kv": 2,
            "llama.vocab_size": 96,
            "tokenizer.ggml.model": "gpt2",
            "tokenizer.ggml.tokens": [f"t{n}" for n in range(96)],
            "tokenizer.ggml.eos_token_id": 2,
            "tokenizer.chat_template": "{{ messages }}",
        }
    )
    tensors: dict[str, Given] = field(
        default_factory=lambda: {
            "token_embd.weight": Given((64, 96), "Q8_0"),
            "output_norm.weight": Given((64,), "F32"),
            **{
                f"blk.{n}.{part}.weight": given
                for n in range(8)
                for part, given in (
                    ("attn_q", Given((64, 64))),
                    ("attn_k", Given((64, 32))),
                    ("ffn_up", Given((64, 128))),
                    ("attn_norm", Given((64,), "F32")),
                )
            },
        }
    )

    def stating(self, **values: Any) -> Model:
        """With other values; keys with ``__`` for dots, None to leave one out."""
        changed = self.values | {k.replace("__", "."): v for k, v in values.items()}
        return replace(self, values={k: v for k, v in changed.items() if v is not None})

    def without(self, *names: str) -> Model:
        return replace(self, tensors={n: t for n, t in self.tensors.items() if n not in names})

    def file(self, path: Path, **more: Any) -> Path:
        return written(path, self.values, self.tensors, **more)
