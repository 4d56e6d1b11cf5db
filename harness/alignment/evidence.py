"""The evidence: sums over each prompt, from which the gates judge.

Judging has two steps. ``evidence_of`` (``harness.alignment.align``) reads a
candidate and a baseline once and sums each prompt's rows into one
``Evidence``. ``judge`` (``harness.alignment.judge``) turns evidence into gates
and a verdict in about a millisecond, so that any choice of prompts can be
judged as if it were the whole suite: ``judge(evidence.take([3, 1, 4]))``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.baseline.controls import RatioLimit
from harness.baseline.floor import LARGE, NoiseFloor, PromptFloor, relative_push
from harness.baseline.routing import Departure
from harness.baseline.scales import ArmRows, Scales, scales_of
from harness.statistics.detail import detail_of
from harness.statistics.directions import Later, bounded
from harness.statistics.lazy_rows import LazyRows
from harness.statistics.margins import Margins
from harness.statistics.noise import top_k_squared_errors
from harness.statistics.rows import NORMAL, RowStatistics, bit_equal, same_masks

#: The two ways through a model, by which rows are counted apart.
PATHS = ("prefill", "decode")
#: The parts of a suite whose scale is judged apart.
PARTS = ("all", "first_half", "second_half", *PATHS)


@dataclass(frozen=True, eq=False)
class Held:
    """One prompt of a candidate beside the baseline's, n judged positions.

    Attributes:
        rows, reference, truth: of candidate, reference and oracle; no oracle,
            no truth.
        chosen: int64 (n,), what the candidate chose.
        found: margins and shifts.
        prefill: bool (n,), whether the candidate's row came from a prefill.
        expected: positions of the reference.
        divergence: where the candidate's own run left the context tokens.
        ended: that it ended there without another token.
        unchosen: bool (n,), where the candidate chose this token by itself, and
            it is not the largest of its own row.
        astray: bool (m,), the same of all tokens that it chose by itself, also of
            those beyond another token, where its text is no longer judged.
        unjudged_nonfinite: rows with NaN or infinities among those that the
            candidate computed and that are not judged: of its own run beyond
            another token, of a forced run before it.
        departure: where the candidate left the oracle's routes, if both tell theirs.
        judged: bool (n,), the rows whose errors and margins are judged; None for all. A
            mixture's row of other experts than the oracle's is not, see ``baseline.routing``.
    """

    id: str
    rows: RowStatistics
    reference: RowStatistics
    truth: RowStatistics | None
    chosen: NDArray[np.int64]
    found: Margins
    prefill: NDArray[np.bool_]
    expected: int
    divergence: int | None
    ended: bool
    unchosen: NDArray[np.bool_]
    astray: NDArray[np.bool_]
    unjudged_nonfinite: int = 0
    departure: Departure | None = None
    judged: NDArray[np.bool_] | None = None

    @property
    def left_out(self) -> NDArray[np.bool_]:
        """bool (n,), the rows whose errors and margins are not judged."""
        nothing = np.zeros(len(self.chosen), np.bool_)
        return nothing if self.judged is None else np.logical_not(self.judged)

    @property
    def nonfinite(self) -> NDArray[np.bool_]:
        """bool (n,), whether the candidate's row or the reference's holds NaN
        or infinities."""
        return np.asarray((self.rows.nonfinite > 0) | (self.reference.nonfinite > 0))

    @property
    def bit_equal(self) -> NDArray[np.bool_]:
        """bool (n,), whether the rows are bit-equal; False where the device did
        not give whole rows."""
        equal = bit_equal(self.rows, self.reference)
        return np.zeros(len(self.chosen), np.bool_) if equal is None else equal

    @property
    def told(self) -> bool:
        """Whether bits can be compared: both devices gave whole rows."""
        return self.rows.whole and self.reference.whole

    @property
    def usable(self) -> bool:
        """Whether errors against the oracle are known: one NaN excludes the whole
        prompt."""
        finite = not self.nonfinite.any()
        truth = self.truth
        return truth is not None and finite and not (truth.nonfinite > 0).any()


@dataclass(frozen=True, eq=False)
class Evidence:
    """One entry per prompt in every array. All sums are over the positions
    of a prompt; errors are in squared logits. A arms, the reference first.

    Attributes:
        ids: of the prompts.
        controls: how many controls measured the noise; without any, most gates
            are not run.
        limit: of error ratios.
        positions: compared, ``expected``: of the context; ``left_out``: of those compared,
            rows whose errors and margins are not judged, see ``Held.judged``.
        rows: int (p, 2), rows by path that carry errors.
        error, reference_error: float64 (p, 2), squared errors against the
            oracle over the vocabulary, by path.
        top_error, top_reference: float64 (p,), over the likeliest ids.
        along, reference_along: float64 (p, 5), products of the error with the
            oracle row, by PARTS; ``power`` of the oracle row with itself; ``arm_along``
            float64 (p, A), of the arms over all rows.
        tilt: float64 (p,), squared slopes of single rows; ``arm_tilt`` (p, A).
        mean_error: float64 (p, w), the error's sketches summed; ``arm_error``
            (p, A, w) those of the arms.
        large: float64 (p, 2), shifts beyond LARGE times each inflation times
            the local noise.
        control_large: float64 (p,), large shifts of the mean control.
        flips, control_flips: float64 (p,), flipped tokens, and the mean
            control's.
        predicted: float64 (p, 2), flips that margin and noise predict.
        nonfinite, unjudged_nonfinite, reference_nonfinite: int (p,), rows.
        first_nonfinite: int (p,), position of the first such row of the
            candidate, else -1.
        masks_told: bool (p,), whether candidate and reference say which ids they
            mask.
        masked_rows: int (p, 2), rows with masks of candidate and reference; 0
            where they do not say so.
        other_masks: int (p,), rows in which the two mask other ids.
        first_other_mask: int (p,), position of the first such row, else -1.
        masked_there: int (p, 2), how many ids the two mask in that row.
        chosen: int (p,), tokens that the candidate chose by itself.
        unchosen: int (p,), those below the largest logit of their own row;
            ``first_unchosen`` the first position, else -1.
        bit_equal, ended: bool (p,).
        whole: bool (p,), whether candidate and reference gave whole rows.
        same_tokens: bool (p,), whether the candidate chose the reference's
            token everywhere and its own run never left them.
        push, flipped: per prompt (n,), see ``floor.relative_push``, and
            whether the token flipped.
        standing: per prompt (m,), each row's error over the middle one of all
            arms'; ``at`` their positions.
        bounded: per prompt (m, w), the rows' sketched errors over the same; see
            ``directions.bounded``.
        arms: per prompt, the arms' own rows.
    """

    ids: tuple[str, ...]
    controls: int
    limit: RatioLimit
    positions: NDArray[np.int64]
    expected: NDArray[np.int64]
    left_out: NDArray[np.int64]
    rows: NDArray[np.int64]
    error: NDArray[np.float64]
    reference_error: NDArray[np.float64]
    top_error: NDArray[np.float64]
    top_reference: NDArray[np.float64]
    along: NDArray[np.float64]
    reference_along: NDArray[np.float64]
    power: NDArray[np.float64]
    arm_along: NDArray[np.float64]
    tilt: NDArray[np.float64]
    arm_tilt: NDArray[np.float64]
    mean_error: NDArray[np.float64]
    arm_error: NDArray[np.float64]
    large: NDArray[np.float64]
    control_large: NDArray[np.float64]
    flips: NDArray[np.float64]
    control_flips: NDArray[np.float64]
    predicted: NDArray[np.float64]
    nonfinite: NDArray[np.int64]
    unjudged_nonfinite: NDArray[np.int64]
    reference_nonfinite: NDArray[np.int64]
    first_nonfinite: NDArray[np.int64]
    masks_told: NDArray[np.bool_]
    masked_rows: NDArray[np.int64]
    other_masks: NDArray[np.int64]
    first_other_mask: NDArray[np.int64]
    masked_there: NDArray[np.int64]
    chosen: NDArray[np.int64]
    unchosen: NDArray[np.int64]
    first_unchosen: NDArray[np.int64]
    bit_equal: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    same_tokens: NDArray[np.bool_]
    push: tuple[NDArray[np.float64], ...]
    flipped: tuple[NDArray[np.bool_], ...]
    standing: tuple[NDArray[np.float64], ...]
    at: tuple[NDArray[np.int64], ...]
    bounded: tuple[NDArray[np.float64] | Later, ...]
    arms: tuple[ArmRows | None, ...]

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def judged(self) -> NDArray[np.int64]:
        """int (p,), rows whose margins are judged."""
        return np.asarray(self.positions - self.left_out)

    def scales(self) -> Scales:
        """The scales of these prompts alone, as if they were the baseline."""
        return scales_of([a for a in self.arms if a is not None], self.limit)

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> Evidence:
        """The evidence of these prompts alone, as if they were the suite.

        Draw without repetition: a prompt drawn twice is not two independent
        ones, which ``bias`` relies on.
        """
        order = [int(i) for i in indices]
        chosen: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                chosen[field.name] = value[order]
            elif isinstance(value, tuple):
                chosen[field.name] = tuple(value[i] for i in order)
            else:
                chosen[field.name] = value
        return Evidence(**chosen)


def gather(held: Sequence[Held], floor: NoiseFloor | None) -> Evidence:
    """Sum each prompt's rows."""
    floors = [None if floor is None else floor.prompts[h.id] for h in held]
    limit = RatioLimit() if floor is None else floor.limit
    parts = [
        {**_sums(h, f), **_counts(h, f, limit), **_conduct(h), **_masks(h)}
        for h, f in zip(held, floors, strict=True)
    ]
    columns: dict[str, Any] = {
        name: tuple(part[name] for part in parts)
        if name in ("push", "flipped", "standing", "at", "bounded")
        else np.array([part[name] for part in parts])
        for name in (parts[0] if parts else {})
    }
    return Evidence(
        ids=tuple(h.id for h in held),
        controls=0 if floor is None else floor.controls,
        limit=limit,
        arms=tuple(None if f is None else f.arms for f in floors),
        **columns,
    )


