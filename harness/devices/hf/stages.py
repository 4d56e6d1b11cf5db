"""All prompts through one layer, then all through the next: each weight is needed once.

A pass of the model is run once for each decoder layer and once more for its end. In the pass
of a layer the layers before it are not run: they give what the layer before gave, which was
kept. The layer itself runs with its weights in memory, and the pass ends there. So the code
around the layers (embedding, masks, rotary embedding) is the model's own, each prompt is computed
alone, and every product has the operands and kernels that it has in memory: the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from harness.devices.hf.kept_states import State, States
from harness.devices.hf.on_disk import OnDisk
from harness.errors import DeviceError
from harness.process.memory import available_bytes

#: Up to how many bytes a layer is converted as a whole, and up to which share of the memory that
#: is available. Converting each weight once takes half the time of widening it for each prompt
#: (measured: products of 120 rows at 100 GFLOP/s against 50), and twice the memory or more.
_CONVERTED, _SHARE = 1 << 30, 0.1


@dataclass(frozen=True, eq=False)
class Pass:
    """One prompt's pass over the model.

    Attributes:
        key: of its state, unique and the same after a restart.
        run: the whole pass; its result is taken from the last stage.
        side: what hooks saw so far, kept with the state: tensors by name, filled during ``run``.
    """

    key: str
    run: Callable[[], Any]
    side: State


class Changes:
    """What becomes of the layers' weights in some passes: nothing."""

    def source(self, number: int) -> int:
        """The layer whose weights a layer has."""
        return number

    def placed(self, number: int) -> None:
        """Called with the weights of a layer in memory, which may be changed there."""


AS_THEY_ARE = Changes()


