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

from harness.baseline.floor import INFLATIONS, LARGE, PromptFloor, relative_push
from harness.statistics.margins import Margins
from harness.statistics.noise import squared_error, top_k_squared_errors
from harness.statistics.rows import SKETCH_WIDTH, RowStatistics, bit_equal, same_masks

#: The two ways through a model, by which rows are counted apart.
PATHS = ("prefill", "decode")


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
        unjudged_nonfinite: rows with NaN or infinities among those that the
            candidate computed and that are not judged: of its own run beyond
            another token, of a forced run before it.
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
    unjudged_nonfinite: int = 0

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
    of a prompt; errors are in squared logits.

    Attributes:
        ids: the prompts.
        controls: how many controls the noise floor was seen in; 0 without one.
        positions, expected: int (p,), judged positions, and the reference's.
        rows: int (p, 2), positions by path that have errors.
        error, reference_error: float64 (p, 2), squared error against the
            oracle over the vocabulary, by path.
        top_error, top_reference: float64 (p,), the same over the oracle's top
            ids, all paths.
        along, power: float64 (p,), inner product of candidate minus reference
            with the centred oracle row, and that row's squared norm.
        drift: float64 (p, 64), sketch of candidate minus reference.
        large: float64 (p, 2), shifts beyond LARGE times each of INFLATIONS
            times the local noise.
        control_large: float64 (p,), large shifts of the mean control.
        flips, control_flips: float64 (p,), flipped tokens, and the mean
            control's.
        predicted: float64 (p, 2), flips that margin and noise predict.
        kappa: float64 (p,), the largest relative shift of any control.
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
        bit_equal, ended: bool (p,).
        whole: bool (p,), whether candidate and reference gave whole rows.
        same_tokens: bool (p,), whether the candidate chose the reference's
            token everywhere and its own run never left them.
        push, flipped: per prompt (n,), see ``floor.relative_push``, and
            whether the token flipped.
    """

    ids: tuple[str, ...]
    controls: int
    positions: NDArray[np.int64]
    expected: NDArray[np.int64]
    rows: NDArray[np.int64]
    error: NDArray[np.float64]
    reference_error: NDArray[np.float64]
    top_error: NDArray[np.float64]
    top_reference: NDArray[np.float64]
    along: NDArray[np.float64]
    power: NDArray[np.float64]
    drift: NDArray[np.float64]
    large: NDArray[np.float64]
    control_large: NDArray[np.float64]
    flips: NDArray[np.float64]
    control_flips: NDArray[np.float64]
    predicted: NDArray[np.float64]
    kappa: NDArray[np.float64]
    nonfinite: NDArray[np.int64]
    unjudged_nonfinite: NDArray[np.int64]
    reference_nonfinite: NDArray[np.int64]
    first_nonfinite: NDArray[np.int64]
    masks_told: NDArray[np.bool_]
    masked_rows: NDArray[np.int64]
    other_masks: NDArray[np.int64]
    first_other_mask: NDArray[np.int64]
    masked_there: NDArray[np.int64]
    bit_equal: NDArray[np.bool_]
    whole: NDArray[np.bool_]
    ended: NDArray[np.bool_]
    same_tokens: NDArray[np.bool_]
    push: tuple[NDArray[np.float64], ...]
    flipped: tuple[NDArray[np.bool_], ...]

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, indices: Sequence[int] | NDArray[np.integer]) -> Evidence:
        """The evidence of these prompts alone, as if they were the suite.

        ``kappa`` is then theirs alone. Draw without repetition: a prompt
        drawn twice is not two independent ones, which ``bias`` relies on.
        """
        order = [int(i) for i in indices]
        chosen: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, np.ndarray):
                chosen[field.name] = value[order]
            elif isinstance(value, tuple):
                chosen[field.name] = tuple(value[i] for i in order)
        return Evidence(**{**chosen, "controls": self.controls})


def gather(held: Sequence[Held], floors: Sequence[PromptFloor | None], controls: int) -> Evidence:
    """Sum each prompt's rows. ``floors`` may hold None for all prompts."""
    parts = [
        {**_errors(h), **_counts(h, f), **_masks(h)} for h, f in zip(held, floors, strict=True)
    ]
    arrays = {
        name: np.array([part[name] for part in parts])
        for name in (parts[0] if parts else {})
        if name not in ("push", "flipped")
    }
    return Evidence(
        ids=tuple(h.id for h in held),
        controls=controls,
        push=tuple(part["push"] for part in parts),
        flipped=tuple(part["flipped"] for part in parts),
        **arrays,
    )


