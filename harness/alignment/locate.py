"""Which module an error begins in: the traces of a candidate beside the reference's.

At every place the candidate's error against the float32 oracle stands beside
the reference's own there. Errors travel on, so the first place in the order of
execution whose ratio leaves the noise is where the fault is.

Pure: traces in, figures out. float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.alignment.intervals import error_ratio
from harness.alignment.location import FAILING, Place, PlaceStatus
from harness.alignment.noise import FRACTION_BITS, top_k_squared_errors
from harness.alignment.result import Interval
from harness.errors import EmptyComparison, UsageError
from harness.trace import HEAD, IN_LAYER, Trace, layer_of, layer_place, order_of

#: How much a candidate may exceed the reference's error, or a control's where
#: one exceeds it.
RATIO_LIMIT = 1.5
#: The same for the worst of 64 groups of coordinates. Correct variations
#: reach 1.4 there over eight prompts (docs/locate.md).
PEAK_LIMIT = 2.5
#: With fewer prompts than this a few coordinates are too few numbers to judge by.
PEAK_PROMPTS = 4
#: How far beyond the reference's worst position one counts as where it shows first.
_SHOWS = 2.0

_NOTHING = Interval(value=None, low=None, high=None)
_Arm = Sequence[Trace]


@dataclass(frozen=True, eq=False)
class _Errors:
    """Squared errors at one place, relative to the oracle's size there.

    One float64 (positions, 64) per prompt and arm: the columns are the buckets
    of the sketch, whose sum estimates the whole.
    """

    candidate: list[NDArray[np.float64]]
    reference: list[NDArray[np.float64]]
    controls: dict[str, list[NDArray[np.float64]]]

    @property
    def judged(self) -> bool:
        """Whether any position of the reference is finite."""
        return any(len(e) for e in self.reference)


def places(
    candidate: _Arm, reference: _Arm, oracle: _Arm, controls: Mapping[str, _Arm], dtype: str
) -> list[Place]:
    """Every place that all arms have, in the order of execution.

    Args:
        candidate, reference, oracle: one trace per prompt, of the same tokens.
        controls: correct variations of the reference, which widen the noise.
        dtype: of candidate and reference. An error of the reference below one
            rounding of it counts as one rounding.

    Raises:
        UsageError: for float32, which is the oracle's own.
        EmptyComparison: without a common prompt or place.
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
    return [_place(name, candidate, reference, oracle, controls, dtype) for name in ordered]


def first_beyond(found: Sequence[Place]) -> Place | None:
    """The first place beyond the noise, None where there is none."""
    return next((place for place in found if place.status in FAILING), None)


def block_of(place: str) -> str:
    """The module that a place is a part of: attention, MLP, or itself."""
    layer = layer_of(place)
    if layer is None:
        return place
    for block in ("self_attn", "mlp"):
        if place.startswith(layer_place(layer, block)):
            return layer_place(layer, block)
    return place


def shows_at(name: str, candidate: _Arm, reference: _Arm, oracle: _Arm) -> tuple[int, int]:
    """Prompt index and position at which the error of a place shows.

    In the prompt with the largest error: the first position well beyond the
    reference's worst, or the worst one where none is.
    """
    best = (-1.0, 0, 0)
    for index, (c, r, o) in enumerate(zip(candidate, reference, oracle, strict=True)):
        mine = _relative(name, c, o, r).sum(axis=1)
        theirs = _relative(name, r, o, r).sum(axis=1)
        broken = ~np.isfinite(mine)
        mine = np.where(broken, np.inf, mine)
        worst = int(np.argmax(mine))
        limit = _SHOWS**2 * float(np.nanmax(theirs)) if np.isfinite(theirs).any() else np.inf
        beyond = np.flatnonzero(mine > limit)
        position = int(beyond[0]) if len(beyond) else worst
        if float(mine[worst]) > best[0]:
            best = (float(mine[worst]), index, position)
    return best[1], best[2]


def _asked(arm: _Arm) -> list[tuple[str, tuple[int, ...]]]:
    return [(trace.prompt_id, trace.token_ids) for trace in arm]


def _place(
    name: str,
    candidate: _Arm,
    reference: _Arm,
    oracle: _Arm,
    controls: Mapping[str, _Arm],
    dtype: str,
) -> Place:
    errors, broken = _errors(name, candidate, reference, oracle, controls, dtype)
    equal = all(_equal(name, c, r) for c, r in zip(candidate, reference, strict=True))
    ratio = _ratio(errors.candidate, errors.reference)
    known = [_ratio(c, errors.reference).value for c in errors.controls.values()]
    control = max((v for v in known if v is not None), default=None)
    peaks = [_peak(c, errors.reference) for c in errors.controls.values()]
    limit = RATIO_LIMIT * max(1.0, control or 0.0)
    peak_limit = PEAK_LIMIT * max(1.0, max(peaks, default=0.0))
    peak = _peak(errors.candidate, errors.reference) if errors.judged else None
    top_k = _top_k(candidate, reference, oracle) if name == HEAD and errors.judged else None
    status: PlaceStatus = "WITHIN"
    if equal:
        status = "EQUAL"
    elif broken:
        status = "NONFINITE"
    elif not errors.judged:
        status = "UNJUDGED"
    elif _beyond(ratio, limit) or (top_k is not None and _beyond(top_k, limit)):
        status = "BEYOND"
    elif len(candidate) >= PEAK_PROMPTS and (peak or 0.0) > peak_limit:
        status = "BEYOND"
    return Place(
        name=name,
        layer=layer_of(name),
        status=status,
        error=_rms(errors.candidate),
        reference_error=_rms(errors.reference),
        ratio=ratio,
        peak=peak,
        top_k=top_k,
        control=control,
        limit=limit,
        peak_limit=peak_limit,
    )


