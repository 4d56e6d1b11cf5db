"""The weights of a model that stay on disk, and are in memory a few modules at a time.

The model itself is Transformers' own, built on torch's meta device. A module's weights come
from the checkpoint's files, which are mapped into memory, so a page of them is read when it is
used. Where a class has its weights in another form than the checkpoint (stacked experts),
Transformers' own conversion makes them, of the tensors of one layer.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.checkpoint.headers import Stored, read_headers
from harness.errors import DeviceError
from harness.model.model import Model

#: Bytes that the system is asked to read at a time: of more Linux reads the beginning alone.
_AHEAD = 1 << 17


@dataclass(frozen=True, eq=False)
class _Owner:
    """A module that holds a tensor under a name; tied weights have several."""

    module: Any
    name: str


class OnDisk:
    """The tensors of a skeleton (parameters on the meta device, buffers made).

    Args:
        skeleton: the model, whose parameters know their shapes and dtypes.
        backend: where tensors go, as ``cpu``.

    Raises:
        DeviceError: naming a weight of the model that no tensor of the checkpoint gives.
        ModelError: if the checkpoint's headers cannot be read.
    """

    def __init__(self, torch: Any, source: Model, skeleton: Any, backend: str) -> None:
        self._torch, self._model, self._backend = torch, skeleton, backend
        stored = read_headers(Path(source.path), linked=True)
        self._owners = _owners(skeleton)
        self._dtypes = {name: tensor.dtype for name, tensor in _tensors(skeleton)}
        self._names = _aliases(skeleton)
        self._sources, self._converted = _sources(skeleton, stored, self._names)
        self._open: dict[Path, Any] = {}
        self._free: dict[Any, list[Any]] = {}
        self._pooled: set[str] = set()
        lost = [name for name in self._owners if not self._sources.get(name)]
        lost = [name for name in lost if _is_meta(self._owners[name][0])]
        if lost:
            more = f" and {len(lost) - 1} more" if len(lost) > 1 else ""
            raise DeviceError(
                f"{source.name}: {lost[0]}{more} cannot be found in the checkpoint's files by "
                "name, so the model cannot be streamed; leave weights=stream out, on a host with "
                "more memory"
            )

    def all(self) -> list[str]:
        """Every tensor, under its first name."""
        return list(self._owners)

    def first_names(self, names: Iterable[str]) -> list[str]:
        """The first name of each tensor; tied weights have several."""
        return [self._names[name] for name in names]

    def dtype(self, name: str) -> Any:
        """The model's dtype of a tensor."""
        return self._dtypes[name]

    def below(self, prefix: str) -> list[str]:
        """The tensors of a module and all within it."""
        return [name for name in self._owners if name.startswith(f"{prefix}.")]

    def nbytes(self, names: Iterable[str]) -> int:
        """How many bytes they take in the model's dtypes."""
        tensors = dict(_tensors(self._model))
        return sum(tensors[n].numel() * self._dtypes[n].itemsize for n in names)

    @contextmanager
    def loaded(self, names: Sequence[str], as_stored: Callable[[str], bool]) -> Iterator[None]:
        """With these tensors in the model; on the meta device again afterwards.

        Args:
            as_stored: whether a tensor may keep the checkpoint's dtype.

        Raises:
            DeviceError: if a tensor is of another shape.
        """
        try:
            self.load(names, as_stored)
            yield
        finally:
            self.drop(names)

    def load(self, names: Sequence[str], as_stored: Callable[[str], bool]) -> None:
        """Put tensors into the model, to stay there."""
        plain = [name for name in names if name not in self._converted]
        for name in plain:
            tensor = self._tensor(self._sources[name][0])
            kept = as_stored(name)
            self._set(name, tensor.to(self._backend) if kept else self._in_dtype(name, tensor))
        others = [name for name in names if name in self._converted]
        if others:
            self._convert(others)
        # What was converted is a copy. A file that is no longer mapped gives its pages back.
        self._open.clear()

    def drop(self, names: Sequence[str]) -> None:
        """Take tensors out of the model, and let go of the files."""
        for name in names:
            first = self._owners[name][0]
            now = getattr(first.module, first.name)
            if now is not None and now.device.type != "meta":
                empty = self._torch.empty(now.shape, dtype=self._dtypes[name], device="meta")
                self._set(name, empty)
                if name in self._pooled:
                    self._free.setdefault((now.shape, now.dtype), []).append(now.data)
        self._pooled.difference_update(names)
        self._open.clear()

    def give_back(self) -> None:
        """Keep no memory for tensors to come."""
        self._free.clear()

    def rows(self, name: str, ids: Any) -> Any:
        """Some rows of a tensor, in the model's dtype; no other row is read.

        Args:
            ids: int64, shape (n,).

        Returns:
            shape (n, width).
        """
        tensor = self._tensor(self._sources[name][0])
        return tensor[ids.cpu()].to(self._dtypes[name]).to(self._backend)

    def whole(self, name: str) -> Any:
        """A copy of a plain tensor, in the model's dtype; the model is as it was."""
        return self._tensor(self._sources[name][0]).to(self._dtypes[name], copy=True)

    def as_stored(self, name: str) -> Any:
        """A plain tensor as it is on disk, whose pages are read when they are used."""
        return self._tensor(self._sources[name][0])

    def plain(self, name: str) -> bool:
        """Whether the checkpoint stores a tensor as the model has it, but for its dtype."""
        return name not in self._converted and bool(self._sources.get(name))

    def stored_dtype(self, name: str) -> Any:
        """The dtype of a plain tensor on disk."""
        return self._tensor(self._sources[name][0]).dtype

    def read_ahead(self, names: Iterable[str]) -> None:
        """Ask the system to read what will be needed next, where it can be asked.

        It is asked by another thread, since it lets the caller wait where the disk has much to do.
        """
        wanted = [stored for name in names for stored in self._sources.get(name, ())]
        if hasattr(os, "posix_fadvise"):
            threading.Thread(target=_read_ahead, args=(wanted,), daemon=True).start()

    def _in_dtype(self, name: str, tensor: Any) -> Any:
        """A copy in the model's dtype, in memory that a tensor of that shape no longer needs: to
        get new memory from the system takes as long as to convert into it."""
        free = self._free.get((tensor.shape, self._dtypes[name]))
        self._pooled.add(name)
        if free:
            return free.pop().copy_(tensor)
        copy = self._torch.empty(tensor.shape, dtype=self._dtypes[name], device=self._backend)
        return copy.copy_(tensor)

    def _tensor(self, stored: Stored) -> Any:
        """A view of the mapped file."""
        opened = self._open.get(stored.path)
        if opened is None:
            opened = self._open[stored.path] = _opened(self._torch, stored.path)
        return opened.get_tensor(stored.name)

    def _set(self, name: str, tensor: Any) -> None:
        for owner in self._owners[name]:
            before = getattr(owner.module, owner.name)
            if tuple(before.shape) != tuple(tensor.shape):
                raise DeviceError(
                    f"{name} is {tuple(tensor.shape)} in the checkpoint and {tuple(before.shape)} "
                    "in the model; `harness checkpoint inspect` shows where they differ"
                )
            if owner.name in owner.module._parameters:
                tensor = self._torch.nn.Parameter(tensor, requires_grad=False)
                owner.module._parameters[owner.name] = tensor
            else:
                owner.module._buffers[owner.name] = tensor

    def _convert(self, names: Sequence[str]) -> None:
        """Have Transformers make tensors that the checkpoint stores otherwise."""
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import convert_and_load_state_dict_in_model
        from transformers.modeling_utils import LoadStateDictConfig

        needed = {s.name: s for name in names for s in self._sources[name]}
        convert_and_load_state_dict_in_model(
            self._model,
            {key: self._tensor(stored) for key, stored in needed.items()},
            LoadStateDictConfig(
                device_map={"": self._backend},
                dtype=self._dtypes[names[0]],
                weight_mapping=get_model_conversion_mapping(self._model),
            ),
        )
        for name in names:
            if _is_meta(self._owners[name][0]):
                raise DeviceError(f"{name} could not be made of the checkpoint's tensors")


