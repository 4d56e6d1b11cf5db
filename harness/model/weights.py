"""The tensors of a checkpoint, read without torch where the container allows.

Of a safetensors file the header is read in plain Python
(:mod:`harness.model.safetensors_file`); a pickle takes torch.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

from harness.errors import ModelError
from harness.files.jsonfile import refuse_repeats
from harness.files.reading import check_regular, read_regular
from harness.model.hub import first_line, require
from harness.model.model import MAX_JSON
from harness.model.safetensors_file import safetensors_header

_QUANTIZED = "quant_model_weight"
#: Torch's names of dtypes, in the words of safetensors.
_FROM_TORCH = {
    "bool": "BOOL",
    "int8": "I8",
    "uint8": "U8",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "int16": "I16",
    "uint16": "U16",
    "float16": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "uint32": "U32",
    "float32": "F32",
    "int64": "I64",
    "uint64": "U64",
    "float64": "F64",
    "complex64": "C64",
}

_BLOCK = 1 << 22


@dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint.

    Attributes:
        name: its key.
        dtype: in the words of safetensors, as ``BF16``.
        shape: its dimensions.
        bytes: its length.
        sha256: of its little-endian bytes, in hexadecimal.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    sha256: str

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


def read_tensors(folder: Path, progress: Callable[[str], None] | None = None) -> list[Tensor]:
    """Every tensor of the checkpoint in a folder, sorted by name.

    The container is the one that Transformers would take: model.safetensors,
    its index, pytorch_model.bin, its index.

    Raises:
        ModelError: without weights, or with damaged or hostile ones.
        MissingDependency: for pytorch_model.bin without torch.
    """

    def read(path: Path, place: str) -> Iterable[Tensor]:
        if progress is not None:
            progress(f"reading the weights: {path.name} ({place})")
        return _pickled(path) if path.suffix == ".bin" else _safetensors(path)

    tensors = tensors_of_files(folder, read)
    return [tensors[name] for name in sorted(tensors)]


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_T = TypeVar("_T", bound=_Named)


def tensors_of_files(folder: Path, read: Callable[[Path, str], Iterable[_T]]) -> dict[str, _T]:
    """The tensors of a checkpoint by name, each in one file, none missing.

    Args:
        folder: of the checkpoint.
        read: gives the tensors of one file; its second argument is the
            file's place, as ``2 of 3``.

    Raises:
        ModelError: without weights, for a tensor in two files, or for one
            that the index names and no file holds.
    """
    files, promised = weight_files(folder)
    tensors: dict[str, _T] = {}
    homes: dict[str, Path] = {}
    for number, path in enumerate(files, 1):
        for tensor in read(path, f"{number} of {len(files)}"):
            if tensor.name in tensors:
                raise ModelError(
                    f"{path}: tensor {tensor.name!r} is in {homes[tensor.name].name} too; "
                    "remove the files that the index does not name, or download again"
                )
            tensors[tensor.name], homes[tensor.name] = tensor, path
    missing = sorted(promised - set(tensors))
    if missing:
        raise ModelError(
            f"{folder}: no file holds the tensor {missing[0]!r}{_others(missing)}, which the index "
            "names; download the checkpoint again"
        )
    return tensors


def _others(names: Sequence[str]) -> str:
    return f" and {len(names) - 1} more" if len(names) > 1 else ""


def weight_files(folder: Path) -> tuple[list[Path], set[str]]:
    """The files of weights, and the tensors that an index promises in them.

    The set is empty where there is no index.

    Raises:
        ModelError: without weights, for a file of the index that is missing,
            or for an index that is damaged or leads out of the folder.
    """
    for stem in ("model.safetensors", "pytorch_model.bin"):
        if (folder / stem).is_file():
            return [folder / stem], set()
        index = folder / f"{stem}.index.json"
        if index.is_file():
            return _indexed(index, os.path.splitext(stem)[1])
    if found := _of_a_quantizer(folder):
        return found
    raise ModelError(
        f"{folder}: no weights; there is neither model.safetensors nor pytorch_model.bin, "
        "nor an index of either"
    )


def _of_a_quantizer(folder: Path) -> tuple[list[Path], set[str]] | None:
    """Weights under the name that msModelSlim gives them, as ``quant_model_weight_w8a8``."""
    try:
        names = sorted(name for name in os.listdir(folder) if name.startswith(_QUANTIZED))
    except OSError:
        return None
    for name in names:
        if name.endswith(".index.json"):
            return _indexed(folder / name, ".safetensors")
    files = [folder / name for name in names if name.endswith(".safetensors")]
    return (files, set()) if files else None


def _indexed(index: Path, suffix: str) -> tuple[list[Path], set[str]]:
    try:
        text = read_regular(index, MAX_JSON)
        names = json.loads(text, object_pairs_hook=refuse_repeats)["weight_map"]
        files = sorted(set(names.values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError(
            f"{index}: not readable as an index of weights: {first_line(error)}; download it again"
        ) from error
    for file in files:
        if not isinstance(file, str) or os.path.basename(file) != file or "\\" in file:
            raise ModelError(f"{index}: {file!r} is not the name of a file beside the index")
        if not file.endswith(suffix) or not (index.parent / file).is_file():
            raise ModelError(
                f"{index}: {file!r} is not a {suffix} file in its folder; download the missing file"
            )
    return [index.parent / file for file in files], set(names)


def _safetensors(path: Path) -> Iterator[Tensor]:
    try:
        check_regular(path)
        with open(path, "rb") as stream:
            entries, start = safetensors_header(path, stream)
            for name, dtype, shape, begin, end in entries:
                stream.seek(start + begin)
                digest = sha256_of(path, stream, end - begin)
                yield Tensor(name, dtype, shape, end - begin, digest)
    except OSError as error:
        raise ModelError(f"{path}: not readable: {first_line(error)}") from error


def sha256_of(path: Path, stream: BinaryIO, length: int) -> str:
    """The digest of the next ``length`` bytes, in hexadecimal.

    Raises:
        ModelError: if there are fewer.
    """
    digest = hashlib.sha256()
    while length:
        block = stream.read(min(length, _BLOCK))
        if not block:
            raise ModelError(f"{path}: became shorter while it was read")
        digest.update(block)
        length -= len(block)
    return digest.hexdigest()


def _pickled(path: Path) -> Iterator[Tensor]:
    torch = require("torch", f"reading {path.name}")
    try:
        state = _load_pickle(torch, path)
    except Exception as error:
        # Whatever a damaged or hostile pickle makes the unpickler raise.
        raise ModelError(f"{path}: not loadable as plain tensors: {first_line(error)}") from error
    for name, tensor in state.items():
        if not isinstance(tensor, torch.Tensor):
            continue
        dtype = str(tensor.dtype).removeprefix("torch.")
        if dtype not in _FROM_TORCH:
            raise ModelError(f"{path}: tensor {name!r} has the dtype {dtype}, unknown here")
        flat = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
        digest = hashlib.sha256()
        for start in range(0, len(flat), _BLOCK):
            digest.update(flat[start : start + _BLOCK].numpy().data)
        yield Tensor(
            str(name), _FROM_TORCH[dtype], tuple(tensor.shape), len(flat), digest.hexdigest()
        )


def _load_pickle(torch: Any, path: Path) -> dict[str, Any]:
    options = {"map_location": "cpu", "weights_only": True}
    try:
        state = torch.load(path, mmap=True, **options)
    except RuntimeError:  # a file from before torch 1.6 cannot be mapped
        state = torch.load(path, **options)
    if not isinstance(state, dict):
        raise TypeError(f"holds a {type(state).__name__}, not a table of tensors")
    return state