def summed(
    errors: NDArray[np.float64],
    truth: NDArray[np.float64],
    prefill: NDArray[np.bool_],
    half: NDArray[np.bool_],
) -> dict[str, Any]:
    """The sums of one prompt's errors over its rows.

    Args:
        errors: float64 (A + 1, n, w), sketched errors against the oracle: the
            reference, the controls, and the candidate at the end.
        truth: float64 (n, w), the oracle's sketches.
        prefill: bool (n,), which rows came from a prefill.
        half: bool (n,), which lie in the first half of the output.
    """
    n = len(prefill)
    squared = np.sum(errors * errors, axis=-1)
    along = np.sum(errors * truth, axis=-1)
    power = np.sum(truth * truth, axis=-1)
    paths, parts = (prefill, ~prefill), (np.ones(n, np.bool_), half, ~half, prefill, ~prefill)
    slopes = along / np.where(power > 0.0, power, 1.0)
    arms = np.sqrt(np.median(squared[:-1], axis=0))
    mine = np.sqrt(squared[-1])
    return {
        "rows": np.array([int(path.sum()) for path in paths]),
        "error": np.array([float(squared[-1][path].sum()) for path in paths]),
        "reference_error": np.array([float(squared[0][path].sum()) for path in paths]),
        "along": np.array([float(along[-1][part].sum()) for part in parts]),
        "reference_along": np.array([float(along[0][part].sum()) for part in parts]),
        "power": np.array([float(power[part].sum()) for part in parts]),
        "arm_along": along[:-1].sum(axis=1),
        "tilt": float(np.sum(slopes[-1] ** 2)),
        "arm_tilt": np.sum(slopes[:-1] ** 2, axis=1),
        "mean_error": errors[-1].sum(axis=0),
        "arm_error": errors[:-1].sum(axis=1),
        "bounded": bounded(errors[-1], arms),
        "standing": np.where(arms > 0.0, mine / np.where(arms > 0.0, arms, 1.0), 0.0),
    }


