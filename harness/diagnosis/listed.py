"""What is to be explained where a server listed a few log-probabilities of each position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from harness.baseline.baseline import Baseline
from harness.baseline.floor import NoiseFloor, PromptFloor, arm_rows, sound_controls
from harness.diagnosis.errors import (
    Errors,
    Judged,
    PromptErrors,
    enough,
    errors_of,
    floor_of,
    judged_prompts,
    no_rounding,
)
from harness.errors import UsageError
from harness.recording.format import Recording
from harness.statistics.listed import (
    FEWEST_IDS,
    centred_at,
    ids_within_reach,
    listed_count,
    listed_metric,
)
from harness.statistics.rows import NO_TOKEN, TOP_K

#: Two ids above the last make a difference.
FEWEST_LISTED = FEWEST_IDS + 1


def errors_seen(candidate: Recording, baseline: Baseline) -> Errors:
    """The candidate's and the arms' errors: as sketches of whole rows where the candidate has
    them, else at the ids that it lists.

    Raises:
        UsageError: where too few prompts have either, or there is no noise floor.
    """
    return errors_of(candidate, baseline) if candidate.whole else listed_errors(candidate, baseline)


def listed_errors(
    candidate: Recording, baseline: Baseline, floor: NoiseFloor | None = None
) -> Errors:
    """The errors at the oracle's likeliest ids; arms are cut as the candidate is.

    Args:
        floor: the baseline's, where it is known.

    Raises:
        UsageError: where there are too few prompts, or no noise floor.
    """
    floor = floor_of(baseline) if floor is None else floor
    controls = tuple(sound_controls(baseline).values())
    arms = (baseline.reference, *controls)
    found: list[PromptErrors] = []
    chosen: dict[tuple[int, ...], NDArray[np.int32]] = {}
    listed = 0
    for one in judged_prompts(candidate, baseline, floor):
        most = listed_count(one.held.rows)
        ids = chosen.get(one.token_ids)
        if ids is None:  # two prompts that read the same have the same oracle
            ids = _ids(one, floor.prompts[one.held.id])
        listed = max(listed, int(most.max()))
        if not (ids != NO_TOKEN).any():
            continue
        chosen[one.token_ids] = ids
        found.append(_errors_at(one, arms, ids))
    if not found and 0 < listed < FEWEST_LISTED:
        raise UsageError(
            f"{listed} log-probabilities of each position are too few for a diagnosis; ask the "
            f"server for {TOP_K} with --engine-arg logprobs={TOP_K}"
        )
    enough(len(found))
    try:
        metric = listed_metric([p.arms for p in found], [chosen[p.token_ids] for p in found])
    except ValueError as error:
        raise no_rounding(error) from error
    return Errors(tuple(found), metric, chosen, listed)


def _ids(one: Judged, floor: PromptFloor) -> NDArray[np.int32]:
    """The ids of each row that are looked at, int32 (n, 20)."""
    assert one.held.truth is not None  # usable, so there is an oracle
    noise = floor.noise[: len(one.held.chosen)]
    return ids_within_reach(one.held.truth, noise, listed_count(one.held.rows))


def _errors_at(one: Judged, arms: Sequence[Recording], ids: NDArray[np.int32]) -> PromptErrors:
    """The errors of one prompt at these ids."""
    assert one.held.truth is not None
    n, most = len(ids), listed_count(one.held.rows)
    truth = centred_at(one.held.truth, ids, most)
    theirs = [centred_at(arm_rows(arm, one.reference)[:n], ids, most) for arm in arms]
    return PromptErrors(
        id=one.held.id,
        token_ids=one.token_ids,
        truth=truth,
        arms=np.stack(theirs) - truth,
        candidate=centred_at(one.held.rows, ids, most) - truth,
    )
