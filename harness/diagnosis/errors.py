"""What is to be explained: the errors of a candidate and of the arms, prompt by prompt."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from harness.alignment.evidence import Held
from harness.alignment.prompts import hold
from harness.baseline.baseline import Baseline
from harness.baseline.detail import alike
from harness.baseline.floor import NoiseFloor, arm_rows, noise_floor, sound_controls
from harness.devices.oracle import ChosenIds
from harness.errors import UsageError
from harness.recording.format import PromptRecord, Recording
from harness.statistics.rows import NO_TOKEN
from harness.statistics.score import Metric, contrasts, metric_of

#: A candidate that shares less of the arms' systematic rounding is computed in a higher precision
#: somewhere, and may share none of it in some directions.
HALF = 0.5
#: Fewer prompts show no deviation between them.
FEWEST_PROMPTS = 4
#: At most so many prompts are looked at: each takes seconds and some megabytes, and t grows with
#: the root of their number.
MOST_PROMPTS = 128
#: So many differences of arms tell how the scores of rounding scatter; each is a pass.
CONTRASTS = 2


@dataclass(frozen=True, eq=False)
class PromptErrors:
    """The rows of one prompt, n of them, against the oracle's: as sketches of w numbers, or
    as the log-probabilities of 20 ids.

    Attributes:
        token_ids: what one pass reads for these rows.
        truth: float64 (n, w), the oracle's own.
        arms: float64 (A, n, w), errors of reference and controls.
        candidate: float64 (n, w), the candidate's error.
    """

    id: str
    token_ids: tuple[int, ...]
    truth: NDArray[np.float64]
    arms: NDArray[np.float64]
    candidate: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.candidate)

    @property
    def rounding(self) -> NDArray[np.float64]:
        """float64 (n, w), the mean error of the arms: what rounding does in all of them."""
        return np.asarray(self.arms.mean(axis=0))

    @property
    def contrasts(self) -> NDArray[np.float64]:
        """float64 (C, n, w), differences of arms: rounding alone."""
        return contrasts(self.arms, CONTRASTS)


@dataclass(frozen=True, eq=False)
class Errors:
    """All prompts, and the metric of the arms' errors.

    Attributes:
        chosen: the ids of each row whose log-probabilities these are; None for sketches.
        listed: how many of them a row of the candidate lists at most.
    """

    prompts: tuple[PromptErrors, ...]
    metric: Metric
    chosen: ChosenIds | None = None
    listed: int = 0

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def buckets(self) -> int:
        """How many numbers a row is seen as: buckets of the sketches, w."""
        return int(self.prompts[0].truth.shape[1])

    @property
    def looked_at(self) -> float | None:
        """How many log-probabilities of a row are looked at, in the mean; None of sketches."""
        if self.chosen is None:
            return None
        ids = [self.chosen[prompt.token_ids] for prompt in self.prompts]
        return float(np.mean(np.concatenate([(each != NO_TOKEN).sum(axis=1) for each in ids])))

    def of_prompts(self, chosen: Sequence[int]) -> Errors:
        """The errors of some prompts, in the metric of all."""
        weights = tuple(self.metric.weights[i] for i in chosen)
        prompts = tuple(self.prompts[i] for i in chosen)
        return replace(self, prompts=prompts, metric=replace(self.metric, weights=weights))

    @property
    def residual(self) -> list[NDArray[np.float64]]:
        """Per prompt float64 (n, w), the candidate's error less the arms' mean."""
        return [prompt.candidate - prompt.rounding for prompt in self.prompts]

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return sum(map(len, self.prompts))

    def excess(self) -> float:
        """The squared error that the candidate has beyond the arms, in the metric; not
        below 0."""
        mine = sum(self._squared(i, p.candidate) for i, p in enumerate(self.prompts))
        return max(mine - self.arms(), 0.0)

    def arms(self) -> float:
        """The squared error of the arms, their mean, in the metric."""
        return sum(
            float(np.mean([self._squared(i, arm) for arm in p.arms]))
            for i, p in enumerate(self.prompts)
        )

    @cached_property
    def shares(self) -> tuple[float, ...]:
        """How much of the arms' own systematic rounding the candidate may share: from what
        its product with their mean says, which is none of it in a higher precision, to all of
        it."""
        mine = common = 0.0
        for index, prompt in enumerate(self.prompts):
            count, whole = len(prompt.arms), prompt.arms.sum(axis=0)
            mine += float(np.sum(prompt.candidate * self.metric.weighed(index, whole))) / count
            # Of two different arms each: what they have in common alone.
            both = self._squared(index, whole) - sum(self._squared(index, a) for a in prompt.arms)
            common += both / (count * (count - 1))
        least = min(max(mine / common, 0.0), 1.0) if common > 0.0 else 1.0
        # A mean: where it is small there are directions that share nothing.
        least = 0.0 if least < HALF else least
        return tuple(dict.fromkeys((least, (1.0 + least) / 2.0, 1.0)))

    def _squared(self, prompt: int, error: NDArray[np.float64]) -> float:
        return float(np.sum(error * self.metric.weighed(prompt, error)))


@dataclass(frozen=True, eq=False)
class Judged:
    """One prompt whose rows are finite in candidate, oracle and all arms.

    Attributes:
        reference: the baseline's.
        held: the candidate's beside it, n rows.
        token_ids: what one pass reads for these rows.
    """

    reference: PromptRecord
    held: Held
    token_ids: tuple[int, ...]


def judged_prompts(candidate: Recording, baseline: Baseline, floor: NoiseFloor) -> Iterator[Judged]:
    """The prompts that a diagnosis can look at, in the baseline's order."""
    mine = {p.id: p for p in candidate.prompts}
    for reference in baseline.reference.prompts:
        if reference.id not in mine:
            continue
        held = hold(mine[reference.id], baseline, candidate.dtype)
        n = len(held.chosen)
        there = floor.prompts[held.id].arms.positions < n
        if n and held.usable and int(there.sum()) == n:
            given = (*reference.prompt_token_ids, *reference.run.token_ids[: n - 1])
            yield Judged(reference, held, given)


