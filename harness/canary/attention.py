"""The cause of wrong values in a layer's attention."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from harness.canary.cells import Cells, cells
from harness.canary.evidence import convincing
from harness.canary.fits import NEAREST, Exchange, Fit, exchanges, explains, fits
from harness.canary.kernels import Rope, fitting_rope, fitting_scaling, keys_only, windows
from harness.canary.observe import TOLERANCE, Seen
from harness.canary.regions import Region, region
from harness.canary.sizes import Sizes
from harness.canary.words import Named, listed, named

#: Positions by which a shift is searched.
_FARTHEST = 64
#: Cells of a head that make a pattern, and how near values are that are the same.
_LEAST_CELLS, _SAME = 8, 0.004

Fits = dict[int, "Fit | None"]


@dataclass(frozen=True, eq=False)
class Around:
    """What is known beside the wrong cells.

    Attributes:
        others: requests whose tokens a cache may hold: those of the stage and before.
        budget: tokens that the engine takes in one step, 0 if that is not known.
        some: the requests with wrong cells, if others of the stage have none.
    """

    others: tuple[Seen, ...]
    budget: int
    some: tuple[str, ...]


def attention(
    sizes: Sizes, layer: int, requests: Sequence[Seen], earlier: Sequence[Seen], budget: int
) -> Named:
    """Name the cause of a layer's wrong attention.

    Args:
        requests: those of the stage; the values below the layer are right in their rows.
        earlier: requests before, whose tokens a cache may have kept.
        budget: tokens that the engine takes in one step, 0 if that is not known.
    """
    bad = [r for r in requests if r.wrong[:, r.part("attention", layer)].any()]
    some = tuple(r.name for r in bad) if len(bad) < len(requests) else ()
    around = Around((*requests, *earlier), budget, some)
    found = cells(sizes, layer, bad)
    slight = _leak(found)
    if slight is not None:
        return slight
    fitted = fits(found)
    return (
        _scaled(found)
        or _constant(found)
        or _sized(found)
        or _of_heads(found, fitted)
        or _of_the_region(found, fitted, around)
        or named("attention", layer, heads=listed(found.heads_wrong), wrong=int(found.wrong.sum()))
    )


def _scaled(found: Cells) -> Named | None:
    """Values that are right but for one factor."""
    ratio = found.value * found.wanted
    factor = float(np.median(ratio))
    spread = float(np.abs(ratio - factor).max())
    if abs(factor) < 0.1 or abs(factor - 1) < 0.02 or spread > 0.02 * abs(factor):
        return None
    return named("factor", found.layer, factor=factor)


def _constant(found: Cells) -> Named | None:
    """Heads that give one and the same value in every row, whatever the tokens are."""
    heads = found.heads_wrong
    mine = [found.value[found.head == head] for head in heads]
    if any(len(m) < _LEAST_CELLS or np.ptp(m) > _SAME * max(1.0, np.abs(m).max()) for m in mine):
        return None
    if max(np.abs(np.abs(m) - 1).max() for m in mine) <= TOLERANCE:
        return None  # one position that all rows read
    if max(np.abs(m).max() for m in mine) <= TOLERANCE:
        return None
    return named("attention_constant", found.layer, heads=listed(heads))


def _sized(found: Cells) -> Named | None:
    """Bits that are right but for a size that each head has of its own."""
    ratio = found.value * found.wanted
    sizes = []
    for head in range(found.sizes.heads):
        mine = ratio[found.head == head]
        size = float(np.median(mine))
        if not len(mine) or size < 0.1 or np.abs(mine - size).max() > 0.02 * size:
            return None
        sizes.append(size)
    return named("norm_attention", found.layer, low=min(sizes), high=max(sizes))


def _of_heads(found: Cells, fitted: Fits) -> Named | None:
    """All wrong heads read something else in every row, or nothing."""
    kinds = {None if fit is None else fit.kind for fit in fitted.values()}
    if kinds == {"nothing"}:
        return _nothing(found, tuple(fitted))
    if kinds == {"flat"} and len(fitted) < found.sizes.heads:
        return named("head_flat", found.layer, heads=listed(tuple(fitted)))
    for exchange in exchanges(found.sizes, found.layer):
        if explains(exchange, found, fitted):
            return _exchanged(found, exchange)
    other = _other_table(found, fitted) or _other_layer(found, fitted)
    if other is not None or kinds != {"reads"}:
        return other
    return (
        _shifted(found, fitted)
        or _late(found, fitted)
        or _window(found, fitted)
        or _farthest_rope(found, fitted)
        or _one_reads(found, fitted)
    )


def _nothing(found: Cells, zero: tuple[int, ...]) -> Named:
    sizes, layer = found.sizes, found.layer
    if len(zero) == sizes.heads:
        return named("layer_order" if _room_is_empty(found) else "attention_nothing", layer)
    groups = tuple(sorted({h // sizes.group for h in zero}))
    if sizes.group > 1 and len(zero) == len(groups) * sizes.group:
        return named("kv_nothing", layer, heads=listed(groups), shares=listed(zero))
    return named("head_nothing", layer, heads=listed(zero))


def _room_is_empty(found: Cells) -> bool:
    """Whether the attention emptied its room, though its bits are nothing: it ran on what was
    not computed yet. The row is smaller by that, beside what all later parts lack."""
    sizes, later = found.sizes, found.sizes.layers - found.layer - 1
    left = sizes.hidden - sizes.width * (later + 1) - sizes.heads * later
    scale = float(np.median(np.concatenate([r.scale for r in found.requests])))
    return abs(sizes.hidden / scale**2 - left) > sizes.heads / 2


def _exchanged(found: Cells, exchange: Exchange) -> Named:
    layer, kind = found.layer, exchange.kind
    if kind in ("tiled", "same"):
        return named(f"kv_{kind}", layer, kv_heads=found.sizes.kv_heads)
    what = "kv" if kind in ("key", "value", "kv") else "head"
    if exchange.shards > 0:
        return named(f"{what}_order", layer, shards=exchange.shards, part=kind)
    a, b = exchange.parts
    if exchange.shards < 0:
        return named(f"{what}_copied", layer, a=a, b=b, part=kind)
    return named(f"{what}_exchanged", layer, a=a, b=b, part=kind)


def _distances(fitted: Fits) -> dict[int, int]:
    """How far back the heads read that read one position."""
    return {h: f.distance for h, f in fitted.items() if f is not None and f.kind == "reads"}


def _shifted(found: Cells, fitted: Fits) -> Named | None:
    """Every head reads as much further back."""
    sizes, layer, clear = found.sizes, found.layer, _distances(fitted)
    reads, nominal = sizes.reads[layer], sizes.asked[layer]
    shifts = sorted({distance - reads[head] for head, distance in clear.items()})
    for shift in shifts if len(fitted) > 1 else ():
        moved = {h: d + shift for h, d in enumerate(nominal) if d + shift >= -NEAREST}
        enough = len(moved.keys() & clear.keys()) > 1 and 2 * len(moved) > sizes.heads
        if enough and all(max(d, 0) == clear.get(h, reads[h]) for h, d in moved.items()):
            return named("positions", layer, shift=shift)
    return None


def _late(found: Cells, fitted: Fits) -> Named | None:
    """Keys and values lie one place later than they should: nothing shows it but the heads that
    ask for what lies beyond an end, the next token and what is outside of the window."""
    sizes, layer, clear = found.sizes, found.layer, _distances(fitted)
    asked, reads = sizes.asked[layer], sizes.reads[layer]
    late = {distance - reads[head] for head, distance in clear.items()}
    ends = all(asked[head] != reads[head] for head in fitted)
    (count,) = late if len(late) == 1 else (0,)
    if len(fitted) == 1 or not ends or count <= 0:
        return None
    return named("stale_length", layer, count=count)


def _other_table(found: Cells, fitted: Fits) -> Named | None:
    """Nearly every wrong head reads where it would read under the other table of LongRoPE."""
    other, clear = found.sizes.of_the_other_table, _distances(fitted)
    if other is None or 2 * len(clear) <= len(fitted) or len(clear) < min(2, found.sizes.heads):
        return None
    reads = other.reads[found.layer]
    if any(reads[head] != distance for head, distance in clear.items()):
        return None
    return named("rope_table", found.layer, wanted=found.sizes.table, actual=other.table)


def _other_layer(found: Cells, fitted: Fits) -> Named | None:
    """Every wrong head looks as far back as the head of its number in another layer."""
    clear = _distances(fitted)
    if len(clear) < max(2, len(fitted) - 1):
        return None
    for layer, reads in enumerate(found.sizes.reads):
        if layer != found.layer and all(reads[h] == d for h, d in clear.items()):
            return named("head_layer", found.layer, other=layer, heads=listed(tuple(fitted)))
    return None


def _window(found: Cells, fitted: Fits) -> Named | None:
    """Heads that look further than a window read what is nearest within it."""
    sizes, layer = found.sizes, found.layer
    window, clear = sizes.window_of(layer), _distances(fitted)
    if not clear:
        return None
    if window is not None and all(d >= window for d in clear.values()):
        return named("window_long", layer, window=window, seen=max(clear.values()) + 1)
    fitting = [
        shorter
        for shorter, read in windows(found, tuple(fitted))
        if all(read[head] == distance for head, distance in clear.items())
    ]
    if not fitting:
        return None
    rope = fitting_rope(found) if len(fitted) > 1 else None  # may lead to the same positions
    if rope is not None:
        return _named_rope(found, rope)
    of_others = sizes.sliding_window in fitting and sizes.sliding_window is not None
    return named("window_short", layer, seen=sizes.sliding_window if of_others else fitting[0])


def _farthest_rope(found: Cells, fitted: Fits) -> Named | None:
    """The head that looks furthest is the first that a wrong RoPE leads astray."""
    reads = found.sizes.reads[found.layer]
    if found.sizes.heads == 1 or min(reads[h] for h in fitted) < max(reads):
        return None
    rope = fitting_rope(found)
    return None if rope is None else _named_rope(found, rope)


def _named_rope(found: Cells, rope: Rope) -> Named:
    if rope.how is not None:
        given = {"kind": rope.how.kind, "factor": rope.how.factor, "original": rope.how.original}
        seen = "rope_scaled" if found.sizes.scaling is None else "rope_scaled_other"
        return named(seen, found.layer, few=rope.how.few, many=rope.how.many, **given)
    if rope.kind == "unscaled" and found.sizes.scaling is not None:
        return named("rope_not_scaled", found.layer, kind=found.sizes.scaling.kind)
    if rope.kind == "all":
        return named("rope_linear", found.layer, factor=rope.factor)
    halves = rope.kind == "interleaved" and found.sizes.interleaved
    return named("rope_halves" if halves else f"rope_{rope.kind}", found.layer, factor=rope.factor)


def _one_reads(found: Cells, fitted: Fits) -> Named | None:
    """One head reads something else; several need a common cause."""
    if len(fitted) > 1:
        return None
    rope = None if found.sizes.scaling is None else fitting_scaling(found)
    if rope is not None:
        return _named_rope(found, rope)
    (head, fit), *_ = fitted.items()
    assert fit is not None  # its kind was asked for
    wanted = found.sizes.reads[found.layer][head]
    own = int(found.own_bit[found.head == head][0])
    cause = "head_reads" if fit.bit == own else "head_bit"
    if cause == "head_reads" and wanted == 0:
        seen = "stale_length" if fit.distance > 0 else "causal"
        return named(seen, found.layer, count=abs(fit.distance))
    return named(cause, found.layer, head=head, distance=fit.distance, wanted=wanted)


def _of_the_region(found: Cells, fitted: Fits, around: Around) -> Named | None:
    """What the wrong cells have in common names the cause."""
    where = region(found)
    kind = None if where is None else where.kind
    wrong_heads = np.isin(found.head, tuple(fitted))
    known = _other_prompt(found.of(wrong_heads if where is None else where.mask), around)
    if known is None and keys_only(found):
        known = named("rope_keys_only", found.layer)
    if known is None and _frozen(found):
        known = named("positions_frozen", found.layer)
    if known is not None:
        return known
    if where is not None and kind in ("slots", "blocks", "sources", "offset"):
        return _slow_planes(found, fitted) or _sources(found, where)
    if where is not None and kind in ("crossing", "decode"):
        return _crossing(found, where, around)
    rope = _rope(found, where, fitted)
    if rope is not None or where is None:
        return rope
    if kind in ("distance", "heads"):
        window = _window(found, fitted) if len(_distances(fitted)) > len(fitted) / 2 else None
        few = len(fitted) < found.sizes.heads
        return window or (_some_heads(found, fitted) if few else None)
    return _only_rows(found, where, around)


def _rope(found: Cells, where: Region | None, fitted: Fits) -> Named | None:
    """Another RoPE: computed, or told by errors that grow with the distance."""
    layer = found.layer
    if len(fitted) > 1 or found.sizes.heads == 1:
        rope = fitting_rope(found)
        if rope is not None:
            return _named_rope(found, rope)
    if where is None or where.kind != "distance" or not 1 < len(fitted) < found.sizes.heads:
        return None
    if any(fit is not None and fit.kind != "reads" for fit in fitted.values()):
        return None
    return named("rope_far", layer, distance=where.numbers[0])


def _slow_planes(found: Cells, fitted: Fits) -> Named | None:
    """Wrong frequencies of the slow planes show in a few rows of the heads that look furthest,
    which may lie in a few blocks by chance."""
    reads = sorted(set(found.sizes.reads[found.layer]))
    near = reads[: len(reads) // 2]
    if any(found.sizes.reads[found.layer][head] in near for head in fitted):
        return None
    rope = fitting_scaling(found)
    return None if rope is None else _named_rope(found, rope)


def _crossing(found: Cells, where: Region, around: Around) -> Named | None:
    """Rows from a position on that do not see right what is before it."""
    layer, inside = found.layer, found.of(where.mask)
    shift = _common_shift(inside)
    if where.kind == "decode":
        return (
            named("decode_border", layer)
            if shift is None
            else named("positions_decode", layer, shift=shift)
        )
    border, budget = where.numbers[0], around.budget
    if shift is not None:
        return named("positions_from", layer, position=border, shift=shift)
    on_chunk = bool(budget) and border % budget == 0
    return named("chunk_at" if on_chunk else "border", layer, position=border)


def _frozen(found: Cells) -> bool:
    """Whether decode steps have the position of the first of them."""
    ends = np.asarray([r.prompt_tokens for r in found.requests])
    late = found.of(found.row > ends[found.request] + 1)
    late = late.of(late.row - late.source > late.row - ends[late.request] + 1)
    first = ends[late.request] - (late.row - late.source)
    shares = [late.agrees(late.at(first + c, late.own_bit)) for c in (-1, 0, 1)]
    return any(convincing(share, len(late.row), len(shares)) for share in shares)


def _common_shift(found: Cells) -> int | None:
    """By how much further back than they should all cells read."""
    shifts = [s for s in range(-_FARTHEST, _FARTHEST + 1) if s]
    shares = [found.agrees(found.at(found.source - s, found.own_bit)) for s in shifts]
    best = int(np.argmax(shares))
    return shifts[best] if convincing(shares[best], len(found.row), len(shifts)) else None


def _some_heads(found: Cells, fitted: Fits) -> Named:
    reads = found.sizes.reads[found.layer]
    distances = tuple(reads[h] for h in fitted)
    return named("heads", found.layer, heads=listed(tuple(fitted)), distances=listed(distances))


def _only_rows(found: Cells, where: Region, around: Around) -> Named:
    if where.kind == "decode_rows":
        return named("decode_rows", found.layer)
    if around.some and where.mask.all():
        return named("requests", found.layer, prompts=around.some)
    return named("rows", found.layer, first=where.numbers[0], last=where.numbers[1])


def _sources(found: Cells, where: Region) -> Named:
    """Positions whose keys and values are not what was written there."""
    layer, page = found.layer, found.sizes.page_size
    inside = found.of(where.mask)
    bad = inside.source[inside.wrong]
    blocks = listed(tuple(int(b) for b in np.unique(bad // page)))
    if where.kind == "offset":
        return named("offset", layer, offsets=listed(where.numbers), page=page)
    if where.kind == "slots":
        return named("slot", layer, slots=listed(where.numbers), blocks=blocks)
    first, last = int(bad.min()), int(bad.max())
    return named("block", layer, blocks=blocks, first=first, last=last, page=page)


def _other_prompt(inside: Cells, around: Around) -> Named | None:
    """The request whose tokens the cells hold at the same positions; two that are exchanged
    have one each."""
    found = []
    for number in np.unique(inside.request):
        mine = inside.of(inside.request == number)
        own = inside.requests[number]
        for other in around.others:
            share = 0.0
            if other.ids != own.ids:
                share = mine.agrees(mine.at(mine.source, mine.own_bit, of=other))
            if convincing(share, len(mine.row), len(around.others)):
                found.append(other.name)
                break
        else:
            return None
    if not found:
        return None
    first, last = int(inside.source.min()), int(inside.source.max())
    return named("prefix", inside.layer, other=found[0], first=first, last=last)


def _leak(found: Cells) -> Named | None:
    """Values that are nearly right: a part of them comes from elsewhere."""
    off = float(np.abs(found.value - found.wanted).max())
    if off > TOLERANCE:
        return None
    reads = found.sizes.reads[found.layer]
    farthest = max(reads[h] for h in found.heads_wrong)
    heads = listed(found.heads_wrong)
    return named("leak", found.layer, heads=heads, distance=farthest, share=off / 2)
