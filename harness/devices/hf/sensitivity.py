"""A Transformers model whose logits are traced back to everything that made them.

One backward pass tells how the product of a row's sketch with a given vector moves with
every weight. Each gradient is reduced as soon as it is there, to sums over matrices, heads,
rows and columns, so that memory holds the weights and one gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.devices.causes import (
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
from harness.devices.hf.exchanges import exchanges_of
from harness.devices.hf.heads import Heads
from harness.devices.hf.layers import Layers, neighbours_of
from harness.devices.hf.positions import apart, offsets_of
from harness.devices.hf.reductions import Differences, DifferencesAnew, KeptDifferences, Reducer
from harness.devices.hf.seen import Seen, Sketches
from harness.devices.hf.settings import changed_setting, setting_now, settings_of
from harness.devices.hf.taken import Taken, finished
from harness.devices.hf.weight_causes import WeightCauses, held
from harness.devices.oracle import Answer, Question

#: Causes at the two ends of the model.
_ENDS = ("embedding_scale", "embedding_row", "head_row", "logit_scale")


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
        self._taken = Taken()
        bos = getattr(model.config.get_text_config(), "bos_token_id", None)
        self._bos = bos if isinstance(bos, int) else None
        self._begun: str | None = None
        own = {id(self._embedding.weight), id(self._head.weight)}
        self._parameters = {n: p for n, p in model.named_parameters() if id(p) not in own}
        model.requires_grad_(False)
        self._neighbours = neighbours_of(self._parameters, self._layers)
        self._causes = WeightCauses(
            torch, model, self._shape, self._parameters, self._neighbours, self._norm
        )
        self._reducer = Reducer(torch, len(self._roundings))
        self._kept: dict[str, Differences] = {}
        if keep_rounded:
            self._kept = self._all_differences(self._parameters)

    @contextmanager
    def _followed(self, names: Iterable[str]) -> Iterator[None]:
        """Each gradient of these weights is reduced as it arrives."""
        parameters = [(name, self._model.get_parameter(name)) for name in names]
        handles = []
        for name, parameter in parameters:
            parameter.requires_grad_(True)

            def reduce(parameter: Any, name: str = name) -> None:
                self._reduce(name, parameter)

            handles.append(parameter.register_post_accumulate_grad_hook(reduce))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            for _, parameter in parameters:
                parameter.requires_grad_(False)

    def _all_differences(self, parameters: Mapping[str, Any]) -> dict[str, Differences]:
        return {
            name: KeptDifferences.of(self._torch, _matrix(p.detach()), self._roundings)
            for name, p in parameters.items()
            if p.dim() > 1
        }

    def _norm(self, name: str) -> Any:
        """The weight of a norm."""
        return self._parameters[name].detach()

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
    ) -> tuple[NDArray[np.float64], list[Answer]]:
        """The rows as they are seen, and of each of ``vectors``, float64 of their shape, how
        its product with them moves with every cause."""
        entered = self._embed(ids).detach().requires_grad_(True)
        with self._followed(self._parameters), self._distances.traced(entered.shape[1]):
            raw, logits = self._logits(entered, len(vectors[0]))
            raw.retain_grad()
            found = []
            for index, vector in enumerate(vectors):
                pull = self._seen.pull(ids, vector, self._vocab_size)
                self._taken, entered.grad, raw.grad = Taken(), None, None
                self._distances.forget()
                logits.backward(pull, retain_graph=index + 1 < len(vectors))
                self._taken.of_embedding(
                    ids, entered.detach()[0], entered.grad[0], self._vocab_size
                )
                self._taken.of_head(raw.detach()[0], raw.grad[0], self._vocab_size)
                self._taken.add_all(self._distances.found())
                found.append(finished(self._taken))
        return self._seen.of(ids, logits.detach()), found

    def entries(
        self, part: Cause, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> NDArray[np.float64]:
        """How the product with each vector moves with every single weight of a row or a
        column, float64 (vectors, weights)."""
        weight = self._parameters[f"{part.place}.weight"]
        weight.requires_grad_(True)
        try:
            _, logits = self._logits(self._embed(ids), len(vectors[0]))
            found = []
            for index, vector in enumerate(vectors):
                more = index + 1 < len(vectors)
                pull = self._seen.pull(ids, vector, self._vocab_size)
                [moved] = self._torch.autograd.grad(logits, weight, pull, retain_graph=more)
                found.append(moved[part.index] if part.kind == "row" else moved[:, part.index])
        finally:
            weight.requires_grad_(False)
        return np.asarray(self._torch.stack(found).double().numpy(), np.float64)

    def layer_changes(
        self, ids: Sequence[int], vectors: Sequence[NDArray[np.float64]]
    ) -> list[dict[Cause, float]]:
        """How the product with each vector moves, to first order in all that follows, when a
        layer is skipped or run twice, or two neighbours are exchanged."""
        if not self._layers.modules:
            return [{} for _ in vectors]
        torch = self._torch
        entered = self._embed(ids).detach().requires_grad_(True)
        with self._layers.watched() as seen:
            _, logits = self._logits(entered, len(vectors[0]))
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

    def _reduce(self, name: str, parameter: Any) -> None:
        """Called with each gradient as it arrives, which is dropped afterwards."""
        gradient, weight = parameter.grad, parameter.detach()
        parameter.grad = None
        place, _, what = name.rpartition(".")
        taken = self._taken
        if parameter.dim() == 1:
            each = (weight + self._causes.unit(name)) * gradient
            taken.add(self._causes.scale_of(place), float(each.double().sum()))
            if what == "weight":
                taken.parts["channel", place] = each.numpy()
            for kind, other in self._causes.neighbours(name):
                score = ((other - weight) * gradient).double().sum()
                taken.add(Cause(kind, place), float(score))
            return
        matrix, kept = _matrix(weight), self._kept.get(name)
        differences = kept or DifferencesAnew(self._torch, matrix, self._roundings)
        sums = self._reducer.sums(matrix, _matrix(gradient), differences)
        taken.add(self._causes.scale_of(place), float(sums.rows.double().sum()))
        if parameter.dim() == 2 and what == "weight":
            rows, columns = sums.rows.numpy(), sums.columns.numpy()
            taken.parts["row", place], taken.parts["column", place] = rows, columns
            for cause, value in self._shape.of_projection(place, rows, columns):
                taken.add(cause, value)
        for kind, score in zip(self._roundings, sums.roundings.tolist(), strict=True):
            taken.add(Cause(kind, place), score)

    # --- changes

    def together(self, questions: Sequence[Question]) -> None:
        """Nothing: with all weights in memory each question is answered when it is asked."""

    def forget(self) -> None:
        """Nothing: nothing is kept."""

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
                stack.enter_context(self._changed_layers(cause))
            elif cause.kind.startswith("bos_"):
                stack.enter_context(self._beginning(cause.kind))
            elif cause.kind in _ENDS:
                stack.enter_context(self._changed_end(cause, size))
            else:
                stack.enter_context(self._changed_weights(cause, size))
            yield

    def _changed_layers(self, cause: Cause) -> AbstractContextManager[None]:
        return self._layers.changed(cause)

    @contextmanager
    def _changed_weights(self, cause: Cause, size: float) -> Iterator[None]:
        with ExitStack() as stack:
            for weight, moved in self._causes.moved(self._parameters, cause, size):
                stack.enter_context(held(weight, moved))
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
        embedding, own = self._weights_of_ends()
        if own is None or embedding is None:
            return None
        if own is not embedding:
            return ("head_tied", embedding) if own.shape == embedding.shape else None
        if stored is None or stored.shape != own.shape:
            return None
        return None if self._torch.equal(stored.to(own.dtype), own) else ("head_untied", stored)

    def _weights_of_ends(self) -> tuple[Any, Any]:
        """Of the embedding and of the head, one object where they are one; None of what is
        not known."""
        embedding, head = self._embedding.weight, self._head.weight
        return (embedding, embedding) if head is embedding else (embedding, head)

    @contextmanager
    def _another_head(self, size: float) -> Iterator[None]:
        """The embedding as the head, or the head that the checkpoint holds."""
        assert self._other_head is not None
        other = self._other_head[1].detach()
        made: list[Any] = []

        def leaves(_: Any, given: Any, output: Any) -> Any:
            if not made:
                own = self._head.weight.detach()
                made.append(other.to(own.dtype) - own)
            return output + size * self._torch.nn.functional.linear(given[0], made[0])

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


def _matrix(weight: Any) -> Any:
    """Stacked experts as one matrix, whose rows are those of all."""
    return weight.reshape(-1, weight.shape[-1])