def _errors(held: Held) -> dict[str, Any]:
    """Sums of errors; all 0 where they are not known."""
    none: dict[str, Any] = {
        "rows": np.zeros(2, np.int64),
        "error": np.zeros(2),
        "reference_error": np.zeros(2),
        "along": 0.0,
        "power": 0.0,
        "drift": np.zeros(SKETCH_WIDTH),
        "top_error": 0.0,
        "top_reference": 0.0,
    }
    truth = held.truth
    if truth is None or not held.usable or not len(held.chosen):
        return none
    (top, top_reference), _ = top_k_squared_errors([held.rows, held.reference], truth)
    none |= {"top_error": float(top.sum()), "top_reference": float(top_reference.sum())}
    sketches = held.rows.sketch, held.reference.sketch, truth.sketch
    if sketches[0] is None or sketches[1] is None or sketches[2] is None:
        return none
    paths = (held.prefill, ~held.prefill)
    mine, theirs = squared_error(held.rows, truth), squared_error(held.reference, truth)
    oracle = sketches[2].astype(np.float64)
    drift = sketches[0].astype(np.float64) - sketches[1]
    return none | {
        "rows": np.array([int(path.sum()) for path in paths]),
        "error": np.array([float(mine[path].sum()) for path in paths]),
        "reference_error": np.array([float(theirs[path].sum()) for path in paths]),
        "along": float(np.sum(drift * oracle)),
        "power": float(np.sum(oracle * oracle)),
        "drift": drift.sum(axis=0),
    }


def _counts(held: Held, floor: PromptFloor | None) -> dict[str, Any]:
    """Counts of positions; without a floor nothing is large or predicted."""
    n = len(held.chosen)
    bad = held.rows.nonfinite > 0
    push, large, seen, predicted = np.zeros(n), np.zeros(2), np.zeros((2, n)), np.zeros((n, 2))
    fine = ~held.nonfinite
    if floor is not None:
        noise = floor.noise[:n]
        push = np.where(fine, relative_push(held.found, floor.unit[:n], noise), 0.0)
        relative = np.abs(held.found.shift) / noise
        large = np.array([float(np.sum((relative > LARGE * f) & fine)) for f in INFLATIONS])
        seen, predicted = np.stack([floor.large[:n], floor.flips[:n]]), floor.predicted[:n]
    return {
        "positions": n,
        "expected": held.expected,
        "large": large,
        "control_large": float(seen[0][fine].sum()),
        "flips": float(np.sum(held.found.flip & fine)),
        "control_flips": float(seen[1][fine].sum()),
        "predicted": predicted[fine].sum(axis=0),
        "kappa": 0.0 if floor is None else floor.kappa,
        "nonfinite": int(bad.sum()),
        "reference_nonfinite": int((held.reference.nonfinite > 0).sum()),
        "unjudged_nonfinite": held.unjudged_nonfinite,
        "first_nonfinite": int(np.argmax(bad)) if bad.any() else -1,
        "bit_equal": bool(held.bit_equal.all()),
        "whole": held.told,
        "ended": held.ended,
        "same_tokens": held.divergence is None and not held.found.flip.any(),
        "push": push,
        "flipped": np.asarray(held.found.flip),
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
    rows = [0 if masked is None else int(((masked > 0) & fine).sum()) for masked in sides]
    same = same_masks(held.rows, held.reference)
    other = np.zeros(len(fine), np.bool_) if same is None else ~same & fine
    first = int(np.argmax(other)) if other.any() else -1
    return {
        "masks_told": same is not None,
        "masked_rows": np.array(rows),
        "other_masks": int(other.sum()),
        "first_other_mask": first,
        "masked_there": np.array(
            [0 if masked is None or first < 0 else int(masked[first]) for masked in sides]
        ),
    }
