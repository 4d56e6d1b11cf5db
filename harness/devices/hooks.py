"""Hooks on the modules of a decoder, the same for Transformers' models and vLLM's.

Modules are found by the names that Llama-like models share in both. Fused
projections (``qkv_proj``, ``gate_up_proj``) and the parts that they are fused
from give the same place. vLLM's layers return ``(hidden, residual)``, whose
sum is Transformers' hidden state.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.trace import EMBEDDING, NORM, digest_of, layer_place, sketch_rows
from harness.errors import DeviceError

_LAYER = re.compile(r"(?P<stem>(?:.+\.)?)layers\.(?P<number>\d+)")
_FUSED = {
    "self_attn.qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "mlp.gate_up_proj": ("gate_proj", "up_proj"),
}
_INPUTS = {"self_attn.heads": "self_attn.o_proj", "mlp.act": "mlp.down_proj"}
_OUTPUTS = ("input_layernorm", "self_attn", "post_attention_layernorm", "mlp")
_NEEDED = ("self_attn", "mlp")

Keep = Callable[[str, Any], None]


class Capture:
    """The outputs seen since the last ``take``: pieces of each place, in order.

    A long prompt may come in pieces (chunked prefill); they are joined.
    """

    def __init__(self) -> None:
        self._pieces: dict[str, list[NDArray[np.float32]]] = {}

    def keep(self, place: str, tensor: Any) -> None:
        """Take over an output, shape (positions, width) or (1, positions, width).

        At once: the engine may write its next result into the same memory.
        """
        block = tensor.detach().float().cpu().numpy()
        self._pieces.setdefault(place, []).append(block.reshape(-1, block.shape[-1]).copy())

    def places(self) -> frozenset[str]:
        """The places that were seen so far."""
        return frozenset(self._pieces)

    def take(self, positions: int) -> dict[str, NDArray[np.float32]]:
        """All places, each float32 (positions, width); padding of a batch is left out.

        Raises:
            DeviceError: if a place saw fewer positions.
        """
        pieces, self._pieces = self._pieces, {}
        blocks = {place: np.concatenate(found)[:positions] for place, found in pieces.items()}
        for place, block in blocks.items():
            if len(block) < positions:
                raise DeviceError(
                    f"{place} was run on {len(block)} of {positions} positions: "
                    "the engine did not run the whole prompt (prefix caching must be off)"
                )
        return _joined(blocks)


def sketches_of(
    blocks: dict[str, NDArray[np.float32]],
) -> tuple[dict[str, NDArray[np.float32]], dict[str, bytes]]:
    """Sketch and digest of every place."""
    return (
        {place: sketch_rows(block) for place, block in blocks.items()},
        {place: digest_of(block) for place, block in blocks.items()},
    )


@contextmanager
def hooked(model: Any, keep: Keep, *, shards: int = 1) -> Iterator[None]:
    """Call ``keep(place, output)`` whenever a module of ``model`` has run.

    Args:
        shards: over how many workers the model is spread; the insides of
            attention and MLP are then parts only, and left out.

    Raises:
        DeviceError: if the model has no layers with ``self_attn`` and ``mlp``.
    """
    handles: list[Any] = []
    try:
        for place, module, kind in _modules(model):
            if shards > 1 and kind in ("part", "input"):
                continue
            handles.append(_hook(module, place, kind, keep))
        yield
    finally:
        for handle in handles:
            handle.remove()


def _modules(model: Any) -> Iterator[tuple[str, Any, str]]:
    """Place, module and how its value is read, of every module that is hooked."""
    named = dict(model.named_modules())
    layers = {m.group(): m for name in named if (m := _LAYER.fullmatch(name))}
    layers = {n: m for n, m in layers.items() if all(f"{n}.{c}" in named for c in _NEEDED)}
    if not layers:
        raise DeviceError(
            f"{type(model).__name__} has no `layers.N` with `self_attn` and `mlp`, "
            "so the harness cannot trace it"
        )
    stem = next(iter(layers.values()))["stem"]
    for name, place in ((f"{stem}embed_tokens", EMBEDDING), (f"{stem}norm", NORM)):
        if name in named:
            yield place, named[name], "output"
    for name, match in layers.items():
        number = int(match["number"])
        yield layer_place(number, ""), named[name], "layer"
        for within in _OUTPUTS:
            if f"{name}.{within}" in named:
                yield layer_place(number, within), named[f"{name}.{within}"], "output"
        for within, inner in _INPUTS.items():
            if f"{name}.{inner}" in named:
                yield layer_place(number, within), named[f"{name}.{inner}"], "input"
        for within, parts in _FUSED.items():
            yield from _projections(named, name, layer_place(number, within), within, parts)


def _projections(
    named: dict[str, Any], layer: str, place: str, within: str, parts: tuple[str, ...]
) -> Iterator[tuple[str, Any, str]]:
    """The fused projection, or the parts that another engine fuses."""
    if f"{layer}.{within}" in named:
        yield place, named[f"{layer}.{within}"], "part"
        return
    block = within.partition(".")[0]
    found = [named.get(f"{layer}.{block}.{part}") for part in parts]
    if all(module is not None for module in found):
        for index, module in enumerate(found):
            yield f"{place}#{index}", module, "part"


def _joined(blocks: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Parts (``place#0``, ``place#1``, …) side by side under their common place."""
    joined: dict[str, list[NDArray[np.float32]]] = {}
    for place in sorted(blocks):
        joined.setdefault(place.partition("#")[0], []).append(blocks[place])
    return {p: found[0] if len(found) == 1 else np.hstack(found) for p, found in joined.items()}


def _hook(module: Any, place: str, kind: str, keep: Keep) -> Any:
    if kind == "input":
        return module.register_forward_pre_hook(lambda _, args: keep(place, args[0]))

    def after(_: Any, __: Any, output: Any) -> None:
        keep(place, _value(output, is_layer=kind == "layer"))

    return module.register_forward_hook(after)


def _value(output: Any, *, is_layer: bool) -> Any:
    """The tensor that is a module's output.

    Norms of vLLM return the residual as well, projections a bias, and older
    Transformers' attention its weights: the first is the output.
    """
    if not isinstance(output, tuple):
        return output
    first = output[0]
    other = output[1] if is_layer and len(output) > 1 else None
    if other is not None and getattr(other, "shape", None) == first.shape:
        return first.float() + other.float()
    return first
