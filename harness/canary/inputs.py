"""What is wrong with whole rows: before the layers, after them, or with who gets them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.canary.expected import read_outs
from harness.canary.gemma_faults import of_gemma
from harness.canary.layout import codes, symbol_ids
from harness.canary.observe import TOLERANCE, Seen, all_probes
from harness.canary.sizes import Sizes
from harness.canary.words import Named, listed, named

#: Of the wrong rows, so many must fit an explanation.
_AGREE = 0.9
#: So many tokens may have wrong vectors of their own.
_FEW_TOKENS = 8
#: Rows without which "the same in every row" says nothing.
_LEAST_ROWS = 4


def whole_rows(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """The first fault of whole rows that explains them; None if there is no such fault."""
    own = (of_gemma,) if sizes.tied else ()
    rules = (
        _not_finite, _head_shards, _other_rows, _last_norm, *own, _embedding, _size,
    )  # fmt: skip
    for rule in rules:
        found: Named | None = rule(sizes, requests)
        if found is not None:
            return found
    return None


def _not_finite(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    del sizes
    bad = [(r.name, int(p)) for r in requests for p in _where_not_finite(r)]
    if not bad:
        return None
    return named("nonfinite", count=len(bad), prompt=bad[0][0], position=bad[0][1])


def _where_not_finite(request: Seen) -> NDArray[np.int64]:
    return np.asarray(request.positions[~np.isfinite(request.logits).all(axis=1)])


def _head_shards(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """Logits that are right but in another order, or missing from a part of the vocabulary."""
    rows = np.concatenate([r.logits[~r.exact] for r in requests])
    wanted = np.concatenate([r.wanted[~r.exact] for r in requests])
    if len(rows) < _LEAST_ROWS:
        return None
    for shards in (2, 4, 8, 16):
        if sizes.vocab_size % shards:
            continue
        parts = rows.reshape(len(rows), shards, -1)
        true = wanted.reshape(len(rows), shards, -1)
        order = [_source(parts[:, i], true) for i in range(shards)]
        if None not in order and order != list(range(shards)):
            return named("head_shards", shards=shards)
        empty = [i for i in range(shards) if not parts[:, i].any() and true[:, i].any()]
        right = [i for i in range(shards) if (parts[:, i] == true[:, i]).all()]
        if empty and len(empty) + len(right) == shards:
            return named("head_missing", shards=shards, part=empty[0] + 1)
    return None


def _source(part: NDArray[np.float32], true: NDArray[np.float32]) -> int | None:
    """Which part of the true rows this one is."""
    alike = [i for i in range(true.shape[1]) if (part == true[:, i]).all()]
    return alike[0] if alike else None


def _other_rows(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """Rows that are right, but of another position or another request."""
    del sizes
    index: dict[bytes, list[tuple[int, int]]] = {}
    for number, request in enumerate(requests):
        known = request.expected
        outs = read_outs(known)
        start = max(0, request.first - len(request.logits) - 64)
        for position in range(start, len(outs)):
            index.setdefault(outs[position].tobytes(), []).append((number, position))
    shifts: Counter[int] = Counter()
    partners: Counter[tuple[int, int]] = Counter()
    bad = 0
    for number, request in enumerate(requests):
        read = np.rint(request.values).astype(np.int8)
        clean = (np.abs(request.values - read) <= TOLERANCE).all(axis=1)
        for row in np.flatnonzero(request.wrong.any(axis=1)):
            bad += 1
            places = index.get(read[row].tobytes(), []) if clean[row] else []
            own = [p for n, p in places if n == number]
            if own:
                shifts[int(request.positions[row]) - own[-1]] += 1
            elif places:
                partners[number, places[0][0]] += 1
    return _named_rows(requests, bad, shifts, partners)


def _named_rows(
    requests: Sequence[Seen],
    bad: int,
    shifts: Counter[int],
    partners: Counter[tuple[int, int]],
) -> Named | None:
    if bad < _LEAST_ROWS or sum(shifts.values()) + sum(partners.values()) < _AGREE * bad:
        return None
    if sum(partners.values()) >= _AGREE * bad:
        (a, b), _ = partners.most_common(1)[0]
        return named("batch_rows", prompt=requests[a].name, other=requests[b].name, rows=bad)
    shift, count = shifts.most_common(1)[0]
    if shift and count >= _AGREE * bad:
        return named("stale_row", steps=shift, rows=bad)
    return None


def _last_norm(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """Every probe is right but for a size of its own, the same in all rows."""
    del sizes
    ratio = np.concatenate([r.values * r.outs for r in requests])
    size = np.median(ratio, axis=0)
    if len(ratio) < _LEAST_ROWS or (size < 0.1).any():
        return None
    own = size[requests[0].part("own")]
    if np.abs(ratio - size).max() > TOLERANCE * size.max() or np.ptp(own) <= TOLERANCE:
        return None
    return named("norm_last", low=float(size.min()), high=float(size.max()))


def _embedding(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """The token that a row says was put in, beside the one that was."""
    weights = 1 << np.arange(sizes.bits)
    got, want, place = [], [], []
    for number, request in enumerate(requests):
        own = request.values[:, request.part("own")]
        bits = np.abs(np.abs(own) - 1).max(axis=1) <= TOLERANCE
        got.append(np.where(bits, (own > 0) @ weights, -1))
        got[-1][(np.abs(own) <= TOLERANCE).all(axis=1)] = -2  # nothing was put in
        want.append((request.outs[:, request.part("own")] > 0) @ weights)
        place += [(number, int(p)) for p in request.positions]
    actual, true = np.concatenate(got), np.concatenate(want)
    bad = np.flatnonzero(actual != true)
    if not len(bad):
        return None
    return (
        _from_elsewhere(sizes, requests, actual, place, bad)
        or _only_read_out(requests, len(bad))
        or _residual(sizes, requests, actual, bad)
        or _other_symbols(sizes, actual, true, bad)
        or _of_tokens(sizes, actual, true, bad)
        or named("embedding", rows=len(bad), count=len(actual))
    )


def _from_elsewhere(
    sizes: Sizes,
    requests: Sequence[Seen],
    actual: NDArray[np.int64],
    places: Sequence[tuple[int, int]],
    bad: NDArray[np.int64],
) -> Named | None:
    """Inputs of an earlier step, or of another request at the same step."""
    if len(bad) < _LEAST_ROWS:
        return None
    symbols = [np.asarray(r.ids) // sizes.stride for r in requests]
    for steps in (1, 2, 3, 4, -1):
        right = [
            0 <= places[i][1] - steps < len(symbols[places[i][0]])
            and symbols[places[i][0]][places[i][1] - steps] == actual[i]
            for i in bad
        ]
        if np.mean(right) >= _AGREE:
            return named("stale_input", steps=steps, rows=len(bad))
    lent = {places[i][0] for i in bad}
    one = all(len({int(actual[i]) for i in bad if places[i][0] == n}) == 1 for n in lent)
    if one and (actual[bad] >= 0).all():
        return named("frozen_input", rows=len(bad))
    found = {
        _lender(symbols, number, actual, places, bad) for number in {places[i][0] for i in bad}
    }
    if None in found:
        return None
    mine, other = next(pair for pair in found if pair is not None)
    return named(
        "batch_rows", prompt=requests[mine].name, other=requests[other].name, rows=len(bad)
    )


def _lender(
    symbols: Sequence[NDArray[np.int64]],
    number: int,
    actual: NDArray[np.int64],
    places: Sequence[tuple[int, int]],
    bad: NDArray[np.int64],
) -> tuple[int, int] | None:
    """The request and the one whose tokens it was given, at whatever distance in steps."""
    mine = [(int(actual[i]), places[i][1]) for i in bad if places[i][0] == number]
    came, at = np.asarray([m[0] for m in mine]), np.asarray([m[1] for m in mine])
    for other, theirs in enumerate(symbols):
        for lag in range(-len(theirs), len(theirs)) if other != number else ():
            where = at + lag
            inside = (where >= 0) & (where < len(theirs))
            if inside.mean() < _AGREE:
                continue
            share = float((theirs[np.clip(where, 0, len(theirs) - 1)] == came)[inside].mean())
            if share >= _AGREE and len(came) >= _LEAST_ROWS:
                return number, other
    return None


def _only_read_out(requests: Sequence[Seen], bad: int) -> Named | None:
    """Input bits that are wrong where nothing that is made of them is."""
    made = any(np.delete(r.wrong, r.part("own"), axis=1).any() for r in requests)
    return None if made or bad < _LEAST_ROWS else named("read_out", rows=bad)


def _residual(
    sizes: Sizes, requests: Sequence[Seen], actual: NDArray[np.int64], bad: NDArray[np.int64]
) -> Named | None:
    """Everything up to some part is gone and what comes after is there: the residual was not
    added. Or the input is there, and something was added to it."""
    if len(bad) < len(actual) or len(bad) < _LEAST_ROWS:
        return None
    values = np.concatenate([r.values for r in requests])
    own = values[:, requests[0].part("own")]
    right = np.concatenate([r.outs for r in requests])[:, requests[0].part("own")]
    if (actual == -2).all():
        columns = np.abs(values).max(axis=0) > TOLERANCE
        there = [p for p, c in zip(all_probes(sizes), columns, strict=True) if c and p.layer >= 0]
        if not there:
            return None
        part = "attention" if there[0].part == "attention" else "MLP"
        return named("residual", there[0].layer, part=part)
    if (own * right > 0.1).all():
        return named("residual_added", rows=len(bad))
    return None


def _of_tokens(
    sizes: Sizes, actual: NDArray[np.int64], true: NDArray[np.int64], bad: NDArray[np.int64]
) -> Named | None:
    """A few tokens that have a wrong vector wherever they come."""
    symbols = np.unique(true[bad])
    every = np.isin(true, symbols)
    if len(symbols) > _FEW_TOKENS or not (actual[every] != true[every]).all():
        return None
    if any(len(np.unique(actual[true == s])) > 1 for s in symbols):
        return None
    ids = tuple(int(s) * sizes.stride for s in symbols)
    return named("embedding_tokens", tokens=listed(ids), count=len(ids))


def _other_symbols(
    sizes: Sizes, actual: NDArray[np.int64], true: NDArray[np.int64], bad: NDArray[np.int64]
) -> Named | None:
    """A table whose parts are exchanged, or of which one is missing."""
    count = 1 << sizes.bits
    if len(bad) < _LEAST_ROWS:
        return None
    if (actual[bad] == -2).all():
        return named("embedding_missing", rows=len(bad))
    moved = set(((actual[bad] - true[bad]) % count).tolist())
    part = min(min(m, count - m) for m in moved)
    if (actual[bad] >= 0).all() and len(moved) <= 2 and part and count % part == 0:
        return named("embedding_shards", shards=count // part)
    return None


def _size(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """Rows that are right but for their size."""
    del sizes
    bad = [~r.exact for r in requests]
    for r in requests:
        if (np.abs(r.values - r.outs) > 2 * r.grain).any():
            return None
    scales = np.concatenate([r.scale[b] for r, b in zip(requests, bad, strict=True)])
    if not len(scales) or np.abs(scales - 1).max() < 1e-6:
        return None
    return named("size", low=float(scales.min()), high=float(scales.max()), rows=len(scales))


def output_head(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """Rows whose probes are right while the logits of the symbols, or others, are not."""
    bad = [(r, ~r.exact) for r in requests]
    rows = sum(int(b.sum()) for _, b in bad)
    if not rows or any((np.abs(r.values - r.outs) > 2 * r.grain).any() for r, _ in bad):
        return None
    wrong = np.concatenate([(r.logits != r.wanted)[b] for r, b in bad])
    error = max(float(np.abs(r.logits - r.wanted)[b].max()) for r, b in bad if b.any())
    symbols = int(wrong[:, symbol_ids(sizes)].any(axis=0).sum())
    assert len(codes(sizes)) >= symbols
    ids = int(wrong.any(axis=0).sum())
    which = listed(tuple(np.flatnonzero(wrong.any(axis=0)).tolist()))
    return named("output_head", rows=rows, ids=ids, symbols=symbols, error=error, which=which)
