"""What is wrong with whole rows: before the layers, after them, or with who gets them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.canary.expected import read_outs
from harness.canary.layout import codes, symbol_ids
from harness.canary.observe import TOLERANCE, Seen
from harness.canary.sizes import Sizes
from harness.canary.words import Named, named

#: Of the wrong rows, so many must fit an explanation.
_AGREE = 0.9
#: Rows without which "the same in every row" says nothing.
_LEAST_ROWS = 4


def whole_rows(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """The first fault of whole rows that explains them; None if there is no such fault."""
    rules = (_not_finite, _head_shards, _other_rows, _embedding, _size)
    for rule in rules:
        found = rule(sizes, requests)
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
        _from_elsewhere(sizes, requests, actual, [place[i] for i in bad], bad)
        or _other_symbols(sizes, actual, true, bad)
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
            0 <= p - steps < len(symbols[n]) and symbols[n][p - steps] == actual[i]
            for i, (n, p) in zip(bad, places, strict=True)
        ]
        if np.mean(right) >= _AGREE:
            return named("stale_input", steps=steps, rows=len(bad))
    for other, request in enumerate(requests):
        right = []
        for i, (n, p) in zip(bad, places, strict=True):
            at = p - requests[n].first + request.first
            right.append(
                n != other and 0 <= at < len(request.ids) and symbols[other][at] == actual[i]
            )
        if np.mean(right) >= _AGREE / 2:
            mine = requests[places[int(np.argmax(right))][0]].name
            return named("batch_rows", prompt=mine, other=request.name, rows=len(bad))
    return None


def _other_symbols(
    sizes: Sizes, actual: NDArray[np.int64], true: NDArray[np.int64], bad: NDArray[np.int64]
) -> Named | None:
    """A table whose parts are exchanged, or of which one is missing."""
    count = 1 << sizes.bits
    if len(bad) < _LEAST_ROWS:
        return None
    if (actual[bad] == -2).all():
        return named("embedding_missing", rows=len(bad))
    moved = (actual[bad] - true[bad]) % count
    if (actual[bad] >= 0).all() and len(set(moved.tolist())) <= 2 and count % moved[0] == 0:
        return named(
            "embedding_shards", shards=max(2, count // int(min(moved[0], count - moved[0])))
        )
    return None


def _size(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """Rows that are right but for their size."""
    del sizes
    bad = [~r.exact for r in requests]
    if any((r.wrong[b]).any() for r, b in zip(requests, bad, strict=True)):
        return None
    scales = np.concatenate([r.scale[b] for r, b in zip(requests, bad, strict=True)])
    if not len(scales) or np.abs(scales - 1).max() < 1e-6:
        return None
    return named("size", low=float(scales.min()), high=float(scales.max()), rows=len(scales))


def output_head(sizes: Sizes, requests: Sequence[Seen]) -> Named | None:
    """Rows whose probes are right while the logits of the symbols, or others, are not."""
    bad = [(r, ~r.exact) for r in requests]
    rows = sum(int(b.sum()) for _, b in bad)
    if not rows or any(r.wrong[b].any() for r, b in bad):
        return None
    wrong = np.concatenate([(r.logits != r.wanted)[b] for r, b in bad])
    error = max(float(np.abs(r.logits - r.wanted)[b].max()) for r, b in bad if b.any())
    symbols = int(wrong[:, symbol_ids(sizes)].any(axis=0).sum())
    assert len(codes(sizes)) >= symbols
    ids = int(wrong.any(axis=0).sum())
    return named("output_head", rows=rows, ids=ids, symbols=symbols, error=error)
