"""Finds the module in which an error begins, from the traces of candidate and reference.

At every place the candidate's error against the float32 oracle is compared with
the reference's own there. Errors propagate, so the first place in the order of
execution whose ratio leaves the noise is where the fault is.

Pure: traces in, figures out. float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from harness.alignment.result import DepthPoint, Located
from harness.devices.trace import HEAD, IN_LAYER, layer_of, layer_place, order_of
from harness.errors import EmptyComparison, UsageError
from harness.locate.place_errors import (
    PEERS,
    Arm,
    equal_at,
    errors_at,
    floors_of,
    peak_of,
    ratio_of,
    relative,
    rms_of,
    slope_of,
    top_k_ratio,
)
from harness.locate.result import FAILING, Location, Place, PlaceStatus
from harness.statistics.intervals import Interval
from harness.statistics.noise import FRACTION_BITS

#: How much a candidate may exceed the reference's error, or a control's where
#: one exceeds it.
RATIO_LIMIT = 1.5
#: The same for the worst of 64 groups of coordinates. Correct variations
#: reach 1.4 there over eight prompts (docs/locate.md).
PEAK_LIMIT = 2.5
#: With fewer prompts than this a few coordinates give too few numbers for a judgement.
PEAK_PROMPTS = 4
#: How much an output may be scaled as a whole: this, or this share of the
#: noise at the place, or usual at its peers, where that is more. vLLM's
#: attention on CPUs gives 0.4 % too little, where its noise is usually 3 %.
SLOPE_LIMIT, SLOPE_SHARE = 0.003, 0.25
#: How far beyond the reference's worst position one counts as where it shows first.
_SHOWS = 2.0


def places(
    candidate: Arm, reference: Arm, oracle: Arm, controls: Mapping[str, Arm], dtype: str
) -> list[Place]:
    """Every place that all arms have, in the order of execution.

    Args:
        candidate, reference, oracle: one trace per prompt, of the same tokens.
        controls: correct variations of the reference, which widen the noise.
        dtype: of candidate and reference. An error of the reference below one
            rounding of it counts as one rounding.

    Raises:
        UsageError: for float32, which is the oracle's own.
        EmptyComparison: if there is no common prompt or place.
    """
    if dtype not in FRACTION_BITS or dtype == "float32":
        raise UsageError(
            f"locate cannot judge {dtype}: the oracle is float32, so the reference has no error "
            "of its own to compare with; use --dtype bfloat16 or float16"
        )
    arms = [candidate, reference, oracle, *controls.values()]
    if not candidate or any(_asked(arm) != _asked(candidate) for arm in arms):
        raise EmptyComparison("the traces are not of the same tokens: nothing was compared")
    names = set.intersection(*(set(trace.sketches) for arm in arms for trace in arm))
    if not names:
        raise EmptyComparison("the models have no module in common: nothing was compared")
    ordered = sorted({*names, HEAD}, key=order_of)
    floors = floors_of(ordered, reference, oracle, dtype)
    return [_place(name, candidate, reference, oracle, controls, floors[name]) for name in ordered]


def first_beyond(judged: Sequence[Place]) -> Place | None:
    """The first place beyond the noise, or None."""
    return next((place for place in judged if place.status in FAILING), None)


def block_of(place: str) -> str:
    """The module that a place is a part of: attention, MLP, or itself."""
    layer = layer_of(place)
    if layer is None:
        return place
    for block in ("self_attn", "mlp"):
        if place.startswith(layer_place(layer, block)):
            return layer_place(layer, block)
    return place


def shows_at(name: str, candidate: Arm, reference: Arm, oracle: Arm) -> tuple[int, int]:
    """Prompt index and position at which the error of a place shows.

    In the prompt with the largest error: the first position well beyond the
    reference's worst, or else the worst position.
    """
    best = (-1.0, 0, 0)
    for index, (c, r, o) in enumerate(zip(candidate, reference, oracle, strict=True)):
        mine = relative(name, c, o, r).sum(axis=1)
        theirs = relative(name, r, o, r).sum(axis=1)
        broken = ~np.isfinite(mine)
        mine = np.where(broken, np.inf, mine)
        worst = int(np.argmax(mine))
        limit = _SHOWS**2 * float(np.nanmax(theirs)) if np.isfinite(theirs).any() else np.inf
        beyond = np.flatnonzero(mine > limit)
        position = int(beyond[0]) if len(beyond) else worst
        if float(mine[worst]) > best[0]:
            best = (float(mine[worst]), index, position)
    return best[1], best[2]


def _asked(arm: Arm) -> list[tuple[str, tuple[int, ...]]]:
    return [(trace.prompt_id, trace.token_ids) for trace in arm]


def _place(
    name: str,
    candidate: Arm,
    reference: Arm,
    oracle: Arm,
    controls: Mapping[str, Arm],
    floor: float,
) -> Place:
    errors, broken = errors_at(name, candidate, reference, oracle, controls, floor)
    noise = rms_of(errors.reference)
    known = [ratio_of(c, errors.reference).value for c in errors.controls.values()]
    control = max((v for v in known if v is not None), default=None)
    peaks = [peak_of(c, errors.reference) for c in errors.controls.values() if errors.judged]
    place = Place(
        name=name,
        layer=layer_of(name),
        status="WITHIN",
        error=rms_of(errors.candidate),
        reference_error=noise,
        ratio=ratio_of(errors.candidate, errors.reference),
        peak=peak_of(errors.candidate, errors.reference) if errors.judged else None,
        slope=slope_of(name, candidate, reference, oracle),
        top_k=top_k_ratio(candidate, reference, oracle) if name == HEAD and errors.judged else None,
        control=control,
        limit=RATIO_LIMIT * max(1.0, control or 0.0),
        peak_limit=PEAK_LIMIT * max(1.0, max(peaks, default=0.0)),
        slope_limit=max(SLOPE_LIMIT, SLOPE_SHARE * max(noise or 0.0, floor / PEERS)),
    )
    equal = all(equal_at(name, c, r) for c, r in zip(candidate, reference, strict=True))
    return place.model_copy(
        update={"status": _status(place, equal, broken, errors.judged, len(candidate))}
    )


def _status(place: Place, equal: bool, broken: bool, judged: bool, prompts: int) -> PlaceStatus:
    if broken:
        return "NONFINITE"
    if not judged:
        return "UNJUDGED"
    if equal:
        return "EQUAL"
    beyond = (
        _beyond(place.ratio, place.limit)
        or (place.top_k is not None and _beyond(place.top_k, place.limit))
        or (prompts >= PEAK_PROMPTS and (place.peak or 0.0) > place.peak_limit)
        or (_scaled(place.slope, place.slope_limit) and not _below(place.ratio))
    )
    return "BEYOND" if beyond else "WITHIN"


def _beyond(ratio: Interval, limit: float) -> bool:
    """Whether all of the interval is; the value alone where one prompt gives no interval."""
    decides = ratio.value if ratio.low is None else ratio.low
    return decides is not None and decides > limit


def _below(ratio: Interval) -> bool:
    """Whether the error is surely smaller than the reference's own: a small scaling within
    it is the engine's way to round, as that of softmax weights before the second product."""
    return ratio.high is not None and ratio.high < 1.0


