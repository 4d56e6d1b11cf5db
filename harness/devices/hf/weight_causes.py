"""Which causes a weight has a part in, and what a cause makes of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from harness.devices.causes import EXCHANGES, NEIGHBOURS, ROUNDINGS, Cause
from harness.devices.hf.exchanges import exchanged
from harness.devices.hf.heads import OUT, QUERY, Heads
from harness.devices.hf.rounding import rounded

_LAYER = re.compile(r"(?:.+\.)?layers\.\d+(?=\.)")
#: What the last part of a projection's name says of it.
_DOWN, _QUERY_NORM = "down_proj", "q_norm"


class WeightCauses:
    """The weights of a model by the causes that change them.

    Args:
        model: its modules; the numbers of its weights are not looked at.
        shape: its heads.
        names: of the weights that causes may change.
        neighbours: of a norm's weight, those of the same norm in other layers, see
            ``neighbours_of``.
        tensor_of: the numbers of a norm's weight, as they are without any change.
    """

    def __init__(
        self,
        torch: Any,
        model: Any,
        shape: Heads,
        names: Iterable[str],
        neighbours: Mapping[str, tuple[tuple[str, str], ...]],
        tensor_of: Callable[[str], Any],
    ) -> None:
        self._torch, self._shape = torch, shape
        self._neighbours, self._tensor_of = neighbours, tensor_of
        self._normed = {
            n.rpartition(".")[0] for n, _ in model.named_modules() if n.endswith(_QUERY_NORM)
        }
        self._unit = {n: _unit_offset(torch, model, n) for n in names}

    def unit(self, name: str) -> float:
        """What a norm adds to its weight before it multiplies by it."""
        return self._unit[name]

    def neighbours(self, name: str) -> Iterator[tuple[str, Any]]:
        """The weights of the same norm in the layers before and after, by the kind of cause."""
        for kind, other in self._neighbours.get(name, ()):
            yield kind, self._tensor_of(other)

    def scale_of(self, place: str) -> Cause:
        """The scale of a whole module."""
        within, _, name = place.rpartition(".")
        # A norm of the queries undoes a scale of what they are projected by.
        if name == (_QUERY_NORM if within in self._normed else QUERY):
            return Cause("softmax_scale", within)
        if name == OUT:
            return Cause("attention", within)
        if name == _DOWN:
            return Cause("mlp", within)
        return Cause("norm" if "norm" in name else "linear", place)

    def moved(
        self, parameters: Mapping[str, Any], cause: Cause, size: float
    ) -> Iterator[tuple[Any, Any]]:
        """Each of some weights that a cause changes, and what it becomes.

        Args:
            parameters: those that have numbers; of a layer all or none.
        """
        kind = cause.kind
        # All of them before one is changed: two may stand in each other's place.
        if kind in EXCHANGES:
            heads = (self._shape.queries, self._shape.values, self._shape.width)
            yield from list(exchanged(self._torch, parameters, heads, kind))
        elif kind in NEIGHBOURS:
            yield from [
                (weight, weight + size * (other.to(weight.dtype) - weight))
                for name, weight in ((n, p.detach()) for n, p in parameters.items())
                if within(name.rpartition(".")[0], cause.place)
                for its_kind, other in self.neighbours(name)
                if its_kind == kind
            ]
        else:
            for name, parameter in parameters.items():
                weight = parameter.detach()
                moved = self._of(name, weight, cause, size)
                if moved is not None:
                    yield weight, moved

    def _of(self, name: str, weight: Any, cause: Cause, size: float) -> Any:
        """What a cause makes of a weight; None where it changes nothing."""
        place, _, what = name.rpartition(".")
        kind = cause.kind
        if kind in ROUNDINGS:
            if weight.dim() == 1 or not within(place, cause.place):
                return None
            return weight + size * (rounded(self._torch, weight, kind) - weight)
        if kind in ("row", "column", "channel", "weight"):
            here = place == cause.place and what == "weight"
            return _part_moved(weight, cause, size, self._unit[name]) if here else None
        if kind in ("head", "query_head", "value_head"):
            scale = self._shape.scale_of(self._torch, cause, place, weight, size)
            return None if scale is None else weight * scale
        if cause in self._scales_of(place):
            return weight + size * (weight + self._unit[name])
        return None

    def _scales_of(self, place: str) -> tuple[Cause, ...]:
        """All scales that a module has a part in: its own, its layer's, that of all layers."""
        own = self.scale_of(place)
        return (own, *sums_with(own))


def sums_with(cause: Cause) -> tuple[Cause, ...]:
    """The causes whose effect is a sum that this one is a part of."""
    layer = _LAYER.match(cause.place + ".")
    if layer is None:
        return ()
    if cause.kind in NEIGHBOURS:
        return (Cause(cause.kind, layer.group()),)
    if cause.kind in ROUNDINGS:
        return Cause(cause.kind, layer.group()), Cause(cause.kind)
    if cause.kind in ("attention", "mlp"):
        return Cause("layer", layer.group()), Cause("layer"), Cause(cause.kind)
    return (Cause(cause.kind),) if cause.kind in ("softmax_scale", "norm") else ()


def within(place: str, wanted: str) -> bool:
    """Whether a module is one or is in it; without one, whether it is in a layer."""
    if not wanted:
        return _LAYER.match(place) is not None
    return place == wanted or place.startswith(f"{wanted}.")


@contextmanager
def held(weight: Any, moved: Any) -> Iterator[None]:
    """A weight with other numbers, until the context is left."""
    before = weight.clone()
    weight.copy_(moved)
    try:
        yield
    finally:
        weight.copy_(before)


def _part_moved(weight: Any, cause: Cause, size: float, unit: float) -> Any:
    moved = weight.clone()
    if cause.kind == "column":
        moved[:, cause.index] *= 1.0 + size
    elif cause.kind == "weight":
        moved[cause.index, cause.column] += size
    else:
        moved[cause.index] += size * (moved[cause.index] + unit)
    return moved


def _unit_offset(torch: Any, model: Any, name: str) -> float:
    """1 for a norm that multiplies by one more than its weight, as Gemma's do, else 0."""
    module = model.get_submodule(name.rpartition(".")[0])
    weight = module._parameters.get("weight")
    if "norm" not in type(module).__name__.lower() or weight is None or weight.dim() != 1:
        return 0.0
    zeros = torch.nn.Parameter(torch.zeros(weight.shape), requires_grad=False)
    probe = torch.linspace(-1.0, 1.0, weight.numel())[None]
    module._parameters["weight"] = zeros
    try:
        with torch.no_grad():
            shown = module(probe)
    except (RuntimeError, TypeError, ValueError):
        return 0.0  # a norm that needs more than its input
    finally:
        module._parameters["weight"] = weight
    return 1.0 if bool((shown != 0.0).any()) and getattr(module, "bias", None) is None else 0.0