class Stages:
    """A model whose weights are on disk, layer by layer.

    Args:
        model: the skeleton.
        weights: its tensors.

    Raises:
        DeviceError: if the model's layers cannot be told.
    """

    def __init__(self, torch: Any, model: Any, weights: OnDisk) -> None:
        self._torch, self._weights = torch, weights
        self._layers = _layers(torch, model)
        self._head = model.get_output_embeddings()
        modules = dict(model.named_modules())
        inside = {n for layer in self._layers for n in weights.below(layer[0])}
        self._ends = [n for n in _names_of(model, self._head, weights) if n not in inside]
        tokens = int(model.config.get_text_config().vocab_size)
        looked_up = [
            (name, module)
            for name, module in modules.items()
            if _looks_up(torch, module, tokens) and f"{name}.weight" not in inside
        ]
        apart = set(self._ends)
        for name, module in looked_up:
            [first] = weights.first_names([f"{name}.weight"])
            if weights.plain(first):
                _look_up(torch, module, weights, first)
                apart.add(first)
        rest = [n for n in weights.all() if n not in inside and n not in apart]
        weights.load(rest, lambda _: False)

    @property
    def count(self) -> int:
        """How often each pass is run: once a layer, and once for the end."""
        return len(self._layers) + 1

    def run(
        self,
        passes: Sequence[Pass],
        states: States,
        widened: bool,
        on_pass: Callable[[], None],
        changes: Changes = AS_THEY_ARE,
    ) -> Iterator[Any]:
        """The result of each pass, in order, as it is made in the last stage.

        Args:
            states: what each pass had come to; it may hold some of an earlier run.
            widened: whether linear layers widen their weights themselves.
            on_pass: called after each pass of each stage that is run.
            changes: of the weights, for these passes.
        """
        done = [states.stage(each.key) for each in passes]
        first = min(done, default=0)
        for number in range(first, len(self._layers)):
            todo = [p for p, stage in zip(passes, done, strict=True) if stage <= number]
            source = changes.source(number)
            with self.layer(number, weights_of=source, widened=widened) as given:
                changes.placed(number)
                for each in todo:
                    states.put(each.key, number + 1, _pass(each, number, states, given))
                    on_pass()
        self.give_back()
        with self.end(widened=widened) as given:
            for each in passes:
                given.state = states.get(each.key)
                _restore(each.side, given.state)
                result = each.run()
                states.drop(each.key)
                on_pass()
                yield result

    @contextmanager
    def layer(
        self, number: int, *, weights_of: int | None = None, after: int = 1, widened: bool = False
    ) -> Iterator[Given]:
        """A stage: the layer's weights are in memory, it ends each pass, and the layers before
        it give ``Given.state``.

        Args:
            weights_of: another layer, whose weights it has.
            after: how many layers on the next stage will be, whose weights are read ahead.
            widened: whether linear layers widen their weights themselves.
        """
        source = number if weights_of is None else weights_of
        name, module = self._layers[source]
        with ExitStack() as stack:
            as_stored = self._as_stored(module, name, widened)
            stack.enter_context(self._weights.loaded(self._weights.below(name), as_stored))
            self._weights.read_ahead(self._needed(number + after))
            if source != number:
                stack.enter_context(_lent(self._layers[number][1], module))
            yield stack.enter_context(self._stubs(number))

    @contextmanager
    def end(self, *, widened: bool = False) -> Iterator[Given]:
        """The last stage, after all layers."""
        loaded = self._weights.loaded(self._ends, self._as_stored_end(widened))
        with loaded, self._stubs(len(self._layers)) as given:
            yield given

    def names_of(self, number: int) -> list[str]:
        """The weights of a layer."""
        return self._weights.below(self._layers[number][0])

    def give_back(self) -> None:
        """Keep no memory for layers to come."""
        self._weights.give_back()

    def _needed(self, number: int) -> list[str]:
        """What a stage needs."""
        if number < 0:
            return []
        return self._ends if number >= len(self._layers) else self.names_of(number)

    @contextmanager
    def _stubs(self, number: int) -> Iterator[Given]:
        """Layers before ``number`` give what was kept; that layer ends the pass."""
        given = Given()
        with ExitStack() as stack:
            for at, (_, module) in enumerate(self._layers[: number + 1]):
                if at == number:
                    # A hook: those that change what the layer gives have been called before it.
                    stack.callback(module.register_forward_hook(_leave).remove)
                else:
                    stack.callback(_give_back, module, module.__dict__.get("forward"))
                    module.forward = given.kept
            yield given

    def _as_stored(self, module: Any, prefix: str, widened: bool) -> Callable[[str], bool]:
        """Which weights of a layer are not converted: where a whole layer would take too much,
        those that a linear layer widens itself, at every use."""
        most = max(_CONVERTED, _SHARE * (available_bytes() or 0))
        large = self._weights.nbytes(self._weights.below(prefix)) > most
        linear = {f"{prefix}.{n}.weight" for n in _linears(self._torch, module)}
        return lambda name: large and widened and name in linear and self._exact(name)

    def _as_stored_end(self, widened: bool) -> Callable[[str], bool]:
        plain = type(self._head) is self._torch.nn.Linear
        return lambda name: widened and plain and self._exact(name)

    def _exact(self, name: str) -> bool:
        """Whether a weight on disk has the model's numbers: in its dtype, or widened to float32."""
        if not self._weights.plain(name):
            return False
        stored, wanted = self._weights.stored_dtype(name), self._weights.dtype(name)
        halves = (self._torch.bfloat16, self._torch.float16)
        return stored == wanted or (wanted == self._torch.float32 and stored in halves)


@contextmanager
def _lent(module: Any, other: Any) -> Iterator[None]:
    """A layer with the weights of another one, which has the same."""
    pairs = list(zip(module.modules(), other.modules(), strict=True))
    before = [dict(one._parameters) for one, _ in pairs]
    try:
        for one, source in pairs:
            one._parameters.update(source._parameters)
        yield
    finally:
        for (one, _), own in zip(pairs, before, strict=True):
            one._parameters.update(own)


def left_by(run: Callable[[], Any], number: int) -> State:
    """What the layer that ends a pass gives, as a state.

    Raises:
        DeviceError: if the pass came to its end.
    """
    try:
        run()
    except _Left as left:
        return _state_of(left.output)
    raise DeviceError(f"layer {number} of the model was not run, so the model cannot be streamed")