def _scaled(slope: Interval, limit: float) -> bool:
    """Whether the whole interval is on one side of no scaling, beyond the limit."""
    if slope.low is None or slope.high is None:
        return False
    return slope.low > limit or slope.high < -limit


def curve_of(location: Location) -> Located:
    """A location as the part of an alignment: blocks and layers, not their insides."""
    blocks = ("self_attn", "mlp", "")
    shown = [
        place
        for _, within in layer_rows(location.places)
        for part, place in within.items()
        if part in blocks
    ]
    ordered = sorted(shown, key=lambda p: order_of(p.name))
    return Located(
        module=location.module,
        sentence=location.sentence,
        curve=tuple(
            DepthPoint(
                module=place.name,
                candidate=place.error,
                noise=None
                if place.reference_error is None
                else place.limit * place.reference_error,
                ratio=place.ratio.value,
                limit=place.limit,
                status=place.status,
            )
            for place in ordered
        ),
        place=location.place,
        prompt_id=None if location.hand_over is None else location.hand_over.prompt_id,
        position=None if location.hand_over is None else location.hand_over.position,
        warnings=location.warnings,
    )


def layer_rows(judged: Sequence[Place]) -> list[tuple[str, dict[str, Place]]]:
    """The places for a reader: one row per layer and per module outside of
    them, each with its places by what they are within it ("" for the whole)."""
    rows: dict[str, dict[str, Place]] = {}
    for place in judged:
        whole = place.name if place.layer is None else layer_place(place.layer, "")
        within = place.name.removeprefix(whole).removeprefix(".")
        rows.setdefault(whole, {})[within if within in IN_LAYER else ""] = place
    return list(rows.items())