def _read_ahead(wanted: Sequence[Stored]) -> None:
    for stored in wanted:
        with contextlib.suppress(OSError):
            handle = os.open(stored.path, os.O_RDONLY)
            try:
                for at in range(stored.offset, stored.offset + stored.nbytes, _AHEAD):
                    os.posix_fadvise(handle, at, _AHEAD, os.POSIX_FADV_WILLNEED)
            finally:
                os.close(handle)


def _opened(torch: Any, path: Path) -> Any:
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        return safe_open(str(path), framework="pt")
    return _Pickled(torch.load(path, map_location="cpu", weights_only=True, mmap=True))


@dataclass(frozen=True, eq=False)
class _Pickled:
    """A mapped file of ``torch.save``."""

    tensors: Mapping[str, Any]

    def get_tensor(self, name: str) -> Any:
        return self.tensors[name]


def _tensors(model: Any) -> Iterator[tuple[str, Any]]:
    """Parameters, and the buffers that a checkpoint holds; tied ones under each name."""
    saved = set(model.state_dict(keep_vars=True))
    yield from model.named_parameters(remove_duplicate=False)
    yield from ((n, b) for n, b in model.named_buffers(remove_duplicate=False) if n in saved)


def _aliases(model: Any) -> dict[str, str]:
    """Each name of a tensor, and the first name of the same tensor."""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(tensor), name) for name, tensor in _tensors(model)}


