"""Is a GGUF file what it says it is? Its header alone; no tensor is read."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from harness.checkpoint.findings import CheckpointIssue, Field, Inspection, Status
from harness.checkpoint.gguf_file import Array, Header, Tensor, read_gguf
from harness.errors import ModelError

_AGAIN = "download the file again, or convert the checkpoint again"
_PART = re.compile(r"(.*)-(\d{5})-of-(\d{5})\.gguf", re.IGNORECASE)
_BLOCK = re.compile(r"blk\.(\d+)\.(.+)")
_SHOWN = 3
#: A tensor that all blocks have but so few of them is missing there.
_MOST_WITHOUT = 0.25


def gguf_files(path: Path) -> list[Path]:
    """The GGUF file that a path names, with the other parts of a split one; or those of a
    folder without a config.json. Empty where it is neither.

    Raises:
        ModelError: for a folder of several models.
    """
    if path.is_file() and path.suffix.lower() == ".gguf":
        return _parts(path)
    if not path.is_dir() or (path / "config.json").exists():
        return []
    found = sorted(p for p in path.iterdir() if p.suffix.lower() == ".gguf")
    if not found:
        return []
    first = _parts(found[0])
    if set(first) >= set(found):
        return first
    names = ", ".join(p.name for p in found[:4])
    raise ModelError(f"{path}: holds several GGUF models ({names}); give the path of one file")


def _parts(path: Path) -> list[Path]:
    match = _PART.fullmatch(path.name)
    if match is None:
        return [path]
    beside = [
        p for p in path.parent.iterdir() if (m := _PART.fullmatch(p.name)) and m[1] == match[1]
    ]
    return sorted(beside)


def inspect_gguf(files: Sequence[Path]) -> Inspection:
    """Hold the header of a GGUF model against itself.

    Args:
        files: its parts; see ``gguf_files``.

    Raises:
        ModelError: if a file is missing, damaged or hostile.
    """
    headers = [read_gguf(path) for path in files]
    first = headers[0]
    tensors = [tensor for header in headers for tensor in header.tensors]
    arch = first.values.get("general.architecture")
    arch = arch if isinstance(arch, str) else ""
    fields = tuple(_fields(first, arch, tensors))
    findings = [
        *_named(arch, tensors),
        *_split(headers, len(tensors)),
        *(issue for header in headers for issue in _within(header)),
        *_blocks(tensors),
        *_tokenizer(first),
    ]
    types: Counter[str] = Counter()
    for tensor in tensors:
        types[tensor.dtype] += tensor.end - tensor.begin
    return Inspection(
        folder=str(files[0] if len(files) == 1 else files[0].parent),
        family=arch or "unknown",
        tensors=len(tensors),
        parameters=sum(tensor.parameters for tensor in tensors),
        bytes=sum(types.values()),
        kv_bytes_per_token=None,
        dtypes=dict(types),
        fields=fields,
        findings=tuple(findings),
        copied_from=None,
        same_shapes_as=None,
        known_as=None,
        quantization="GGUF",
        checked=(
            "every tensor's place in its file",
            "the parts of a split model",
            "the number of blocks, and that each has the tensors of the others",
            "embedding, heads and vocabulary against their tensors",
        ),
        not_checked=("the values of the weights", "how llama.cpp reads this architecture"),
    )


def _named(arch: str, tensors: Sequence[Tensor]) -> Iterator[CheckpointIssue]:
    kinds = Counter(t.dtype for t in tensors if len(t.shape) > 1).most_common()
    shown = ", ".join(f"{number} in {name}" for name, number in kinds)
    yield CheckpointIssue(
        "note",
        f"the weights are quantized as GGUF for llama.cpp ({shown or 'no matrix'}); Transformers "
        "and vLLM need the checkpoint that it was made of, or serve it with llama-server and use "
        "--device server",
        about="quantized",
    )
    if not arch:
        yield CheckpointIssue("error", "general.architecture is not stated", _AGAIN)
    unknown = [t for t in tensors if t.dtype.startswith("type ")]
    if unknown:
        yield CheckpointIssue(
            "warning",
            f"{len(unknown)} tensors are of a type that is not known here "
            f"({unknown[0].name}: {unknown[0].dtype}): their bytes are not checked",
        )
    if not tensors:
        yield CheckpointIssue("error", "the file has no tensor, only a vocabulary", _AGAIN)


def _fields(header: Header, arch: str, tensors: Sequence[Tensor]) -> Iterator[Field]:
    """What the keys state beside what the tensors show."""
    by_name = {t.name: t for t in tensors}
    numbers = [int(m[1]) for t in tensors if (m := _BLOCK.fullmatch(t.name)) and len(m[1]) < 7]
    embedding = by_name.get("token_embd.weight")
    width = rows = None
    if embedding is not None and len(embedding.shape) == 2:
        width, rows = embedding.shape
    if numbers:
        yield _field(header, f"{arch}.block_count", max(numbers) + 1)
    yield _field(header, f"{arch}.embedding_length", width)
    stated, tokens = header.whole(f"{arch}.vocab_size"), _length(header, "tokenizer.ggml.tokens")
    if stated is not None:
        yield _field(header, f"{arch}.vocab_size", rows)
    if tokens is not None and rows is not None:
        status: Status = "equal" if tokens == rows else "wrong"
        yield Field("tokenizer.ggml.tokens", tokens, rows, status)
    yield from _heads(header, arch, by_name)


def _heads(header: Header, arch: str, by_name: dict[str, Tensor]) -> Iterator[Field]:
    """Heads times their size beside the first block's matrices, where all blocks are alike."""
    heads = header.whole(f"{arch}.attention.head_count")
    size = header.whole(f"{arch}.attention.key_length")
    width = header.whole(f"{arch}.embedding_length")
    if size is None and heads and width is not None and width % heads == 0:
        size = width // heads
    query, key = (by_name.get(f"blk.0.attn_{part}.weight") for part in "qk")
    if heads is None or not size or f"{arch}.attention.q_lora_rank" in header.values:
        return
    if query is not None and len(query.shape) == 2 and query.shape[1] % size == 0:
        there = query.shape[1] // size
        # A query may come with its gate.
        same = there in (heads, 2 * heads)
        name = f"{arch}.attention.head_count"
        yield Field(name, heads, heads if same else there, "equal" if same else "wrong")
    groups = header.whole(f"{arch}.attention.head_count_kv")
    if groups is not None and key is not None and len(key.shape) == 2 and key.shape[1] % size == 0:
        yield _field(header, f"{arch}.attention.head_count_kv", key.shape[1] // size)


def _field(header: Header, name: str, there: int | None) -> Field:
    stated = header.whole(name)
    if there is None:
        return Field(name, stated, None, "unknown")
    if stated is None:
        return Field(name, None, there, "missing")
    return Field(name, stated, there, "equal" if stated == there else "wrong")


def _split(headers: Sequence[Header], tensors: int) -> Iterator[CheckpointIssue]:
    """A split model needs all of its parts."""
    count = headers[0].whole("split.count") or 1
    match = _PART.fullmatch(headers[0].path.name)
    if match is not None:
        count = max(count, int(match[3]))
    if len(headers) < count:
        there = {_number(h.path) for h in headers}
        missing = [n for n in range(1, min(count, 10_000) + 1) if n not in there]
        yield CheckpointIssue(
            "error",
            f"{len(headers)} of {count} parts are there; part {missing[0] if missing else count} "
            "is missing",
            "download all parts into one folder",
        )
        return
    stated = headers[0].whole("split.tensors.count")
    if stated is not None and stated != tensors:
        what = f"split.tensors.count says {stated} tensors, and the parts hold {tensors}"
        yield CheckpointIssue("error", what, _AGAIN)


def _number(path: Path) -> int:
    match = _PART.fullmatch(path.name)
    return int(match[2]) if match else 1


def _within(header: Header) -> Iterator[CheckpointIssue]:
    """Each tensor has its own bytes, and they are in the file."""
    placed = sorted((t for t in header.tensors if t.end > t.begin), key=lambda t: (t.begin, t.end))
    beyond = [t for t in placed if t.end > header.data]
    if beyond:
        yield CheckpointIssue(
            "error",
            f"{header.path.name} is cut short: {len(beyond)} of {len(header.tensors)} tensors end "
            f"beyond it, the first is {beyond[0].name}",
            "download the file again",
        )
    for one, other in pairwise(placed):
        if other.begin < one.end:
            what = f"{header.path.name}: {one.name} and {other.name} share bytes"
            yield CheckpointIssue("error", what, _AGAIN)
            return


def _blocks(tensors: Sequence[Tensor]) -> Iterator[CheckpointIssue]:
    """No block is missing, and none lacks what nearly all others have."""
    own: dict[str, dict[int, Tensor]] = {}
    for tensor in tensors:
        match = _BLOCK.fullmatch(tensor.name)
        if match is not None and len(match[1]) < 7:
            own.setdefault(match[2], {})[int(match[1])] = tensor
    numbers = {n for found in own.values() for n in found}
    if not numbers:
        return
    absent = [n for n in range(min(max(numbers) + 1, len(numbers) + 64)) if n not in numbers]
    if absent:
        what = f"block {absent[0]} is missing, block {max(numbers)} is there"
        yield CheckpointIssue("error", what, _AGAIN, "shapes")
    lacking = [
        f"blk.{n}.{part}"
        for part, found in own.items()
        if 0 < len(numbers) - len(found) <= _MOST_WITHOUT * len(numbers)
        for n in sorted(numbers - set(found))
    ]
    if lacking:
        more = f", and {len(lacking) - _SHOWN} more" if lacking[_SHOWN:] else ""
        yield CheckpointIssue(
            "warning",
            f"{', '.join(lacking[:_SHOWN])}{more}: not there, and nearly all other blocks have it",
            "if the architecture does not leave it out there, " + _AGAIN,
        )


def _tokenizer(header: Header) -> Iterator[CheckpointIssue]:
    values = header.values
    if "tokenizer.ggml.model" not in values or "tokenizer.ggml.tokens" not in values:
        yield CheckpointIssue("warning", "the file has no tokenizer", _AGAIN)
        return
    tokens = _length(header, "tokenizer.ggml.tokens") or 0
    for kind in ("bos", "eos", "eot", "unknown", "padding"):
        found = header.whole(f"tokenizer.ggml.{kind}_token_id")
        if found is not None and not 0 <= found < tokens:
            yield CheckpointIssue(
                "error",
                f"tokenizer.ggml.{kind}_token_id is {found}, and there are {tokens} tokens",
                _AGAIN,
            )
    if header.whole("tokenizer.ggml.eos_token_id") is None:
        yield CheckpointIssue("warning", "no eos token is stated: nothing ends a text")
    if not isinstance(values.get("tokenizer.chat_template"), str):
        yield CheckpointIssue("note", "the file has no chat template")


def _length(header: Header, key: str) -> int | None:
    value: Any = header.values.get(key)
    if isinstance(value, Array):
        return value.length
    return len(value) if isinstance(value, list) else None