class _Left(BaseException):
    """What a layer gave; it ends the pass. A model's code must not take it for an error."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


def _leave(_: Any, __: Any, output: Any) -> None:
    raise _Left(output)


class Given:
    """What the layers before a stage give."""

    def __init__(self) -> None:
        self.state: State = {}

    def kept(self, *_: Any, **__: Any) -> Any:
        return _output_of(self.state)


def _pass(each: Pass, number: int, states: States, given: Given) -> State:
    """One pass up to a layer, and its state after it."""
    given.state = states.get(each.key) if number else {}
    _restore(each.side, given.state)
    left = left_by(each.run, number)
    return {**left, **{f"{_SIDE}{k}": v for k, v in each.side.items()}}


def _restore(side: State, state: State) -> None:
    side.clear()
    side.update({k.removeprefix(_SIDE): v for k, v in state.items() if k.startswith(_SIDE)})


_SIDE, _ALONE = "side.", "output"


def _state_of(output: Any) -> State:
    """A layer's output: a tensor, or a tuple that begins with one."""
    if not isinstance(output, tuple):
        return {_ALONE: output}
    if any(part is not None and not hasattr(part, "dtype") for part in output):
        raise DeviceError("a layer gives more than tensors, so the model cannot be streamed")
    return {f"{_ALONE}.{i}.{len(output)}": p for i, p in enumerate(output) if p is not None}


def hidden_name(state: State) -> str:
    """The name of the hidden states in what a layer gives."""
    return _ALONE if _ALONE in state else next(k for k in state if k.startswith(f"{_ALONE}.0."))


def _output_of(state: State) -> Any:
    if _ALONE in state:
        return state[_ALONE]
    parts = {k: v for k, v in state.items() if k.startswith(f"{_ALONE}.")}
    length = int(next(iter(parts)).rpartition(".")[2])
    return tuple(parts.get(f"{_ALONE}.{i}.{length}") for i in range(length))


def _layers(torch: Any, model: Any) -> list[tuple[str, Any]]:
    """The decoder's layers: of the lists with as many modules as layers the one of most weights."""
    count = model.config.get_text_config().num_hidden_layers
    found = [
        (name, list(module))
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.ModuleList) and len(module) == count
    ]
    if not found:
        raise DeviceError(
            f"{type(model).__name__} has no list of {count} layers, so the model cannot be streamed"
        )
    sizes = [sum(p.numel() for m in modules for p in m.parameters()) for _, modules in found]
    name, modules = found[sizes.index(max(sizes))]
    return [(f"{name}.{i}", module) for i, module in enumerate(modules)]


def _linears(torch: Any, module: Any) -> list[str]:
    kind = torch.nn.Linear
    return [name for name, inner in module.named_modules() if type(inner) is kind]


def _names_of(model: Any, module: Any, weights: OnDisk) -> list[str]:
    """The tensors of one module, under their first names."""
    name = next((n for n, m in model.named_modules() if m is module), "")
    return weights.first_names(f"{name}.{leaf}" for leaf, _ in module.named_parameters())


def _looks_up(torch: Any, module: Any, tokens: int) -> bool:
    """Whether it is a table of tokens; one of positions is small, and may be asked otherwise."""
    table = isinstance(module, torch.nn.Embedding) and module.max_norm is None
    return table and module.num_embeddings >= tokens


def _look_up(torch: Any, module: Any, weights: OnDisk, name: str) -> None:
    """Let an embedding read no rows but those of the ids that it is given."""
    own = module.forward

    def forward(ids: Any) -> Any:
        unique, places = torch.unique(ids, return_inverse=True)
        before, padding = module.weight, module.padding_idx
        rows = torch.nn.Parameter(weights.rows(name, unique), requires_grad=False)
        try:
            module._parameters["weight"], module.padding_idx = rows, None
            return own(places)
        finally:
            module._parameters["weight"], module.padding_idx = before, padding

    module.forward = forward


def _give_back(module: Any, own: Any) -> None:
    if own is None:
        module.__dict__.pop("forward", None)
    else:
        module.forward = own
