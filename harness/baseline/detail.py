"""Recordings of different detail, by what they have in common."""

from __future__ import annotations

from dataclasses import replace

from harness.baseline.baseline import Baseline
from harness.recording.format import PromptRecord, Recording, Run
from harness.statistics.detail import MOST_BUCKETS, reduced, shared
from harness.statistics.rows import SKETCH_WIDTH, Detail

#: A judgement looks at no more buckets: more of them make its figures no sharper, and in so
#: many directions there are too few rows to tell one from another.
JUDGED_BUCKETS = SKETCH_WIDTH


def reduced_recording(recording: Recording, detail: Detail) -> Recording:
    """A recording whose whole rows hold no more than this; itself where they hold no more."""
    mine = recording.detail
    if mine is None or (mine.listed <= detail.listed and mine.buckets <= detail.buckets):
        return recording
    prompts = tuple(_prompt(prompt, detail) for prompt in recording.prompts)
    return recording.model_copy(update={"prompts": prompts})


def reduced_baseline(baseline: Baseline, detail: Detail) -> Baseline:
    """A baseline whose rows hold no more than this; itself where they hold no more."""
    arms = {name: reduced_recording(arm, detail) for name, arm in baseline.arms()}
    if all(arms[name] is arm for name, arm in baseline.arms()):
        return baseline
    return replace(
        baseline,
        reference=reduced_recording(baseline.reference, detail),
        oracle=None if baseline.oracle is None else reduced_recording(baseline.oracle, detail),
        controls={name: arms[name] for name in baseline.controls},
    )


def judged_baseline(baseline: Baseline) -> Baseline:
    """A baseline as it is judged, with at most ``JUDGED_BUCKETS``."""
    mine = baseline.reference.detail
    return baseline if mine is None else reduced_baseline(baseline, judged_detail(mine))


def judged_detail(detail: Detail) -> Detail:
    """What a judgement looks at of rows in this detail."""
    return _most(detail, JUDGED_BUCKETS)


def alike(
    candidate: Recording, baseline: Baseline, most: int = MOST_BUCKETS
) -> tuple[Recording, Baseline]:
    """Both in the detail that they share.

    Args:
        most: buckets at most.
    """
    told = [d for d in (candidate.detail, baseline.reference.detail) if d is not None]
    detail = shared(told)
    if detail is None:
        return candidate, baseline
    detail = _most(detail, most)
    return reduced_recording(candidate, detail), reduced_baseline(baseline, detail)


def _most(detail: Detail, buckets: int) -> Detail:
    return replace(detail, buckets=min(detail.buckets, buckets))


def _prompt(prompt: PromptRecord, detail: Detail) -> PromptRecord:
    return prompt.model_copy(
        update={"free": _run(prompt.free, detail), "forced": _run(prompt.forced, detail)}
    )


def _run(run: Run | None, detail: Detail) -> Run | None:
    return None if run is None else run.model_copy(update={"rows": reduced(run.rows, detail)})