def _sums(held: Held, floor: PromptFloor | None) -> dict[str, Any]:
    """Sums of errors; what is as large as the rows, of those that stand on the disk, is
    computed when it is asked for."""
    found = _errors(held, floor)
    if isinstance(held.rows, LazyRows):
        rows = len(found["bounded"])
        found["bounded"] = Later(rows, lambda: np.asarray(_errors(held, floor)["bounded"]))
    return found


def _errors(held: Held, floor: PromptFloor | None) -> dict[str, Any]:
    """Sums of errors; all 0 where they are not known."""
    arms = 1 if floor is None else floor.arms.arms
    nothing = np.zeros((arms + 1, 0, (detail_of(held.reference) or NORMAL).buckets))
    no_rows, at = np.zeros(0, np.bool_), np.zeros(0, np.int64)
    none = summed(nothing, nothing[0], no_rows, no_rows)
    none |= {"top_error": 0.0, "top_reference": 0.0, "at": at}
    kept = ~held.left_out
    at = np.flatnonzero(kept)
    if held.truth is None or not held.usable or not len(at):
        return none
    rows, reference, truth = held.rows[kept], held.reference[kept], held.truth[kept]
    (top, top_reference), _ = top_k_squared_errors([rows, reference], truth)
    none |= {"top_error": float(top.sum()), "top_reference": float(top_reference.sum())}
    if rows.sketch is None or reference.sketch is None or truth.sketch is None:
        return none
    oracle = truth.sketch.astype(np.float64)
    known = (
        (reference.sketch.astype(np.float64) - oracle)[None]
        if floor is None
        else floor.arms.error[:, np.isin(floor.arms.positions, at)]
    )
    errors = np.concatenate([known, (rows.sketch - oracle)[None]])
    half = at < held.expected / 2
    return none | summed(errors, oracle, held.prefill[kept], half) | {"at": at}


