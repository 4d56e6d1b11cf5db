"""What is wrong with a device, from which values are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from harness.canary.attention import attention
from harness.canary.inputs import output_head, whole_rows
from harness.canary.layout import symbol_ids
from harness.canary.mlp import mlp
from harness.canary.observe import Seen, all_probes
from harness.canary.sizes import Sizes
from harness.canary.words import Named, named


def diagnose(
    sizes: Sizes, requests: Sequence[Seen], *, earlier: Sequence[Seen] = (), budget: int = 0
) -> Named | None:
    """The cause of what is wrong in the rows of one stage; None if all are exact.

    What a forward pass computes first is looked at first: the input, then layer by layer
    attention and MLP, then the head. Only the first wrong part is named, because the
    values after it are wrong because of it.

    Args:
        requests: those of the stage.
        earlier: those before it, whose tokens a cache may have kept.
        budget: tokens that the engine takes in one step, 0 if that is not known.
    """
    if all(r.exact.all() for r in requests):
        return _choice(requests)
    requests = [_of_symbols(r) for r in requests] if sizes.tied else requests
    # First what is clearly wrong; then, where nothing is, what is slightly off.
    fine = [replace(r, tolerance=4 * r.grain) for r in requests]
    return (
        whole_rows(sizes, requests)
        or _first_part(sizes, requests, earlier, budget)
        or output_head(sizes, requests)
        or _first_part(sizes, fine, earlier, budget)
        or named("unknown", rows=sum(int((~r.exact).sum()) for r in requests))
    )


def _of_symbols(request: Seen) -> Seen:
    """The rows before a wrong token that is not a symbol was put in: where the head is the
    embedding, such an id has no vector of a token. The first row is always kept."""
    inputs = np.asarray(request.ids[request.first : request.first + len(request.logits)])
    others = np.flatnonzero(~np.isin(inputs, symbol_ids(request.sizes)))
    count = max(1, int(others[0])) if len(others) else len(inputs)
    ids = request.ids[: request.first + count]
    return replace(request, ids=ids, logits=request.logits[:count], chosen=request.chosen[:count])


def _first_part(
    sizes: Sizes, requests: Sequence[Seen], earlier: Sequence[Seen], budget: int
) -> Named | None:
    """The first layer with a wrong value, and the part of it."""
    wrong = np.any([r.wrong.any(axis=0) for r in requests], axis=0)
    for column, probe in enumerate(all_probes(sizes)):
        if not wrong[column] or probe.layer < 0:
            continue
        if probe.part == "attention":
            return attention(sizes, probe.layer, requests, earlier, budget)
        return mlp(sizes, probe.layer, requests)
    return None


def _choice(requests: Sequence[Seen]) -> Named | None:
    """Tokens that are not the best of rows that are right."""
    for request in requests:
        best = request.wanted.argmax(axis=1)
        for row, token in enumerate(request.chosen):
            if token != best[row]:
                return named(
                    "choice", prompt=request.name, row=row, token=token, best=int(best[row])
                )
    return None