def _beyond(ratio: Interval, limit: float) -> bool:
    """Whether all of the interval is; the value alone where one prompt gives no interval."""
    decides = ratio.value if ratio.low is None else ratio.low
    return decides is not None and decides > limit


def _errors(
    name: str,
    candidate: _Arm,
    reference: _Arm,
    oracle: _Arm,
    controls: Mapping[str, _Arm],
    dtype: str,
) -> tuple[_Errors, bool]:
    """Errors at the positions where reference and controls are finite, and
    whether the candidate is not finite at one of those."""
    floor = rounding_error(dtype) ** 2 / 64
    mine, theirs = [], []
    others: dict[str, list[NDArray[np.float64]]] = {c: [] for c in controls}
    broken = False
    for index, truth in enumerate(oracle):
        own = _relative(name, reference[index], truth, reference[index])
        rest = {
            c: _relative(name, arm[index], truth, reference[index]) for c, arm in controls.items()
        }
        finite = np.isfinite(own).all(axis=1)
        for other in rest.values():
            finite &= np.isfinite(other).all(axis=1)
        ours = _relative(name, candidate[index], truth, reference[index])
        wrong = finite & ~np.isfinite(ours).all(axis=1)
        broken = broken or bool(wrong.any())
        finite &= ~wrong
        mine.append(ours[finite])
        theirs.append(np.maximum(own[finite], floor))
        for c, other in rest.items():
            others[c].append(other[finite])
    return _Errors(mine, theirs, others), broken


def rounding_error(dtype: str) -> float:
    """Root-mean-square of one rounding to ``dtype``, relative to the value, at
    most: ``2 ** -(fraction bits + 1) / sqrt(3)``."""
    return float(2.0 ** -(FRACTION_BITS[dtype] + 1) / np.sqrt(3.0))


def _relative(name: str, arm: Trace, oracle: Trace, reference: Trace) -> NDArray[np.float64]:
    """Squared error per position and bucket, over the oracle's squared size.

    Relative, so that the few positions with huge activations, which every
    Llama has, do not stand for all. float64 (positions, 64); NaN where one of
    the two is not finite.
    """
    truth = _sketch(name, oracle)
    size = np.sum(truth**2, axis=1, keepdims=True)
    size = np.where(size > 0, size, np.sum(_sketch(name, reference) ** 2, axis=1, keepdims=True))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((_sketch(name, arm) - truth) ** 2 / np.where(size > 0, size, 1.0))


def _sketch(name: str, trace: Trace) -> NDArray[np.float64]:
    if name != HEAD:
        return trace.sketches[name].astype(np.float64)
    sketch = trace.head.sketch.astype(np.float64)
    sketch[trace.head.nonfinite > 0] = np.nan
    return sketch


def _equal(name: str, a: Trace, b: Trace) -> bool:
    if name == HEAD:
        return a.head.digest.tobytes() == b.head.digest.tobytes()
    return a.digests[name] == b.digests[name]


def _ratio(mine: Sequence[NDArray[np.float64]], theirs: Sequence[NDArray[np.float64]]) -> Interval:
    if not any(len(e) for e in theirs):
        return _NOTHING
    return error_ratio(*(np.array([float(e.sum()) for e in arm]) for arm in (mine, theirs)))


def _peak(mine: Sequence[NDArray[np.float64]], theirs: Sequence[NDArray[np.float64]]) -> float:
    """The largest ratio of any bucket."""
    ours, own = (np.sum([e.sum(axis=0) for e in arm], axis=0) for arm in (mine, theirs))
    return float(np.sqrt(np.max(ours / np.where(own > 0, own, np.inf))))


def _rms(errors: Sequence[NDArray[np.float64]]) -> float | None:
    count = sum(len(e) for e in errors)
    return float(np.sqrt(sum(float(e.sum()) for e in errors) / count)) if count else None


def _top_k(candidate: _Arm, reference: _Arm, oracle: _Arm) -> Interval:
    """As the gate of that name, over the positions where all three are finite."""
    mine, theirs = [], []
    for c, r, o in zip(candidate, reference, oracle, strict=True):
        keep = (c.head.nonfinite == 0) & (r.head.nonfinite == 0) & (o.head.nonfinite == 0)
        (ours, own), _ = top_k_squared_errors([c.head, r.head], o.head)
        mine.append(float(ours[keep].sum()))
        theirs.append(float(own[keep].sum()))
    return error_ratio(np.array(mine), np.array(theirs))


def layer_rows(found: Sequence[Place]) -> list[tuple[str, dict[str, Place]]]:
    """The places for a reader: one row per layer and per module outside of
    them, each with its places by what they are within it ("" for the whole)."""
    rows: dict[str, dict[str, Place]] = {}
    for place in found:
        whole = place.name if place.layer is None else layer_place(place.layer, "")
        within = place.name.removeprefix(whole).removeprefix(".")
        rows.setdefault(whole, {})[within if within in IN_LAYER else ""] = place
    return list(rows.items())
