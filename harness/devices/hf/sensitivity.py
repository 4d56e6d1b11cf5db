"""A Transformers model whose logits are traced back to everything that made them.

One backward pass tells how the product of a row's sketch with a given vector moves with
every weight. Each gradient is reduced as soon as it is there, to sums over matrices, heads,
rows and columns, so that memory holds the weights and one gradient.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import (
    EXCHANGES,
    LAYER_CHANGES,
    NEIGHBOURS,
    ROUNDINGS,
    Cause,
    Rounding,
)
from harness.devices.hf.attending import (
    Distances,
    exact_attention,
    groups_of,
    other_windows_of,
    weighed_distance,
)
from harness.devices.hf.exchanges import exchanged, exchanges_of
from harness.devices.hf.heads import OUT, QUERY, VALUE, Heads
from harness.devices.hf.layers import Layers, neighbours_of
from harness.devices.hf.positions import apart, offsets_of
from harness.devices.hf.rounding import rounded
from harness.devices.hf.seen import Seen, Sketches
from harness.devices.hf.settings import changed_setting, setting_now, settings_of

_LAYER = re.compile(r"(?:.+\.)?layers\.\d+(?=\.)")
#: What the last part of a projection's name says of it.
_DOWN = "down_proj"
#: A scale of these is that of another one too: of the query, the output or ``down_proj``.
_SAME = ("k_proj", "k_norm", VALUE, "up_proj")
_QUERY_NORM = "q_norm"
#: Weights that are looked at together: what is made of them stays in a core's cache.
_IN_CACHE = 1 << 16
#: Causes at the two ends of the model.
_ENDS = ("embedding_scale", "embedding_row", "head_row", "logit_scale")


@dataclass(frozen=True, eq=False)
class Gradients:
    """How one product moves with each cause.

    Attributes:
        whole: by cause, of settings, modules, heads and roundings.
        parts: by kind and place, float32 (rows), of single rows, columns, channels and ids.
    """

    whole: Mapping[Cause, float]
    parts: Mapping[tuple[str, str], NDArray[np.float32]]


@dataclass(eq=False)
class _Taken:
    """What was reduced so far of one backward pass."""

    whole: dict[Cause, float] = field(default_factory=dict)
    parts: dict[tuple[str, str], NDArray[np.float32]] = field(default_factory=dict)

    def add(self, cause: Cause, value: float) -> None:
        self.whole[cause] = self.whole.get(cause, 0.0) + value


class Sensitivity:
    """The oracle, seen from its logits.

    Args:
        model: a causal language model of Transformers in float32; its parameters are
            changed in nothing but whether they need a gradient.
        vocab_size: width of a row.
        roundings: of weights.
        keep_rounded: whether the differences of rounded weights are kept in memory, a byte
            each and rounding, instead of computed again at every pass.
        stored_head: the head's weights in the checkpoint of a model whose head is the
            embedding, where they are other ones.
        seen: how rows are seen; sketches where it is not given.
    """

    def __init__(
        self,
        torch: Any,
        model: Any,
        vocab_size: int,
        *,
        roundings: Sequence[Rounding] = ROUNDINGS,
        keep_rounded: bool = True,
        stored_head: Any = None,
        seen: Seen | None = None,
    ) -> None:
        self._torch, self._model, self._vocab_size = torch, model, vocab_size
        self._seen = Sketches(torch, vocab_size) if seen is None else seen
        self._embedding = model.get_input_embeddings()
        self._head = model.get_output_embeddings()
        self._shape = Heads.of(model.config.get_text_config())
        self._roundings = tuple(roundings)
        self._layers, self._groups = Layers.of(model), groups_of(model)
        self._distances = Distances(torch, self._groups)
        self._rows, self._other_head = 0, self._head_of(stored_head)
        self._taken = _Taken()
        bos = getattr(model.config.get_text_config(), "bos_token_id", None)
        self._bos = bos if isinstance(bos, int) else None
        self._begun: str | None = None
        own = {id(self._embedding.weight), id(self._head.weight)}
        self._parameters = {n: p for n, p in model.named_parameters() if id(p) not in own}
        model.requires_grad_(False)
        self._handles = []
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(True)

            def reduce(parameter: Any, name: str = name) -> None:
                self._reduce(name, parameter)

            self._handles.append(parameter.register_post_accumulate_grad_hook(reduce))
        self._normed = {
            n.rpartition(".")[0] for n, _ in model.named_modules() if n.endswith(_QUERY_NORM)
        }
        self._neighbours = neighbours_of(self._parameters, self._layers)
        self._unit = {n: _unit_offset(torch, model, n) for n in self._parameters}
        self._largest: dict[str, Any] = {}
        self._kept = (
            {n: self._differences(p) for n, p in self._parameters.items() if p.dim() > 1}
            if keep_rounded
            else {}
        )

    def close(self) -> None:
        """Give the model back: no gradient of it is looked at any more."""
        for handle in self._handles:
            handle.remove()
        self._model.requires_grad_(False)

    @property
    def exchanges(self) -> tuple[Cause, ...]:
        """The mistakes that change everything and that this model allows."""
        found = exchanges_of(self._parameters, (self._shape.queries, self._shape.values))
        known = [c for c in found if "bos" not in c.kind or self._bos is not None]
        # What all norms do together has no use of a gradient: it is never small.
        norms = [Cause(kind) for kind in NEIGHBOURS if any(self._neighbours.values())]
        whole = (*norms, *offsets_of(self._model), *self._layers.orders())
        return (*known, *whole, *other_windows_of(self._groups))

    @property
    def weights(self) -> int:
        """How many single weights the matrices have."""
        return sum(p.numel() for p in self._parameters.values() if p.dim() == 2)

    @property
    def settings(self) -> tuple[Cause, ...]:
        """The settings that this model has."""
        found = settings_of(self._model)
        return found if self._other_head is None else (*found, Cause(self._other_head[0]))

    def now(self, cause: Cause) -> float | None:
        """The value of a setting; None where it has no single one."""
        return setting_now(self._model, cause)

    # --- rows

    def sketches(self, ids: Sequence[int], rows: int) -> NDArray[np.float64]:
        """The last ``rows`` rows as they are seen: sketches, float64 (rows, w), as
        ``row_statistics`` makes them, or the logits of chosen ids."""
        with self._torch.no_grad():
            logits = self._logits(self._embed(ids), rows)[1]
        return self._seen.of(ids, logits)

    def gradients(
        self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> tuple[NDArray[np.float64], list[Gradients]]:
        """The rows as they are seen, and of each of ``vectors``, float64 of their shape, how
        its product with them moves with every cause."""
        entered = self._embed(ids).detach().requires_grad_(True)
        with self._distances.traced(entered.shape[1]):
            raw, logits = self._logits(entered, len(vectors[0]))
        raw.retain_grad()
        found = []
        for index, vector in enumerate(vectors):
            pull = self._seen.pull(ids, vector, self._vocab_size)
            self._taken, entered.grad, raw.grad = _Taken(), None, None
            self._distances.forget()
            logits.backward(pull, retain_graph=index + 1 < len(vectors))
            self._ends(ids, entered, raw)
            self._taken.whole.update(self._distances.found())
            found.append(_finished(self._taken))
        return self._seen.of(ids, logits.detach()), found

    def entries(
        self, part: Cause, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """How the product with each vector moves with every single weight of a row or a
        column, float64 (vectors, weights)."""
        weight = self._parameters[f"{part.place}.weight"]
        _, logits = self._logits(self._embed(ids), len(vectors[0]))
        found = []
        for index, vector in enumerate(vectors):
            more = index + 1 < len(vectors)
            pull = self._seen.pull(ids, vector, self._vocab_size)
            [moved] = self._torch.autograd.grad(logits, weight, pull, retain_graph=more)
            found.append(moved[part.index] if part.kind == "row" else moved[:, part.index])
        return np.asarray(self._torch.stack(found).double().numpy(), np.float64)

    def layer_changes(
        self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> list[dict[Cause, float]]:
        """How the product with each vector moves, to first order in all that follows, when a
        layer is skipped or run twice, or two neighbours are exchanged."""
        torch = self._torch
        with self._layers.watched() as seen:
            _, logits = self._logits(self._embed(ids), len(vectors[0]))
        outputs = [one.left for one in seen]
        pulls = [
            torch.autograd.grad(
                logits, outputs, self._seen.pull(ids, vector, self._vocab_size), retain_graph=True
            )
            for vector in vectors
        ]
        found: list[dict[Cause, float]] = [{} for _ in vectors]
        with torch.no_grad():
            for cause, at, moved in self._layers.moved(seen):
                for scores, pull in zip(found, pulls, strict=True):
                    scores[cause] = float((pull[at] * moved).double().sum())
        return found

    def _embed(self, ids: Sequence[int]) -> Any:
        given = list(ids)
        if self._begun == "bos_added" and self._bos is not None:
            given = [self._bos, *given]
        elif self._begun == "bos_missing" and given[0] == self._bos and len(given) > 1:
            given = given[1:]
        return self._embedding(self._torch.tensor([given]))

    def _logits(self, entered: Any, rows: int) -> tuple[Any, Any]:
        """What the head gives, and the logits of the last rows, (rows, vocabulary)."""
        kept: list[Any] = []
        self._rows = rows
        handle = self._head.register_forward_hook(lambda _, __, out: kept.append(out))
        try:
            with exact_attention(entered.shape[1]):
                found = self._model(inputs_embeds=entered, use_cache=False, logits_to_keep=rows)
        finally:
            handle.remove()
        return kept[0], found.logits[0, -rows:, : self._vocab_size]

    # --- reductions

    def _ends(self, ids: Sequence[int], entered: Any, raw: Any) -> None:
        """Of embedding and head, which may share a weight: by what goes in and comes out."""
        taken = self._taken
        each = (entered.detach()[0] * entered.grad[0]).sum(-1)
        rows = self._torch.zeros(self._vocab_size).index_add_(
            0, self._torch.tensor(list(ids)), each
        )
        taken.parts["embedding_row", ""] = rows.numpy()
        taken.whole[Cause("embedding_scale")] = float(each.double().sum())
        head = (raw.detach()[0] * raw.grad[0]).sum(0)[: self._vocab_size]
        taken.parts["head_row", ""] = head.numpy().copy()
        taken.whole[Cause("logit_scale")] = float(head.double().sum())

    def _reduce(self, name: str, parameter: Any) -> None:
        """Called with each gradient as it arrives, which is dropped afterwards."""
        gradient, weight = parameter.grad, parameter.detach()
        parameter.grad = None
        place, _, what = name.rpartition(".")
        taken = self._taken
        if parameter.dim() == 1:
            each = (weight + self._unit[name]) * gradient
            taken.add(self._scale_of(place), float(each.double().sum()))
            if what == "weight":
                taken.parts["channel", place] = each.numpy()
            for kind, other in self._neighbours.get(name, ()):
                score = ((other.detach() - weight) * gradient).double().sum()
                taken.add(Cause(kind, place), float(score))
            return
        product = weight * gradient
        taken.add(self._scale_of(place), float(product.double().sum()))
        if parameter.dim() == 2:
            rows, columns = product.sum(1).numpy(), product.sum(0).numpy()
            taken.parts["row", place], taken.parts["column", place] = rows, columns
            for cause, value in self._shape.of_projection(place, rows, columns):
                taken.add(cause, value)
        for kind, score in self._of_roundings(name, weight, gradient):
            taken.add(Cause(kind, place), score)

    def _of_roundings(
        self, name: str, weight: Any, gradient: Any
    ) -> Iterator[tuple[Rounding, float]]:
        """The product of a gradient with what each rounding adds to the weight."""
        sums = dict.fromkeys(self._roundings, 0.0)
        rows = max(1, _IN_CACHE * len(gradient) // gradient.numel())
        for first in range(0, len(gradient), rows):
            block = slice(first, first + rows)
            for kind in self._roundings:
                sums[kind] += self._of_block(name, weight, gradient[block], block, kind)
        yield from sums.items()

    def _of_block(
        self, name: str, weight: Any, gradient: Any, block: slice, kind: Rounding
    ) -> float:
        """As ``_of_roundings``, of some rows."""
        if name in self._kept:
            codes, scales = self._kept[name][kind]
            # Widened first: products of two types are slow.
            by_row = codes[block].float().mul_(gradient).sum(-1, keepdim=True)
            return float(by_row.mul_(scales[block]).sum())
        if name not in self._largest:
            self._largest[name] = weight.abs().amax()
        difference = rounded(self._torch, weight[block], kind, self._largest[name]) - weight[block]
        return float(self._torch.dot(gradient.reshape(-1), difference.reshape(-1)))

    def _differences(self, parameter: Any) -> dict[Rounding, tuple[Any, Any]]:
        """What each rounding adds to a weight, in a byte each with a scale for each row."""
        weight = parameter.detach()
        found: dict[Rounding, tuple[Any, Any]] = {}
        for kind in self._roundings:
            difference = rounded(self._torch, weight, kind) - weight
            scales = difference.abs().amax(-1, keepdim=True).clamp(min=1e-30) / 127.0
            codes = (difference / scales).round().to(self._torch.int8)
            found[kind] = codes, scales
        return found

    # --- changes

    @contextmanager
    def changed(self, cause: Cause, size: float) -> Iterator[None]:
        """The model with a cause of this size, until the context is left."""
        torch = self._torch
        with ExitStack() as stack, torch.no_grad():
            setting = changed_setting(torch, self._model, cause, size) or apart(
                torch, self._model, cause.kind, lambda: self._rows - 1
            )
            if setting is not None:
                stack.enter_context(setting)
            elif cause.kind == "distance":
                stack.enter_context(weighed_distance(torch, self._groups, cause, size))
            elif cause.kind in ("head_tied", "head_untied"):
                stack.enter_context(self._another_head(size))
            elif cause.kind in LAYER_CHANGES or cause in self._layers.orders():
                stack.enter_context(self._layers.changed(cause))
            elif cause.kind.startswith("bos_"):
                stack.enter_context(self._beginning(cause.kind))
            elif cause.kind in _ENDS:
                stack.enter_context(self._changed_end(cause, size))
            else:
                for weight, moved in self._moved(cause, size):
                    stack.enter_context(_held(weight, moved))
            yield

    @contextmanager
    def _beginning(self, kind: str) -> Iterator[None]:
        """Prompts that begin with one BOS more or less."""
        self._begun = kind
        try:
            yield
        finally:
            self._begun = None

    def _head_of(self, stored: Any) -> tuple[str, Any] | None:
        """The cause that the head is another one, and that one's weights."""
        own, embedding = self._head.weight, self._embedding.weight
        if own is not embedding:
            return ("head_tied", embedding) if own.shape == embedding.shape else None
        if stored is None or stored.shape != own.shape:
            return None
        other = stored.to(own.dtype)
        return None if self._torch.equal(other, own.detach()) else ("head_untied", other)

    @contextmanager
    def _another_head(self, size: float) -> Iterator[None]:
        """The embedding as the head, or the head that the checkpoint holds."""
        assert self._other_head is not None
        difference = self._other_head[1].detach() - self._head.weight.detach()

        def leaves(_: Any, given: Any, output: Any) -> Any:
            return output + size * self._torch.nn.functional.linear(given[0], difference)

        handle = self._head.register_forward_hook(leaves)
        try:
            yield
        finally:
            handle.remove()

    @contextmanager
    def _changed_end(self, cause: Cause, size: float) -> Iterator[None]:
        """Embedding or head, of which one may be the other's weight: their outputs."""
        chosen = cause.index

        def enters(_: Any, given: Any, output: Any) -> Any:
            there = given[0] == chosen if chosen >= 0 else self._torch.ones_like(given[0])
            return output * (1.0 + size * there[..., None])

        def leaves(_: Any, __: Any, output: Any) -> Any:
            moved = output.clone()
            moved[..., slice(None) if chosen < 0 else chosen] *= 1.0 + size
            return moved

        first = cause.kind.startswith("embedding")
        module = self._embedding if first else self._head
        handle = module.register_forward_hook(enters if first else leaves)
        try:
            yield
        finally:
            handle.remove()

    def _moved(self, cause: Cause, size: float) -> Iterator[tuple[Any, Any]]:
        """Each weight that a cause changes, and what it becomes."""
        torch, kind = self._torch, cause.kind
        if kind in EXCHANGES:
            shape = self._shape
            heads = (shape.queries, shape.values, shape.width)
            # All of them before one is changed: two may stand in each other's place.
            yield from list(exchanged(torch, self._parameters, heads, kind))
            return
        if kind in NEIGHBOURS:
            chosen = [n for n in self._neighbours if _within(n.rpartition(".")[0], cause.place)]
            pairs = [(self._parameters[n].detach(), self._neighbour(n, kind)) for n in chosen]
            # All of them before one is changed: each may be another's neighbour.
            yield from [(w, w + size * (o - w)) for w, o in pairs if o is not None]
            return
        for name, parameter in self._parameters.items():
            place, _, what = name.rpartition(".")
            weight = parameter.detach()
            if kind in ROUNDINGS:
                if parameter.dim() > 1 and _within(place, cause.place):
                    yield weight, weight + size * (rounded(torch, weight, kind) - weight)
            elif kind in ("row", "column", "channel", "weight"):
                if place == cause.place and what == "weight":
                    yield weight, _part_moved(weight, cause, size, self._unit[name])
            elif kind in ("head", "query_head", "value_head"):
                scale = self._shape.scale_of(torch, cause, place, weight, size)
                if scale is not None:
                    yield weight, weight * scale
            elif cause in self._scales_of(place):
                yield weight, weight + size * (weight + self._unit[name])

    def _neighbour(self, name: str, kind: str) -> Any:
        """The weights of the same norm in the layer before or after; None at the ends."""
        other = dict(self._neighbours.get(name, ())).get(kind)
        return None if other is None else other.detach()

    def _scale_of(self, place: str) -> Cause:
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

    def _scales_of(self, place: str) -> tuple[Cause, ...]:
        """All scales that a module has a part in: its own, its layer's, that of all layers."""
        own = self._scale_of(place)
        return (own, *_sums_with(own))