def _owners(model: Any) -> dict[str, list[_Owner]]:
    """Who holds each tensor, under its first name."""
    modules = dict(model.named_modules(remove_duplicate=False))
    found: dict[str, list[_Owner]] = {}
    for name, first in _aliases(model).items():
        place, _, leaf = name.rpartition(".")
        found.setdefault(first, []).append(_Owner(modules[place], leaf))
    return found


def _is_meta(owner: _Owner) -> bool:
    return bool(getattr(owner.module, owner.name).device.type == "meta")


def _sources(
    model: Any, stored: Sequence[Stored], names: Mapping[str, str]
) -> tuple[dict[str, list[Stored]], frozenset[str]]:
    """What each tensor is made of; and which of them are not simply one stored tensor."""
    prefix = f"{model.base_model_prefix}."
    renamed = _renamer(model)
    sources: dict[str, list[Stored]] = {}
    converted: set[str] = set()
    for tensor in stored:
        spelled = (tensor.name, prefix + tensor.name, tensor.name.removeprefix(prefix))
        target = next((name for name in spelled if name in names), None)
        if target is None:
            for made in renamed(tensor.name):
                if made in names:
                    sources.setdefault(names[made], []).append(tensor)
                    converted.add(names[made])
        elif not sources.get(names[target]) or target == names[target]:
            # A tied weight that is stored twice: the one under its first name.
            sources[names[target]] = [tensor]
    return sources, frozenset(converted)


def _renamer(model: Any) -> Callable[[str], Sequence[str]]:
    """Which tensors of the model Transformers makes of a stored one; none before Transformers 5."""
    try:
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import (
            WeightConverter,
            WeightRenaming,
            rename_source_key,
        )
    except ImportError:
        return lambda _: ()
    mapping = get_model_conversion_mapping(model)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    state = model.state_dict()

    def renamed(name: str) -> Sequence[str]:
        key, pattern = rename_source_key(
            name, renamings, converters, model.base_model_prefix, state
        )
        if pattern is None:
            return (key,)
        converter = next(c for c in converters if pattern in c.source_patterns)
        first, *others = converter.target_patterns
        return (key, *(key.replace(first, other) for other in others))

    return renamed