def spread(candidate: Recording, baseline: Baseline, most: int) -> tuple[Recording, Baseline]:
    """Both with at most so many of their common prompts, spread over the suite, whose prompts of
    a kind stand together."""
    mine = {prompt.id for prompt in candidate.prompts}
    both = [prompt.id for prompt in baseline.reference.prompts if prompt.id in mine]
    if len(both) <= most:
        return candidate, baseline
    chosen = {both[i * len(both) // most] for i in range(most)}

    def some(recording: Recording) -> Recording:
        prompts = tuple(prompt for prompt in recording.prompts if prompt.id in chosen)
        return recording.model_copy(update={"prompts": prompts})

    return some(candidate), replace(
        baseline,
        reference=some(baseline.reference),
        oracle=None if baseline.oracle is None else some(baseline.oracle),
        controls={name: some(control) for name, control in baseline.controls.items()},
    )


def floor_of(baseline: Baseline) -> NoiseFloor:
    """The noise floor.

    Raises:
        UsageError: where the baseline has none.
    """
    floor = noise_floor(baseline, every_row=True)
    if floor is None:
        raise UsageError("a diagnosis needs a baseline with an oracle and two controls")
    return floor


def errors_of(candidate: Recording, baseline: Baseline, floor: NoiseFloor | None = None) -> Errors:
    """The errors of every prompt whose rows are finite and whole in all arms.

    Args:
        floor: the baseline's, where it is known.

    Raises:
        UsageError: where there are too few of them, or no noise floor.
    """
    floor = floor_of(baseline) if floor is None else floor
    candidate, baseline = alike(candidate, baseline)
    arms = (baseline.reference, *sound_controls(baseline).values())
    found = []
    for one in judged_prompts(candidate, baseline, floor):
        held = one.held
        if held.rows.sketch is None or held.truth is None or held.truth.sketch is None:
            continue
        truth = held.truth.sketch.astype(np.float64)
        found.append(
            PromptErrors(
                id=held.id,
                token_ids=one.token_ids,
                truth=truth,
                arms=np.stack([_error(arm, one.reference, truth) for arm in arms]),
                candidate=held.rows.sketch.astype(np.float64) - truth,
            )
        )
    enough(len(found))
    try:
        return Errors(tuple(found), metric_of([p.arms for p in found]))
    except ValueError as error:
        raise no_rounding(error) from error


def _error(arm: Recording, prompt: PromptRecord, truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """An arm's error of the first rows of a prompt, float64 (n, w): as many as there are of
    the oracle's."""
    sketch = arm_rows(arm, prompt)[: len(truth)].sketch
    assert sketch is not None  # an arm is of whole rows
    return np.asarray(sketch.astype(np.float64) - truth)


def enough(prompts: int) -> None:
    """Raise a UsageError where there are too few prompts."""
    if prompts < FEWEST_PROMPTS:
        raise UsageError(
            f"a diagnosis needs whole, finite rows (or log-probabilities) of {FEWEST_PROMPTS} "
            f"prompts, and {prompts} have them; record a suite of more prompts on a device that "
            "gives them"
        )


def no_rounding(error: ValueError) -> UsageError:
    """The error where the arms have no rounding to hold a candidate against."""
    return UsageError(f"a diagnosis needs the arms' rounding, but {error}")
