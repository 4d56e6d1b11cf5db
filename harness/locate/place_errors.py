"""Errors at one place of the model, and the figures that judge them.

All relative to the size of the oracle's output at the same position, so that
the few positions with huge activations, which every Llama has, do not dominate
the result. Pure, float64.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.devices.trace import HEAD, Trace, role_of
from harness.statistics.intervals import CONFIDENCE, Interval, error_ratio, student_t
from harness.statistics.noise import FRACTION_BITS, top_k_squared_errors
from harness.statistics.rows import bit_equal

Arm = Sequence[Trace]

#: The share of the usual error of the same place in other layers that counts as noise.
PEERS = 0.5

_NOTHING = Interval(value=None, low=None, high=None)


@dataclass(frozen=True, eq=False)
class Errors:
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


def errors_at(
    name: str,
    candidate: Arm,
    reference: Arm,
    oracle: Arm,
    controls: Mapping[str, Arm],
    floor: float,
) -> tuple[Errors, bool]:
    """Errors at the positions where reference and controls are finite, and
    whether the candidate is not finite at one of those."""
    mine, theirs = [], []
    others: dict[str, list[NDArray[np.float64]]] = {c: [] for c in controls}
    broken = False
    for index, truth in enumerate(oracle):
        own = relative(name, reference[index], truth, reference[index])
        rest = {
            c: relative(name, arm[index], truth, reference[index]) for c, arm in controls.items()
        }
        finite = np.isfinite(own).all(axis=1)
        for other in rest.values():
            finite &= np.isfinite(other).all(axis=1)
        ours = relative(name, candidate[index], truth, reference[index])
        wrong = finite & ~np.isfinite(ours).all(axis=1)
        broken = broken or bool(wrong.any())
        finite &= ~wrong
        mine.append(ours[finite])
        theirs.append(_at_least(own[finite], floor**2))
        for c, other in rest.items():
            others[c].append(other[finite])
    return Errors(mine, theirs, others), broken


def _at_least(errors: NDArray[np.float64], floor: float) -> NDArray[np.float64]:
    """The same errors, with what a position lacks to ``floor`` spread over its buckets."""
    lacking = np.maximum(floor - errors.sum(axis=1, keepdims=True), 0.0)
    return np.asarray(errors + lacking / errors.shape[1])


def floors_of(names: Sequence[str], reference: Arm, oracle: Arm, dtype: str) -> dict[str, float]:
    """The error that counts as noise at each place even where the reference has less.

    One rounding of the dtype; and PEERS times the reference's usual error at
    the same place of the other layers (the median). In the first layers hardly
    any noise has come together yet: an engine that rounds elsewhere there errs
    more than the reference, and by the next layers nothing is left of it.
    """
    least = rounding_error(dtype)
    errors: dict[str, list[float]] = {}
    for name in names:
        found = [relative(name, r, o, r) for r, o in zip(reference, oracle, strict=True)]
        size = rms_of([e[np.isfinite(e).all(axis=1)] for e in found])
        if size is not None:
            errors.setdefault(role_of(name), []).append(size)
    usual = {role: float(np.median(sizes)) for role, sizes in errors.items() if len(sizes) > 1}
    return {name: max(least, PEERS * usual.get(role_of(name), 0.0)) for name in names}


def rounding_error(dtype: str) -> float:
    """Root-mean-square of one rounding to ``dtype``, relative to the value, at
    most: ``2 ** -(fraction bits + 1) / sqrt(3)``."""
    return float(2.0 ** -(FRACTION_BITS[dtype] + 1) / np.sqrt(3.0))


def relative(name: str, arm: Trace, oracle: Trace, reference: Trace) -> NDArray[np.float64]:
    """Squared error per position and bucket, over the oracle's squared size.

    Relative, so that the few positions with huge activations, which every
    Llama has, do not dominate. float64 (positions, 64); NaN where one of
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
    assert trace.head.sketch is not None  # a trace is of whole rows
    sketch = trace.head.sketch.astype(np.float64)
    sketch[trace.head.nonfinite > 0] = np.nan
    return sketch


def equal_at(name: str, a: Trace, b: Trace) -> bool:
    if name == HEAD:
        equal = bit_equal(a.head, b.head)
        return equal is not None and bool(equal.all())
    return a.digests[name] == b.digests[name]


def ratio_of(
    mine: Sequence[NDArray[np.float64]], theirs: Sequence[NDArray[np.float64]]
) -> Interval:
    if not any(len(e) for e in theirs):
        return _NOTHING
    return error_ratio(*(np.array([float(e.sum()) for e in arm]) for arm in (mine, theirs)))


def peak_of(mine: Sequence[NDArray[np.float64]], theirs: Sequence[NDArray[np.float64]]) -> float:
    """The largest ratio of any bucket."""
    ours, own = (np.sum([e.sum(axis=0) for e in arm], axis=0) for arm in (mine, theirs))
    return float(np.sqrt(np.max(ours / np.where(own > 0, own, np.inf))))


def rms_of(errors: Sequence[NDArray[np.float64]]) -> float | None:
    count = sum(len(e) for e in errors)
    return float(np.sqrt(sum(float(e.sum()) for e in errors) / count)) if count else None


def top_k_ratio(candidate: Arm, reference: Arm, oracle: Arm) -> Interval:
    """Like the gate of that name, over the positions where all three are finite."""
    mine, theirs = [], []
    for c, r, o in zip(candidate, reference, oracle, strict=True):
        keep = (c.head.nonfinite == 0) & (r.head.nonfinite == 0) & (o.head.nonfinite == 0)
        (ours, own), _ = top_k_squared_errors([c.head, r.head], o.head)
        mine.append(float(ours[keep].sum()))
        theirs.append(float(own[keep].sum()))
    return error_ratio(np.array(mine), np.array(theirs))


def slope_of(name: str, candidate: Arm, reference: Arm, oracle: Arm) -> Interval:
    """By how much more than the reference's the candidate's output is scaled.

    The mean over positions of ``<candidate - reference, oracle> / |oracle|^2``:
    0.01 for an output that is 1 % too large. Mean over prompts with Student's t.
    """
    means = []
    for c, r, o in zip(candidate, reference, oracle, strict=True):
        truth = _sketch(name, o)
        size = np.sum(truth**2, axis=1)
        with np.errstate(invalid="ignore", divide="ignore"):
            slopes = np.sum((_sketch(name, c) - _sketch(name, r)) * truth, axis=1) / size
        slopes = slopes[np.isfinite(slopes)]
        if len(slopes):
            means.append(float(slopes.mean()))
    if not means:
        return _NOTHING
    value, n = float(np.mean(means)), len(means)
    if n < 2:
        return Interval(value=value, low=None, high=None)
    reach = student_t(CONFIDENCE, n - 1) * float(np.std(means, ddof=1)) / float(np.sqrt(n))
    return Interval(value=value, low=value - reach, high=value + reach)
