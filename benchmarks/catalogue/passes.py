"""Ways to run a forced replay: whole, in chunks, in batches, step by step.

All give the logits of every forced position, and know nothing of faults, which
are in the model by then.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.catalogue.faults import hooked, rounded
from harness.devices.base import Completion, Request, Timings

#: ``pass_(torch, model, requests)`` yields each request with its logits.
Pass = Callable[[Any, Any, Sequence[Request]], Iterator[tuple[Request, Any]]]


def given(request: Request) -> list[int]:
    """What one pass reads: the prompt and all forced tokens but the last."""
    return [*request.prompt_token_ids, *(request.forced_token_ids or ())[:-1]]


def completion(request: Request, rows: Any, started: float) -> Completion:
    """A completion without a clock of its own."""
    seconds = time.perf_counter() - started
    forced = request.forced_token_ids or ()
    return Completion(request.prompt_id, forced, "forced", rows, Timings(seconds, (), seconds))


#: For each batch, the inputs of every layer and of the final norm,
#: (layers + 1, batch, tokens, width).
States = list[Any]


@dataclass(frozen=True)
class Stacked:
    """Prefills of ``batch`` prompts at once, padded on the right: no token sees
    what comes after it, so that no mask is needed.

    Attributes:
        since: the layer to begin with, over the ``states`` of the unbroken
            model: a fault in a late layer leaves what lies before it as it was.
        copies: of each prompt side by side, for a batch of one; the logits then
            have shape (copies, positions, vocabulary).
    """

    batch: int = 6
    since: int = 0
    states: States | None = None
    copies: int = 1

    def __call__(
        self, torch: Any, model: Any, requests: Sequence[Request]
    ) -> Iterator[tuple[Request, Any]]:
        for index, group in enumerate(_groups(requests, self.batch)):
            lengths = [len(given(r)) for r in group]
            starts = [
                n - len(r.forced_token_ids or ()) for r, n in zip(group, lengths, strict=True)
            ]
            keep = max(lengths) - min(starts)
            logits = self._run(torch, model, group, index, keep)
            first = max(lengths) - keep
            for row, (request, start, end) in enumerate(zip(group, starts, lengths, strict=True)):
                found = logits if self.copies > 1 else logits[row]
                yield request, found[..., start - first : end - first, :]

    def _run(self, torch: Any, model: Any, group: Sequence[Request], index: int, keep: int) -> Any:
        if self.states is None:
            ids, _ = _padded(torch, [given(r) for r in group], left=False)
            return model(ids, use_cache=False, logits_to_keep=keep).logits
        entered = self.states[index][self.since]
        if self.copies > 1:
            entered = entered.expand(self.copies, -1, -1)
        whole, config = model.model.layers, model.model.config
        kinds = getattr(config, "layer_types", None)
        try:
            model.model.layers = whole[self.since :]
            if kinds is not None:  # the model asks for the kind of its nth layer
                config.layer_types = kinds[self.since :]
            return model(inputs_embeds=entered, use_cache=False, logits_to_keep=keep).logits
        finally:
            model.model.layers = whole
            if kinds is not None:
                config.layer_types = kinds


def clean_states(torch: Any, model: Any, requests: Sequence[Request], batch: int) -> States:
    """The states of an unbroken model in the batches of :class:`Stacked`."""
    states: States = []
    with torch.inference_mode():
        for group in _groups(requests, batch):
            seen: list[Any] = []

            def keep(_: Any, inputs: Any, seen: list[Any] = seen) -> None:
                seen.append(inputs[0].clone())

            ids, _ = _padded(torch, [given(r) for r in group], left=False)
            modules = [*model.model.layers, model.model.norm]
            with hooked(m.register_forward_pre_hook(keep) for m in modules):
                model(ids, use_cache=False, logits_to_keep=1)
            states.append(torch.stack(seen))
    return states


@dataclass(frozen=True)
class Chunked:
    """A prefill in chunks of ``size`` through a cache; with ``prefix``, in two:
    the prompt's first half, found in a prefix cache, and the rest."""

    size: int = 0
    prefix: bool = False

    def __call__(
        self, torch: Any, model: Any, requests: Sequence[Request]
    ) -> Iterator[tuple[Request, Any]]:
        for request in requests:
            ids = given(request)
            keep = len(request.forced_token_ids or ())
            cuts = self._cuts(request, len(ids))
            cache, found = None, []
            for start, end in pairwise(cuts):
                part = torch.tensor([ids[start:end]])
                wanted = max(0, end - max(start, len(ids) - keep))
                out = model(part, past_key_values=cache, use_cache=True, logits_to_keep=wanted or 1)
                cache = out.past_key_values
                if wanted:
                    found.append(out.logits[0, -wanted:])
            yield request, torch.cat(found)

    def _cuts(self, request: Request, length: int) -> list[int]:
        if self.prefix:
            return [0, max(1, len(request.prompt_token_ids) // 2), length]
        return [*range(0, length, self.size), length]


@dataclass(frozen=True)
class LeftPadded:
    """Prefills of ``batch`` prompts at once, padded on the left."""

    batch: int

    def __call__(
        self, torch: Any, model: Any, requests: Sequence[Request]
    ) -> Iterator[tuple[Request, Any]]:
        for group in _groups(requests, self.batch):
            ids, mask = _padded(torch, [given(r) for r in group])
            keep = max(len(r.forced_token_ids or ()) for r in group)
            logits = model(
                ids,
                attention_mask=mask,
                position_ids=_positions(mask),
                use_cache=False,
                logits_to_keep=keep,
            ).logits
            for request, rows in zip(group, logits, strict=True):
                yield request, rows[-len(request.forced_token_ids or ()) :]


@dataclass(frozen=True)
class Decode:
    """One decode step per forced token, ``batch`` prompts at once.

    Attributes:
        make_cache: ``make_cache(torch)`` gives the cache; None for the model's.
        shift: added to the position of every decoded token: a cache position
            off by one.
        unread: index of a cache slot, counted from the end of the prompt
            (-1 is its last token), that decode steps never read.
    """

    batch: int = 12
    make_cache: Callable[[Any], Any] | None = None
    shift: int = 0
    unread: int | None = None

    def __call__(
        self, torch: Any, model: Any, requests: Sequence[Request]
    ) -> Iterator[tuple[Request, Any]]:
        for group in _groups(requests, self.batch):
            prompts, mask = _padded(torch, [list(r.prompt_token_ids) for r in group])
            forced = torch.tensor([list(r.forced_token_ids or ()) for r in group])
            positions = _positions(mask)
            cache = None if self.make_cache is None else self.make_cache(torch)
            out = model(
                prompts,
                attention_mask=mask,
                position_ids=positions,
                past_key_values=cache,
                use_cache=True,
                logits_to_keep=1,
            )
            found = [out.logits[:, -1]]
            last = positions[:, -1:]
            if self.unread is not None:
                mask = mask.clone()
                mask[:, prompts.shape[1] + self.unread] = 0
            for step in range(forced.shape[1] - 1):
                mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
                out = model(
                    forced[:, step : step + 1],
                    attention_mask=mask,
                    position_ids=last + step + 1 + self.shift,
                    past_key_values=out.past_key_values,
                    use_cache=True,
                    logits_to_keep=1,
                )
                found.append(out.logits[:, -1])
            yield from zip(group, torch.stack(found, dim=1), strict=True)


def _groups(requests: Sequence[Request], size: int) -> Iterator[Sequence[Request]]:
    """Prompts of like length together, and forced replays of one length."""
    ordered = sorted(
        requests, key=lambda r: (len(r.forced_token_ids or ()), len(r.prompt_token_ids))
    )
    while ordered:
        length = len(ordered[0].forced_token_ids or ())
        group = [r for r in ordered[:size] if len(r.forced_token_ids or ()) == length]
        ordered = ordered[len(group) :]
        yield group


def _padded(torch: Any, rows: list[list[int]], left: bool = True) -> tuple[Any, Any]:
    """Ids and mask, int64 (rows, longest), padded on one side."""
    longest = max(map(len, rows))
    ids, mask = [], []
    for row in rows:
        padding = [0] * (longest - len(row))
        ids.append(padding + row if left else row + padding)
        mask.append(padding + [1] * len(row) if left else [1] * len(row) + padding)
    return torch.tensor(ids), torch.tensor(mask)


def _positions(mask: Any) -> Any:
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def quantized_cache(kind: str) -> Callable[[Any], Any]:
    """Makes a KV cache that holds ``kind`` (int8, int4, fp8), one scale per
    token and head (fp8: one for all). A prefill still reads its own fresh
    keys and values, as in the engines."""

    def make(torch: Any) -> Any:
        from transformers import DynamicCache

        def narrow(values: Any) -> Any:
            wide = values.float()
            largest = wide.abs().amax(dim=-1, keepdim=True)
            if kind == "fp8":  # vLLM's default scale of 1.0
                largest = torch.full_like(largest, 448.0)
            return rounded(torch, wide, kind, largest).to(values.dtype)

        class Quantized(DynamicCache):  # type: ignore[misc]
            def update(self, keys: Any, values: Any, layer: int, *a: Any, **k: Any) -> Any:
                held = super().update(narrow(keys), narrow(values), layer, *a, **k)
                return (keys, values) if keys.shape[-2] > 1 else held

        return Quantized()

    return make
