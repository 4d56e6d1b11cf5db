"""What is to be explained, where candidate and baseline keep more and less of a row."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import fake_record, fake_suite

from harness.baseline.baseline import Baseline
from harness.devices.fake import FakeDevice
from harness.diagnosis.command import _stored, _tell_common
from harness.diagnosis.errors import errors_of
from harness.recording.context import Context
from harness.recording.format import Recording
from harness.recording.recorder import Options
from harness.statistics.detail import DETAILS, folded
from harness.statistics.rows import NORMAL, Detail

SUITE = fake_suite(prompts=6, tokens=8)
SMALL, LARGE = DETAILS["small"], DETAILS["large"]
REFERENCE = fake_record(FakeDevice(), SUITE, Options(detail=LARGE))


def baseline_in(detail: Detail) -> Baseline:
    context = Context.of(REFERENCE)
    oracle = Options(replay="forced-prefill", context=context, detail=detail)
    control = Options(replay="forced-decode", context=context, detail=detail)
    return Baseline(
        fake_record(FakeDevice(), SUITE, Options(detail=detail)),
        fake_record(FakeDevice(dtype="float32"), SUITE, oracle),
        {f"control-{s}": fake_record(FakeDevice(seed=s), SUITE, control) for s in (1, 2)},
    )


def candidate_in(detail: Detail) -> Recording:
    options = Options(context=Context.of(REFERENCE), detail=detail)
    return fake_record(FakeDevice(seed=3), SUITE, options)


@pytest.mark.parametrize("mine", [SMALL, NORMAL, LARGE], ids=str)
@pytest.mark.parametrize("theirs", [SMALL, NORMAL, LARGE], ids=str)
def test_rows_are_seen_in_the_buckets_that_both_have(mine: Detail, theirs: Detail) -> None:
    found = errors_of(candidate_in(mine), baseline_in(theirs))
    buckets = min(mine.buckets, theirs.buckets)
    assert found.buckets == buckets
    widest = errors_of(candidate_in(LARGE), baseline_in(LARGE))
    for one, other in zip(found.prompts, widest.prompts, strict=True):
        for name in ("truth", "candidate"):
            wide = getattr(other, name).astype(np.float32)
            assert getattr(one, name) == pytest.approx(folded(wide, buckets), abs=1e-2)
        assert one.arms.shape == (3, len(one), buckets)
    assert found.metric.inverse.shape == (buckets, buckets)


class Notes:
    """What is said on the way."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)


def test_what_is_not_looked_at_is_said_and_how_to_look_at_it() -> None:
    for mine, theirs, told in (
        (LARGE, NORMAL, True),
        (NORMAL, LARGE, False),
        (SMALL, SMALL, False),
    ):
        notes = Notes()
        candidate = candidate_in(mine)
        _tell_common(errors_of(candidate, baseline_in(theirs)), candidate, notes)  # type: ignore[arg-type]
        assert bool(notes.said) == told
    notes = Notes()
    _tell_common(errors_of(candidate_in(LARGE), BASELINE), candidate_in(LARGE), notes)  # type: ignore[arg-type]
    assert notes.said == [
        "of the candidate's 1024 buckets a row the 64 of the baseline are looked at; make the "
        "baseline with --detail large to use more"
    ]


BASELINE = baseline_in(NORMAL)


def test_scores_of_more_buckets_than_the_candidate_has_are_not_used(tmp_path: Path) -> None:
    (tmp_path / "diagnosis.zip").write_bytes(b"anything")
    notes, stands = Notes(), replace(BASELINE, folder=tmp_path)
    errors = errors_of(candidate_in(SMALL), stands)
    assert _stored(stands, errors, "d", notes) is None  # type: ignore[arg-type]
    assert "is not used: it is of 64 buckets a row, and the candidate has 16" in notes.said[0]
    _stored(stands, errors_of(candidate_in(LARGE), stands), "d", notes)  # type: ignore[arg-type]
    assert "it is damaged" in notes.said[1]