def _counts(held: Held, floor: PromptFloor | None, limit: RatioLimit) -> dict[str, Any]:
    """Counts of positions; without a floor nothing is large or predicted."""
    n = len(held.chosen)
    push, large, seen, predicted = np.zeros(n), np.zeros(2), np.zeros((2, n)), np.zeros((n, 2))
    fine = ~(held.nonfinite | held.left_out)
    if floor is not None:
        noise = floor.noise[:n]
        push = np.where(fine, relative_push(held.found, floor.unit[:n], noise), 0.0)
        relative = np.abs(held.found.shift) / noise
        large = np.array([float(np.sum((relative > LARGE * f) & fine)) for f in limit.inflations])
        seen, predicted = np.stack([floor.large[:n], floor.flips[:n]]), floor.predicted[:n]
    return {
        "large": large,
        "control_large": float(seen[0][fine].sum()),
        "flips": float(np.sum(held.found.flip & fine)),
        "control_flips": float(seen[1][fine].sum()),
        "predicted": predicted[fine].sum(axis=0),
        "push": push,
        "flipped": np.asarray(held.found.flip & fine),
    }


def _conduct(held: Held) -> dict[str, Any]:
    """How the run went."""
    bad, below = held.rows.nonfinite > 0, held.astray
    return {
        "positions": len(held.chosen),
        "left_out": int(held.left_out.sum()),
        "expected": held.expected,
        "nonfinite": int(bad.sum()),
        "reference_nonfinite": int((held.reference.nonfinite > 0).sum()),
        "unjudged_nonfinite": held.unjudged_nonfinite,
        "first_nonfinite": int(np.argmax(bad)) if bad.any() else -1,
        "chosen": len(below),
        "unchosen": int(below.sum()),
        "first_unchosen": int(np.argmax(below)) if below.any() else -1,
        "bit_equal": bool(held.bit_equal.all()),
        "whole": held.told,
        "ended": held.ended,
        "same_tokens": held.divergence is None and not held.found.flip.any(),
    }


def no_masks(prompts: int) -> dict[str, NDArray[Any]]:
    """The fields about masks where both sides say that they have none."""
    return {
        "masks_told": np.ones(prompts, np.bool_),
        "masked_rows": np.zeros((prompts, 2), np.int64),
        "other_masks": np.zeros(prompts, np.int64),
        "first_other_mask": np.full(prompts, -1),
        "masked_there": np.zeros((prompts, 2), np.int64),
    }


def _masks(held: Held) -> dict[str, Any]:
    """Masks of both sides; a row with NaN has none that could be compared."""
    fine = ~held.nonfinite
    sides = [rows.masked for rows in (held.rows, held.reference)]
    rows = [int(((masked > 0) & fine).sum()) for masked in sides]
    same = same_masks(held.rows, held.reference)
    other = np.zeros(len(fine), np.bool_) if same is None else ~same & fine
    first = int(np.argmax(other)) if other.any() else -1
    return {
        "masks_told": same is not None,
        "masked_rows": np.array(rows),
        "other_masks": int(other.sum()),
        "first_other_mask": first,
        "masked_there": np.array([0 if first < 0 else int(masked[first]) for masked in sides]),
    }
