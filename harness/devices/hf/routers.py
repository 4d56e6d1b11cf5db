"""What the routers of a mixture of experts chose, by hooks on a Transformers model.

A router is the module ``gate`` or ``router`` beside ``experts``. In most classes it gives
the chosen experts itself; where it is a linear layer, they are the largest of its logits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.statistics.routes import Routes, set_hashes

_NAMES = ("gate", "router")
_COUNTS = ("top_k", "num_experts_per_tok", "moe_topk", "num_selected_experts")


class Routers:
    """The routers of a model, and what they chose in its last pass.

    Args:
        model: of Transformers, loaded; hooks stay on it as long as it lives.
    """

    def __init__(self, model: Any) -> None:
        self._seen: dict[int, tuple[Any, Any]] = {}
        self._count = 0
        for number, (block, router) in enumerate(_routers(model)):
            router.register_forward_hook(self._hook(number, block, model.config))
            self._count += 1

    def told(self) -> dict[str, Any]:
        """What was seen so far, as tensors by name: for a pass that is interrupted."""
        parts = {n: {"ids": ids, "logits": logits} for n, (ids, logits) in self._seen.items()}
        return {f"{n}.{k}": t for n, of in parts.items() for k, t in of.items() if t is not None}

    def recall(self, told: Mapping[str, Any]) -> None:
        """Go on from what :meth:`told` gave."""
        numbers = {int(name.partition(".")[0]) for name in told}
        self._seen = {n: (told[f"{n}.ids"], told.get(f"{n}.logits")) for n in numbers}

    def take(self) -> Routes | None:
        """The routes of all tokens of the last pass; None where a router was not run, did not
        say, or ran on fewer tokens than another."""
        seen, self._seen = self._seen, {}
        if not self._count or len(seen) < self._count:
            return None
        chosen, margins = [], []
        for number in range(self._count):
            ids, logits = seen[number]
            indices = ids.cpu().numpy()
            chosen.append(set_hashes(indices))
            margins.append(None if logits is None else _margins(_floats(logits), indices))
        if len({len(tokens) for tokens in chosen}) != 1:
            return None
        told = [m for m in margins if m is not None]
        whole = len(told) == len(margins)
        return Routes(np.stack(chosen, 1), np.stack(told, 1) if whole else None)

    def _hook(self, number: int, block: Any, config: Any) -> Any:
        def after(_: Any, __: Any, output: Any) -> None:
            found = _choice(output, _top_k(block, config))
            if found is not None:
                self._seen[number] = found

        return after


def _routers(model: Any) -> Iterator[tuple[Any, Any]]:
    """Each block of experts with its router, in the model's order."""
    for block in model.modules():
        children = dict(block.named_children())
        router = next((children[name] for name in _NAMES if name in children), None)
        if router is not None and "experts" in children:
            yield block, router


def _top_k(block: Any, config: Any) -> int | None:
    holders = (block, config.get_text_config())
    values = (getattr(holder, name, None) for holder in holders for name in _COUNTS)
    return next((value for value in values if isinstance(value, int)), None)


def _choice(output: Any, top_k: int | None) -> tuple[Any, Any] | None:
    """The chosen experts (tokens, k), and the router's logits (tokens, experts) or None."""
    parts = [p.detach() for p in _tensors(output) if p.ndim >= 2]
    flat = [p.reshape(-1, p.shape[-1]) for p in parts]
    ids = next((p for p in flat if not p.is_floating_point()), None)
    floats = [p for p in flat if p.is_floating_point()]
    if ids is None:
        if not floats or top_k is None or floats[0].shape[-1] <= top_k:
            return None
        return floats[0].float().topk(top_k, dim=-1).indices, floats[0]
    logits = next((p for p in floats if p.shape[-1] > ids.shape[-1]), None)
    return ids, logits


def _tensors(output: Any) -> list[Any]:
    parts = output if isinstance(output, tuple | list) else (output,)
    return [part for part in parts if hasattr(part, "is_floating_point")]


def _floats(logits: Any) -> NDArray[np.float32]:
    array: NDArray[np.float32] = logits.float().cpu().numpy()
    return array


def _margins(logits: NDArray[np.float32], ids: NDArray[np.integer]) -> NDArray[np.float32] | None:
    """Of each token; None where a router went by more than these logits."""
    chosen = np.zeros(logits.shape, bool)
    np.put_along_axis(chosen, ids, values=True, axis=1)
    margin = np.where(chosen, logits, np.inf).min(1) - np.where(chosen, -np.inf, logits).max(1)
    return margin if np.isfinite(margin).all() and (margin >= 0).all() else None
