"""What is wrong with whole rows of a Gemma: embeddings, norms and soft-caps of its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.canary.layout import codes, probes, symbol_ids
from harness.canary.observe import TOLERANCE, Seen
from harness.canary.sizes import Sizes
from harness.canary.words import Named, named

#: How near a factor is to the root of the hidden size.
_NEAR_ROOT = 0.05
#: Of rows, or of their bits, so many must agree.
_AGREE = 0.9


def of_gemma(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """The first fault that explains the rows; None if there is no such fault."""
    return (
        _soft_cap(sizes, requests) or _unscaled(sizes, requests) or _not_cancelled(sizes, requests)
    )


def _soft_cap(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """Logits that were not capped; or capped in another way, so that equal ones are equal."""
    if sizes.soft_cap is None:
        return None
    before = np.concatenate([r.uncapped for r in requests])
    after = np.concatenate([r.logits for r in requests])
    wanted = np.concatenate([r.wanted for r in requests])
    if np.array_equal(before, after):
        return named("cap_missing", cap=sizes.soft_cap)
    levels = np.unique(before)
    made = [after[before == level] for level in levels]
    firsts = np.asarray([values[0] for values in made])
    alike = all((values == values[0]).all() for values in made)
    rising = (np.diff(firsts) > 0).all() and firsts[levels == 0].any() == 0
    if not alike or not rising or np.array_equal(after, wanted):
        return None
    return named("cap_other", cap=sizes.soft_cap)


def _unscaled(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """Beside the embedding, what the first attention adds has the root of the hidden size as a
    factor: embeddings were not multiplied by it, or twice."""
    own, made = requests[0].part("own"), requests[0].part("attention", 0)
    outs = np.concatenate([r.outs for r in requests])
    values = np.concatenate([r.raw for r in requests]) * outs
    size = np.median(values[:, own], axis=1, keepdims=True)
    if (size == 0).any() or np.abs(values[:, own] / size - 1).max() > TOLERANCE:
        return None
    ratio = values[:, made] / size
    factor, root = float(np.median(ratio)), float(np.sqrt(sizes.hidden))
    power = round(np.log(max(factor, 1e-9)) / np.log(root))
    if not power or np.abs(ratio / root**power - 1).max() > _NEAR_ROOT:
        return None
    return named("embedding_scale", factor=root**-power)


def _not_cancelled(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """Logits of ids that are neither a symbol nor a probe: they are 0, because the two copies of
    a token's bits cancel. If the norms multiply by ``w`` and not by ``1 + w`` one copy is left;
    if what the norms after attention or MLP take away stays, the same is left in every row."""
    taken = {*symbol_ids(sizes).tolist(), *(p.token_id for p in probes(sizes))}
    ids = [i for i in range(sizes.stride << sizes.bits) if i not in taken]
    if len(ids) < 2 * sizes.bits:
        return None
    left = np.concatenate([r.read(ids) for r in requests]).astype(np.float64)
    code = codes(sizes)[np.asarray(ids) // sizes.stride].astype(np.float64)
    known = np.column_stack([code, np.ones(len(ids))])
    copies = (left @ np.linalg.pinv(known).T)[:, :-1]  # (rows, bits)
    size = np.abs(copies).max(axis=1)
    if np.mean(size > TOLERANCE) < _AGREE:
        return None
    own = np.concatenate([r.outs[:, r.part("own")] for r in requests])
    if np.mean(copies * own < 0) >= _AGREE:
        return named("norm_plus_one")
    if _same_in_every_row(copies):
        return named("norm_after")
    return None


def _same_in_every_row(copies: NDArray[np.float64]) -> bool:
    """Whether the bits of each row stand in one relation, whatever the tokens are."""
    shares = copies / np.abs(copies).max(axis=1, keepdims=True)
    usual = np.median(shares, axis=0)
    return bool(np.mean(np.abs(shares - usual).max(axis=1) <= 0.5) >= _AGREE)
