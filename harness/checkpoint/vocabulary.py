"""The size of a tokenizer, from its files, without a tokenizer library."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.checkpoint.headers import check_inside
from harness.errors import ModelError
from harness.model.hub import first_line

#: What reading a file of another's making may raise; 1e999 is an infinite number to JSON.
_UNREADABLE = (
    OSError,
    AttributeError,
    ValueError,
    LookupError,
    TypeError,
    OverflowError,
    RecursionError,
)
_MAX_BYTES = 256 << 20
#: Files of tokenizers whose size is not read here.
TOKENIZERS = (
    *("tiktoken.model", "qwen.tiktoken", "hy.tiktoken", "vocab.json", "vocab.txt"),
    *("spiece.model", "sentencepiece.bpe.model", "tokenizer.model.v3", "tokenizer.model.v7"),
    *("rwkv_vocab_v20230424.txt", "bpe.codes", "source.spm"),
)


def tokenizer_size(folder: Path) -> tuple[int, str] | None:
    """One more than the largest token id, and the file that says so; None without one.

    Raises:
        ModelError: if the file cannot be read as what it is.
    """
    readers = {
        "tokenizer.json": _from_json,
        "tokenizer.model": _from_pieces,
        "tekken.json": _from_tekken,
    }
    for file, read in readers.items():
        path = folder / file
        if not path.is_file():
            continue
        check_inside(folder, path)
        if path.stat().st_size > _MAX_BYTES:
            raise ModelError(
                f"{path}: is larger than {_MAX_BYTES >> 20} MiB, which no tokenizer is"
            )
        try:
            return read(path.read_bytes()), file
        except _UNREADABLE as error:
            raise ModelError(
                f"{path}: not readable as a tokenizer: {first_line(error)}; download it again"
            ) from error
    return None


def _from_json(content: bytes) -> int:
    document = json.loads(content)
    entries: Any = document["model"]["vocab"]
    ids = [*entries.values()] if isinstance(entries, dict) else [len(entries) - 1]
    ids += [token["id"] for token in document.get("added_tokens") or []]
    return int(max(ids)) + 1


def _from_tekken(content: bytes) -> int:
    """Mistral's own format: the size stands in it, the vocabulary may be longer."""
    document = json.loads(content)
    return int(document["config"]["default_vocab_size"])


def token_ids(folder: Path, settings: Mapping[str, Any]) -> dict[str, int]:
    """The ids of the tokens that were added to a vocabulary, or that a vocabulary lists.

    Args:
        settings: the content of tokenizer_config.json.
    """
    found: dict[str, int] = {}
    path = folder / "tokenizer.json"
    try:
        if path.is_file() and path.stat().st_size <= _MAX_BYTES:
            document = json.loads(path.read_bytes())
            entries = document["model"]["vocab"]
            if isinstance(entries, dict):
                found |= {k: v for k, v in entries.items() if type(v) is int}
            found |= {t["content"]: int(t["id"]) for t in document.get("added_tokens") or []}
    except _UNREADABLE:
        pass  # what cannot be read is told where the size is read
    decoder = settings.get("added_tokens_decoder")
    if isinstance(decoder, Mapping):
        for number, token in decoder.items():
            content = token.get("content") if isinstance(token, Mapping) else None
            if isinstance(content, str) and str(number).isdecimal() and len(number) <= 18:
                found.setdefault(content, int(number))
    return found


def _from_pieces(content: bytes) -> int:
    """How many pieces a SentencePiece model holds: fields number 1 of the message."""
    position = count = 0
    while position < len(content):
        tag, position = _varint(content, position)
        if tag & 7 == 0:
            _, position = _varint(content, position)
        elif tag & 7 in (1, 5):
            position += 8 if tag & 7 == 1 else 4
        elif tag & 7 == 2:
            length, position = _varint(content, position)
            position += length
            count += tag >> 3 == 1
        else:
            raise ValueError("no SentencePiece model")
    if position != len(content) or not count:
        raise ValueError("a SentencePiece model cut short")
    return count


def _varint(content: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")
