"""The cause of wrong values in a layer's attention."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from harness.canary.cells import Cells, cells
from harness.canary.fits import Exchange, Fit, exchanges, fits, observed, same_reads
from harness.canary.kernels import fitting_rope, windows
from harness.canary.observe import Seen
from harness.canary.regions import Region, region
from harness.canary.sizes import Sizes
from harness.canary.words import Named, listed, named

#: Of the cells of a region, so many must agree with what they are said to hold.
_AGREE = 0.97
#: Cells without which an agreement says nothing.
_LEAST_CELLS = 12
#: Positions by which a shift is searched.
_FARTHEST = 64


def attention(
    sizes: Sizes, layer: int, requests: Sequence[Seen], earlier: Sequence[Seen], budget: int
) -> Named:
    """Name the cause of a layer's wrong attention.

    Args:
        requests: those of the stage; the values below the layer are right in their rows.
        earlier: requests before, whose tokens a cache may have kept.
        budget: tokens that the engine takes in one step, 0 if that is not known.
    """
    found = cells(sizes, layer, requests)
    fitted = fits(found)
    return (
        _scaled(found)
        or _of_heads(found, fitted)
        or _of_the_region(found, fitted, earlier, budget)
        or _some_heads(found, fitted)
        or named("attention", layer, heads=listed(found.heads_wrong), wrong=int(found.wrong.sum()))
    )


def _scaled(found: Cells) -> Named | None:
    """Values that are right but for one factor."""
    ratio = found.value * found.wanted
    factor = float(np.median(ratio))
    if abs(factor) < 0.1 or np.abs(ratio - factor).max() > 0.02 * abs(factor):
        return None
    return named("factor", found.layer, factor=factor)


def _of_heads(found: Cells, fitted: dict[int, Fit | None]) -> Named | None:
    """All wrong heads read something else in every row, or nothing."""
    if any(fit is None for fit in fitted.values()):
        return None
    zero = [h for h, fit in fitted.items() if fit is not None and fit.zero]
    if len(zero) == len(fitted):
        return _nothing(found, tuple(zero))
    reads = observed(found, fitted)
    if reads is None:
        return None
    for exchange in exchanges(found.sizes, found.layer):
        if same_reads(exchange.reads, reads):
            return _exchanged(found, exchange)
    return _shifted(found, fitted) or _window(found, fitted) or _one_reads(found, fitted)


def _nothing(found: Cells, zero: tuple[int, ...]) -> Named:
    sizes, layer = found.sizes, found.layer
    if len(zero) == sizes.heads:
        return named("attention_nothing", layer)
    groups = tuple(sorted({h // sizes.group for h in zero}))
    if sizes.group > 1 and len(zero) == len(groups) * sizes.group:
        return named("kv_nothing", layer, heads=listed(groups), shares=listed(zero))
    return named("head_nothing", layer, heads=listed(zero))


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


def _shifted(found: Cells, fitted: dict[int, Fit | None]) -> Named | None:
    """Every head reads as much further back."""
    sizes, layer = found.sizes, found.layer
    reads = sizes.reads[layer]
    shifts = {
        f.distance - reads[h] for h, f in fitted.items() if f is not None and f.distance is not None
    }
    if len(fitted) < sizes.heads or len(shifts) != 1:
        return None
    return named("positions", layer, shift=shifts.pop())


def _window(found: Cells, fitted: dict[int, Fit | None]) -> Named | None:
    """Every head that looks further than a window reads what is nearest within it."""
    sizes, layer = found.sizes, found.layer
    nominal, window = sizes.distances[layer], sizes.sliding_window
    distances = {
        h: f.distance for h, f in fitted.items() if f is not None and f.distance is not None
    }
    if len(distances) != len(fitted):
        return None
    if window is not None and all(
        nominal[h] >= window and d >= window for h, d in distances.items()
    ):
        return named("window_long", layer, window=window, seen=max(distances.values()) + 1)
    for shorter, read in windows(found, tuple(distances)):
        if read == distances:
            return named("window_short", layer, seen=shorter)
    return None


def _one_reads(found: Cells, fitted: dict[int, Fit | None]) -> Named | None:
    """One head reads something else; several need a common cause."""
    if len(fitted) > 1:
        return None
    (head, fit), *_ = fitted.items()
    if fit is None or fit.distance is None or fit.bit is None:
        return None
    wanted = found.sizes.reads[found.layer][head]
    own = int(found.own_bit[found.head == head][0])
    if fit.bit != own:
        return named("head_bit", found.layer, head=head, distance=fit.distance, wanted=wanted)
    return named("head_reads", found.layer, head=head, distance=fit.distance, wanted=wanted)


def _of_the_region(
    found: Cells, fitted: dict[int, Fit | None], earlier: Sequence[Seen], budget: int
) -> Named | None:
    """What the wrong cells have in common names the cause."""
    where = region(found)
    if where is None or where.kind == "heads":
        return _rope(found, where, fitted)
    if where.kind == "distance":
        return _rope(found, where, fitted) or _window_mixed(found, fitted)
    if where.kind == "crossing":
        return _crossing(found, where, budget)
    if where.kind in ("rows", "requests"):
        return _rope(found, where, fitted) or _only_rows(found, where)
    return _sources(found, where, earlier)


def _rope(found: Cells, where: Region | None, fitted: dict[int, Fit | None]) -> Named | None:
    """Another RoPE: computed, or told by errors that grow with the distance."""
    layer = found.layer
    if len(fitted) > 1 or found.sizes.heads == 1:
        rope = fitting_rope(found)
        if rope is not None:
            return named(f"rope_{rope.kind}", layer, factor=rope.factor)
    far = where is not None and where.kind == "distance" and len(fitted) > 1
    if far and where is not None and len(fitted) < found.sizes.heads:
        zero = [f for f in fitted.values() if f is not None and f.zero]
        if not zero:
            return named("rope_far", layer, distance=where.numbers[0])
    return None


def _window_mixed(found: Cells, fitted: dict[int, Fit | None]) -> Named | None:
    """A window: the heads beyond it that do read one position read the nearest within it."""
    clear = {h: f.distance for h, f in fitted.items() if f is not None and f.distance is not None}
    if not clear:
        return None
    for shorter, read in windows(found, tuple(fitted)):
        if all(read[h] == d for h, d in clear.items()):
            return named("window_short", found.layer, seen=shorter)
    return None


def _crossing(found: Cells, where: Region, budget: int) -> Named | None:
    """Rows from a position on that do not see right what is before it."""
    layer, border = found.layer, where.numbers[0]
    shift = _common_shift(found.of(where.mask))
    if shift is not None:
        return named("positions_from", layer, position=border, shift=shift)
    prompts = {r.prompt_tokens for r in found.requests}
    if border in prompts:
        return named("decode_border", layer, position=border)
    on_chunk = bool(budget) and border % budget == 0
    return named("chunk_at" if on_chunk else "border", layer, position=border)


def _common_shift(found: Cells) -> int | None:
    """By how much further back than they should all cells read."""
    if len(found.row) < _LEAST_CELLS:
        return None
    for shift in sorted(range(-_FARTHEST, _FARTHEST + 1), key=abs):
        if shift and found.agrees(found.at(found.source - shift, found.own_bit)) >= _AGREE:
            return shift
    return None


def _only_rows(found: Cells, where: Region) -> Named:
    if where.kind == "requests":
        names = tuple(found.requests[n].name for n in where.numbers)
        return named("requests", found.layer, prompts=names)
    return named("rows", found.layer, first=where.numbers[0], last=where.numbers[1])


def _sources(found: Cells, where: Region, earlier: Sequence[Seen]) -> Named:
    """Positions whose keys and values are not what was written there."""
    layer, page = found.layer, found.sizes.page_size
    inside = found.of(where.mask)
    prompt = _other_prompt(inside, earlier)
    first, last = int(inside.source[inside.wrong].min()), int(inside.source[inside.wrong].max())
    blocks = tuple(int(b) for b in np.unique(inside.source[inside.wrong] // page))
    if prompt is not None:
        return named("prefix", layer, other=prompt, first=first, last=last)
    if where.kind == "offset":
        return named("offset", layer, offsets=listed(where.numbers), page=page)
    if where.kind == "slots":
        return named("slot", layer, slots=listed(where.numbers), blocks=listed(blocks))
    return named("block", layer, blocks=listed(blocks), first=first, last=last, page=page)


def _other_prompt(inside: Cells, earlier: Sequence[Seen]) -> str | None:
    """The request whose tokens the cells hold at the same positions."""
    if len(inside.row) < _LEAST_CELLS:
        return None
    for request in (*inside.requests, *earlier):
        mixed = inside.at(inside.source, inside.own_bit, of=request)
        if inside.agrees(mixed) >= _AGREE:
            return request.name
    return None


def _some_heads(found: Cells, fitted: dict[int, Fit | None]) -> Named | None:
    """A few heads that are wrong in every row, each in its own way."""
    if len(fitted) == found.sizes.heads:
        return None
    return named("heads", found.layer, heads=listed(tuple(fitted)))
