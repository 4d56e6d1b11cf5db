"""Layers that run otherwise than once and in their order, or with the weights of others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from harness.devices.causes import NEIGHBOURS, Cause


@dataclass(frozen=True, eq=False)
class Seen:
    """What a layer got and gave: hidden states (1, n, width), and its other arguments."""

    entered: Any
    named: dict[str, Any]
    left: Any


@dataclass(frozen=True, eq=False)
class Layers:
    """The decoder's layers, in their order.

    Attributes:
        alike: whether all have weights of the same shapes.
    """

    names: tuple[str, ...]
    modules: tuple[Any, ...]
    alike: bool

    @staticmethod
    def of(model: Any) -> Layers:
        count = model.config.get_text_config().num_hidden_layers
        for name, module in model.named_modules():
            if name.rpartition(".")[2] == "layers" and len(list(module.children())) == count:
                modules = tuple(module.children())
                shapes = [[(n, p.shape) for n, p in m.named_parameters()] for m in modules]
                names = tuple(f"{name}.{i}" for i in range(count))
                return Layers(names, modules, all(s == shapes[0] for s in shapes))
        return Layers((), (), False)

    def orders(self) -> tuple[Cause, ...]:
        """The layers' weights all shifted: each has those of the layer before or after, and the
        one without such a neighbour its own, or those of the other end."""
        if not self.alike or len(self.names) < 2:
            return ()
        return tuple(Cause(kind) for kind in _ORDERS)

    @contextmanager
    def changed(self, cause: Cause) -> Iterator[None]:
        """With layers skipped, doubled, exchanged or shifted."""
        order = self.order_of(cause)
        if order is not None:
            with self._ordered(order):
                yield
            return
        handle = self.modules[self.names.index(cause.place)].register_forward_hook(
            _skipped if cause.kind == "layer_skipped" else _doubled, with_kwargs=True
        )
        try:
            yield
        finally:
            handle.remove()

    def order_of(self, cause: Cause) -> list[int] | None:
        """Of each layer the one whose weights it has; None of a cause that exchanges none."""
        last = len(self.modules) - 1
        if cause.kind in _ORDERS:
            step, around = _ORDERS[cause.kind]
            wanted = [i + step for i in range(last + 1)]
            return [w % (last + 1) if around else min(max(w, 0), last) for w in wanted]
        if cause.kind != "layers_exchanged":
            return None
        at, order = self.names.index(cause.place), list(range(last + 1))
        order[at], order[cause.index] = cause.index, at
        return order

    @contextmanager
    def _ordered(self, order: Sequence[int]) -> Iterator[None]:
        """Each layer with the weights of another; nothing is copied."""
        own = [[p.data for p in module.parameters()] for module in self.modules]
        try:
            for module, chosen in zip(self.modules, order, strict=True):
                for parameter, data in zip(module.parameters(), own[chosen], strict=True):
                    parameter.data = data
            yield
        finally:
            for module, mine in zip(self.modules, own, strict=True):
                for parameter, data in zip(module.parameters(), mine, strict=True):
                    parameter.data = data

    # --- which changes are likely

    @contextmanager
    def watched(self) -> Iterator[list[Seen]]:
        """What each layer gets and gives in the passes until the context is left."""
        seen: list[Seen] = []

        def hook(_: Any, given: Any, named: dict[str, Any], output: Any) -> None:
            entered, rest = _entered(given, named)
            seen.append(Seen(entered, rest, _hidden(output)))

        with ExitStack() as stack:
            for module in self.modules:
                handle = module.register_forward_hook(hook, with_kwargs=True)
                stack.callback(handle.remove)
            yield seen

    def moved(self, seen: Sequence[Seen]) -> Iterator[tuple[Cause, int, Any]]:
        """Each change of one layer or of two neighbours, with the layer whose output it moves,
        and by how much."""
        for at, (module, one) in enumerate(zip(self.modules, seen, strict=True)):
            name = self.names[at]
            yield Cause("layer_skipped", name), at, one.entered - one.left
            twice = _hidden(module(one.left, **one.named))
            yield Cause("layer_doubled", name), at, twice - one.left
            if self.alike and at + 1 < len(self.modules):
                other, after = Cause("layers_exchanged", name, at + 1), seen[at + 1]
                with self.changed(other):
                    between = _hidden(module(one.entered, **one.named))
                    left = _hidden(self.modules[at + 1](between, **after.named))
                yield other, at + 1, left - after.left


#: By how many layers the weights are shifted, and whether the end goes on at the other one.
_ORDERS = {
    "layers_before": (-1, False),
    "layers_after": (1, False),
    "layers_turned_before": (-1, True),
    "layers_turned_after": (1, True),
}


def neighbours_of(
    parameters: Mapping[str, Any], layers: Layers
) -> dict[str, tuple[tuple[str, str], ...]]:
    """Of each parameter of a layer's norms the names of those of the same norm one layer on and
    back, by the kind of cause."""
    steps = dict(zip(NEIGHBOURS, (1, -1), strict=True))
    places = {f"{name}.": at for at, name in enumerate(layers.names)}
    found: dict[str, tuple[tuple[str, str], ...]] = {}
    for name, parameter in parameters.items():
        layer = next((place for place in places if name.startswith(place)), None)
        if layer is None or parameter.dim() != 1 or "norm" not in name.rpartition(".")[0]:
            continue
        others: list[tuple[str, str]] = []
        for kind, step in steps.items():
            at = places[layer] + step
            if 0 <= at < len(layers.names):
                other = f"{layers.names[at]}.{name.removeprefix(layer)}"
                if other in parameters and parameters[other].shape == parameter.shape:
                    others.append((kind, other))
        found[name] = tuple(others)
    return found


def _hidden(output: Any) -> Any:
    """A layer's output, of which some releases make a tuple."""
    return output[0] if isinstance(output, tuple) else output


def _entered(given: Any, named: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """A layer's hidden states, and what else it is given."""
    rest = {name: value for name, value in named.items() if name != "hidden_states"}
    return (given[0] if given else named["hidden_states"]), rest


def _as(output: Any, hidden: Any) -> Any:
    return (hidden, *output[1:]) if isinstance(output, tuple) else hidden


def _skipped(_: Any, given: Any, named: dict[str, Any], output: Any) -> Any:
    return _as(output, _entered(given, named)[0])


def _doubled(module: Any, given: Any, named: dict[str, Any], output: Any) -> Any:
    # Not by calling the module, whose hook this is.
    return _as(output, _hidden(module.forward(_hidden(output), **_entered(given, named)[1])))
