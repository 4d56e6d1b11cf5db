"""Whether a control shows the reference's noise, or a fault of its own.

A control is believed only after it was looked at: its error must be like the
reference's, it must not hold the reference's own rows, and it must not share most
of the reference's error. A control whose error is larger may be a rougher kernel
path, which widens the limit of the error ratio, or a bug, which ends the making
of a baseline: a bug is systematic, and rounding is not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from harness.recording.format import Recording
from harness.statistics.intervals import FAIL_CONFIDENCE, Estimate, geometric_ratio
from harness.statistics.noise import correlation, products
from harness.statistics.rows import SKETCH_WIDTH, bit_equal
from harness.statistics.systematic import systematic_share

#: The largest error of a correct port, relative to the reference's own.
ERROR_RATIO_LIMIT = 1.5
#: The error of a control over the reference's, or the reverse, beyond which the two
#: are looked at closely: what a candidate may have, too.
CONTROL_LIMIT = 1.5
#: And beyond which one of the two is not this computation, whatever it looks like.
FAULT_LIMIT = 3.0
#: The largest systematic part of the difference of two correct paths, as a share
#: of the larger one's mean squared error.
SYSTEMATIC_LIMIT = 0.05
#: A control of which more rows are the reference's own is a copy.
MOST_COPIES = 0.5
#: The correlation of the errors of two independent computations at most: as much as
#: two have whose oracle is as rough as they are.
INDEPENDENT = 0.5
#: Controls that share more of the reference's error show nothing.
MOST_SHARED = 0.95


@dataclass(frozen=True)
class Control:
    """What a control shows beside the reference.

    Attributes:
        ratio: its error over the reference's, whole vocabulary.
        shared: the correlation of the two errors, -1 to 1.
        copies: share of the rows that are bit-equal to the reference's.
        systematic: the part of their difference that does not average out, as a
            share of the larger one's mean squared error.
    """

    ratio: Estimate
    shared: float
    copies: float
    systematic: Estimate


@dataclass(frozen=True)
class RatioLimit:
    """The limit of error ratios, and what it follows from.

    Attributes:
        value: the limit.
        arm: the control that widened it; None where it is ERROR_RATIO_LIMIT.
        largest: that control's ratio.
        shown: the ratio of the largest control that is surely above 1.
        shared: the correlation of the controls' errors with the reference's.
        hidden: by how much controls that share the reference's error understate
            the noise between them; 1 for independent ones.
        size: by how much they and the oracle understate errors against it; 1 unless
            the oracle is as rough as they are.
    """

    value: float = ERROR_RATIO_LIMIT
    arm: str | None = None
    largest: float | None = None
    shown: float = 1.0
    shared: float = 0.0
    hidden: float = 1.0
    size: float = 1.0

    @property
    def inflations(self) -> tuple[float, float]:
        """What counts are held against: the controls' noise as it is, which warns,
        and inflated to the limit of the error ratio, which fails."""
        return 1.0, self.value / self.size

    @property
    def widened(self) -> float:
        """The limit over ERROR_RATIO_LIMIT."""
        return self.value / ERROR_RATIO_LIMIT


def control_of(control: Recording, reference: Recording, oracle: Recording) -> Control:
    """What a control shows, over all prompts that are finite in all three.

    Args:
        control, oracle: on the reference's tokens; see ``baseline.check_arm``.
    """
    found, equal, rows = _Sums(), 0, 0
    for prompt in reference.prompts:
        context = prompt.run.token_ids
        beside, truth = control.prompt(prompt.id), oracle.prompt(prompt.id)
        if beside is None or truth is None:
            continue
        arms = [beside.on(context).rows, prompt.run.rows, truth.on(context).rows]
        if any((arm.nonfinite > 0).any() or arm.sketch is None for arm in arms):
            continue
        same = bit_equal(arms[0], arms[1])
        equal += 0 if same is None else int(same.sum())
        rows += len(arms[0])
        mine, theirs, base = (np.asarray(arm.sketch, np.float64) for arm in arms)
        found.add(mine - base, theirs - base)
    return found.control(equal / rows if rows else 0.0)


class _Sums:
    """What is kept of a control's errors and the reference's, prompt by prompt."""

    def __init__(self) -> None:
        self._mine: list[float] = []
        self._theirs: list[float] = []
        self._counts: list[float] = []
        self._parted: list[NDArray[np.float64]] = []
        self._products = np.zeros(3)

    def add(self, mine: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
        """One prompt: both errors, float64 (n, w)."""
        self._mine.append(float((mine**2).sum()))
        self._theirs.append(float((theirs**2).sum()))
        self._counts.append(float(len(mine)))
        self._parted.append((mine - theirs).sum(axis=0))
        self._products += products(mine, theirs)

    def control(self, copies: float) -> Control:
        mine, theirs, counts = map(np.array, (self._mine, self._theirs, self._counts))
        parted = np.stack(self._parted) if self._parted else np.zeros((0, SKETCH_WIDTH))
        return Control(
            ratio=geometric_ratio(mine, theirs, counts),
            shared=correlation(self._products),
            copies=copies,
            systematic=systematic_share(parted, counts, np.maximum(mine, theirs)),
        )


def control_ratio(control: Recording, reference: Recording, oracle: Recording) -> Estimate:
    """A control's error against the oracle over the reference's."""
    return control_of(control, reference, oracle).ratio


def contradiction(control: Recording, reference: Recording, oracle: Recording) -> str | None:
    """What shows that a control and the reference are not the same computation;
    None where nothing does.

    In float32 nothing is refused: its only noise is the order of sums, which may
    differ by more.
    """
    if reference.dtype == "float32":
        return None
    return _contradicts(control_of(control, reference, oracle))


def disagreement(control: Recording, reference: Recording, oracle: Recording) -> str | None:
    """Why a control does not show the reference's noise; None where it does.

    A broken control, or a broken reference, would look like a large noise, and
    a broken candidate would hide in it. One that holds the reference's own rows
    would look like a small one, and a correct candidate would fail by it.
    """
    found = control_of(control, reference, oracle)
    if found.copies > MOST_COPIES:
        return (
            f"{100 * found.copies:.0f} % of its rows are bit-equal to the reference's, so it is "
            "mostly a copy of it and shows no noise of its own"
        )
    if found.shared > MOST_SHARED:
        return (
            f"its error correlates with the reference's at {found.shared:.3f}, so it is the same "
            "computation and shows no noise of its own"
        )
    return None if reference.dtype == "float32" else _contradicts(found)


def _contradicts(found: Control) -> str | None:
    far = found.ratio.interval(FAIL_CONFIDENCE)
    if far.value is None or far.low is None or far.high is None:
        return None
    faulty = not 1.0 / FAULT_LIMIT <= far.value <= FAULT_LIMIT
    if not faulty and far.high >= 1.0 / CONTROL_LIMIT and far.low <= CONTROL_LIMIT:
        return None
    size = (
        f"its error is {far.value:.3g} times the reference's (99.9 % interval {far.low:.3g} to "
        f"{far.high:.3g})"
    )
    nearer = "the reference" if far.value > 1.0 else "it"
    if faulty:
        return (
            f"{size}, so this is not noise: one of the two is faulty, and {nearer} is nearer to "
            "the oracle"
        )
    parted = found.systematic.interval(FAIL_CONFIDENCE)
    if parted.low is not None and parted.low > SYSTEMATIC_LIMIT:
        return (
            f"{size}, and {100 * (parted.value or 0.0):.0f} % of it points the same way in every "
            f"prompt, so this is not noise: one of the two is faulty, and {nearer} is nearer to "
            "the oracle"
        )
    return None


def ratio_limit(
    controls: Mapping[str, Recording], reference: Recording, oracle: Recording
) -> RatioLimit:
    """The limit of error ratios that accepted controls allow.

    The larger of ERROR_RATIO_LIMIT and the end of the 95 % interval of the largest
    control that is surely above 1, at most FAULT_LIMIT. Beside it stands what controls
    hide that share the reference's error: two
    computations whose errors correlate at r differ by ``sqrt(2 (1 - r))`` times one
    error, so noise seen between them is ``sqrt((1 - INDEPENDENT) / (1 - r))`` times as
    large between independent ones.
    """
    found = {name: control_of(arm, reference, oracle) for name, arm in controls.items()}
    shared = float(np.mean([c.shared for c in found.values()])) if found else 0.0
    hidden = math.sqrt((1.0 - INDEPENDENT) / (1.0 - min(max(shared, INDEPENDENT), MOST_SHARED)))
    name, shown = None, 1.0
    for arm, control in found.items():
        near = control.ratio.interval()
        # An interval that is wide because prompts are few shows nothing.
        if near.low is not None and near.low > 1.0 and (near.value or 0.0) > shown:
            name, shown = arm, near.value or 0.0
    high = 0.0 if name is None else found[name].ratio.interval().high or 0.0
    value = min(max(ERROR_RATIO_LIMIT, high), FAULT_LIMIT)
    widest = name if value > ERROR_RATIO_LIMIT else None
    # Errors against a finer oracle do not depend on how alike the controls are.
    size = hidden if reference.dtype == "float32" else 1.0
    return RatioLimit(
        value=size * value,
        arm=widest,
        largest=None if widest is None else shown,
        shown=shown,
        shared=shared,
        hidden=hidden,
        size=size,
    )