def _sums_with(cause: Cause) -> tuple[Cause, ...]:
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


def _finished(taken: _Taken) -> Gradients:
    """With what sums of others are: layers, and all layers together."""
    whole = dict(taken.whole)
    for cause, value in taken.whole.items():
        for each in _sums_with(cause):
            whole[each] = whole.get(each, 0.0) + value
    own = (*ROUNDINGS, *NEIGHBOURS)
    known = {c: v for c, v in whole.items() if not c.place.endswith(_SAME) or c.kind in own}
    return Gradients(known, taken.parts)


def _within(place: str, wanted: str) -> bool:
    if not wanted:
        return _LAYER.match(place) is not None
    return place == wanted or place.startswith(f"{wanted}.")


def _part_moved(weight: Any, cause: Cause, size: float, unit: float) -> Any:
    moved = weight.clone()
    if cause.kind == "column":
        moved[:, cause.index] *= 1.0 + size
    elif cause.kind == "weight":
        moved[cause.index, cause.column] += size
    else:
        moved[cause.index] += size * (moved[cause.index] + unit)
    return moved


@contextmanager
def _held(weight: Any, moved: Any) -> Iterator[None]:
    before = weight.clone()
    weight.copy_(moved)
    try:
        yield
    finally:
        weight.copy_(before)


def _unit_offset(torch: Any, model: Any, name: str) -> float:
    """1 for a norm that multiplies by one more than its weight, as Gemma's do, else 0."""
    module = model.get_submodule(name.rpartition(".")[0])
    weight = getattr(module, "weight", None)
    if "norm" not in type(module).__name__.lower() or weight is None or weight.dim() != 1:
        return 0.0
    with torch.no_grad():
        kept = weight.clone()
        weight.zero_()
        probe = torch.linspace(-1.0, 1.0, weight.numel())[None]
        try:
            shown = module(probe)
        except (RuntimeError, TypeError, ValueError):
            return 0.0  # a norm that needs more than its input
        finally:
            weight.copy_(kept)
    return 1.0 if bool((shown != 0.0).any()) and getattr(module, "bias", None) is None else 0.0
