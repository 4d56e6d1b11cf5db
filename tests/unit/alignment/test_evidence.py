"""Evidence: sums of each prompt, paths apart, and any choice of prompts."""

from __future__ import annotations

import time
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from factories import RNG, VOCABULARY, arms, forced_recording, prompt, recording, run

from harness.alignment.align import compare, evidence_of
from harness.alignment.evidence import Evidence
from harness.alignment.gates import GATES
from harness.alignment.judge import judge
from harness.alignment.prompts import hold
from harness.baseline.baseline import Baseline
from harness.baseline.floor import LARGE, noise_floor
from harness.baseline.scales import LEAST_KAPPA, ArmRows
from harness.recording.format import Recording
from harness.statistics.noise import squared_error

BASELINE = arms(prompts=8, positions=5)
CONTROLS = tuple(BASELINE.controls.values())


def other(seed: int = 50) -> Recording:
    """Another arm: the oracle's rows and noise of its own."""
    assert BASELINE.oracle is not None
    random = RNG(seed)
    rows = {}
    truth = RNG(7)
    for i in range(8):
        exact = 3 * truth.standard_normal((5, VOCABULARY))
        rows[f"p{i}"] = (exact + 0.05 * random.standard_normal(exact.shape)).astype(np.float32)
    return forced_recording(rows, BASELINE.reference)


def same(one: Evidence, two: Evidence) -> bool:
    return all(equal(getattr(one, f.name), getattr(two, f.name)) for f in fields(Evidence))


def equal(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, tuple):
        return len(mine) == len(theirs) and all(map(equal, mine, theirs))
    if isinstance(mine, ArmRows):
        return all(equal(getattr(mine, f.name), getattr(theirs, f.name)) for f in fields(ArmRows))
    return np.array_equal(np.asarray(mine), np.asarray(theirs))


def test_a_choice_of_prompts_is_the_evidence_of_a_suite_of_these() -> None:
    """Taken from the whole, and built from recordings of these prompts alone;
    only what is predicted of flips takes its scale from the whole baseline."""
    whole = evidence_of(other(), BASELINE)
    chosen = [5, 0, 3]
    ids = [f"p{i}" for i in chosen]

    def only(made: Recording) -> Recording:
        found = [made.prompt(i) for i in ids]
        return made.model_copy(update={"prompts": tuple(p for p in found if p is not None)})

    assert BASELINE.oracle is not None
    part = Baseline(
        only(BASELINE.reference),
        only(BASELINE.oracle),
        {name: only(control) for name, control in BASELINE.controls.items()},
    )
    taken, built = whole.take(chosen), evidence_of(only(other()), part)
    assert taken.ids == built.ids == tuple(ids)
    # What controls share of the reference's error is of the whole baseline, too.
    assert taken.limit.shared == pytest.approx(built.limit.shared, abs=0.1)
    for field in fields(Evidence):
        if field.name not in ("predicted", "limit"):
            assert equal(getattr(taken, field.name), getattr(built, field.name)), field.name
    assert taken.predicted.shape == built.predicted.shape


def test_taking_all_prompts_changes_nothing() -> None:
    whole = evidence_of(other(), BASELINE)
    assert same(whole.take(range(8)), whole)
    assert judge(whole.take(range(8))) == judge(whole)


def test_the_judgement_of_the_evidence_is_that_of_compare() -> None:
    found = compare(other(), BASELINE)
    judgement = judge(evidence_of(other(), BASELINE, noise_floor(BASELINE)))
    assert judgement.verdict == found.verdict
    assert list(judgement.gates) == [g for g in found.gates if g.name in GATES]


def test_sums_are_those_of_the_rows() -> None:
    found = evidence_of(other(), BASELINE)
    assert BASELINE.oracle is not None
    for i, mine in enumerate(other().prompts):
        truth = BASELINE.oracle.prompts[i].run.rows
        error = squared_error(mine.run.rows, truth)
        assert found.error[i].sum() == pytest.approx(error.sum())
        assert found.error[i, 0] == pytest.approx(error[0])
        arms_ = [made.prompts[i].run.rows for made in (BASELINE.reference, *CONTROLS)]
        base, *_ = known = [a.sketch.astype(np.float64) - truth.sketch for a in arms_]
        off = mine.run.rows.sketch.astype(np.float64) - truth.sketch
        assert found.mean_error[i] == pytest.approx(off.sum(axis=0))
        assert found.arm_error[i] == pytest.approx(np.array([a.sum(axis=0) for a in known]))
        for along, sketch in ((found.along, off), (found.reference_along, base)):
            per_row = np.sum(sketch * truth.sketch, axis=1)
            # All, the halves of five positions, and the one row of prefill.
            parts = [per_row, per_row[:3], per_row[3:], per_row[:1], per_row[1:]]
            assert along[i] == pytest.approx([float(part.sum()) for part in parts])
        power = np.sum(truth.sketch.astype(np.float64) ** 2, axis=1)
        slopes = [np.sum(a * truth.sketch, axis=1) / power for a in (*known, off)]
        assert found.tilt[i] == pytest.approx(np.sum(slopes[-1] ** 2))
        assert found.arm_tilt[i] == pytest.approx([np.sum(s**2) for s in slopes[:-1]])
        scatter = np.median([np.sum(a * a, axis=1) for a in known], axis=0)
        assert found.standing[i] == pytest.approx(np.sqrt(error / scatter))
        assert found.at[i].tolist() == list(range(5))
    positions = [p.positions for p in compare(other(), BASELINE).prompts]
    floor = noise_floor(BASELINE)
    assert floor is not None
    assert found.flips.tolist() == [
        sum(a != b for a, b in zip(p.reference_token, p.candidate_token, strict=True))
        for p in positions
    ]
    for i, p in enumerate(positions):
        relative = np.abs(np.array(p.shift, float)) / floor.prompts[f"p{i}"].noise
        assert found.large[i].tolist() == [(relative > LARGE).sum(), (relative > 1.5 * LARGE).sum()]


@pytest.mark.parametrize(
    ("replay", "rows"), [("free", [1, 4]), ("forced-decode", [1, 4]), ("forced-prefill", [5, 0])]
)
def test_rows_are_counted_by_the_path_they_came_by(replay: str, rows: list[int]) -> None:
    """The first row is a prefill always, the later ones by how they were made."""
    base = BASELINE.reference.prompts[0].run
    mine = base.model_copy(update={"replay": replay})
    record = prompt("p0", **{"free" if replay == "free" else "forced": mine})
    found = evidence_of(recording([record]), BASELINE)
    assert found.rows.tolist() == [rows]


def test_a_replay_by_prefill_beyond_a_divergence_is_prefill() -> None:
    base = BASELINE.reference.prompts[0].run
    rows = RNG(1).standard_normal((5, VOCABULARY)).astype(np.float32)
    strayed = [*base.token_ids[:2], (base.token_ids[2] + 1) % VOCABULARY, 1, 2]
    both = prompt("p0", run(rows, strayed), run(rows, base.token_ids, "forced-prefill"))
    held = hold(both, BASELINE, "bfloat16")
    assert held.prefill.tolist() == [True, False, False, True, True]
    assert held.divergence == 2


def test_without_an_oracle_nothing_has_a_size() -> None:
    found = evidence_of(other(), Baseline(BASELINE.reference))
    assert found.controls == 0
    assert not found.rows.any()
    assert not found.error.any()
    assert found.arms == (None,) * 8
    assert found.scales().kappa == LEAST_KAPPA


def test_one_nan_takes_its_prompt_out_of_the_errors_and_its_row_out_of_the_counts() -> None:
    made = other()
    rows = made.prompts[2].run.rows
    broken = rows.nonfinite.copy()
    broken[3] = 1
    fields_ = {f.name: getattr(rows, f.name) for f in fields(rows)} | {"nonfinite": broken}
    forced = made.prompts[2].run.model_copy(update={"rows": type(rows)(**fields_)})
    prompts = list(made.prompts)
    prompts[2] = prompts[2].model_copy(update={"forced": forced})
    found = evidence_of(made.model_copy(update={"prompts": tuple(prompts)}), BASELINE)
    whole = evidence_of(made, BASELINE)
    assert found.rows[2].tolist() == [0, 0]
    assert found.first_nonfinite.tolist() == [-1, -1, 3, -1, -1, -1, -1, -1]
    assert found.nonfinite.sum() == 1
    assert found.push[2][3] == 0.0
    assert found.positions.tolist() == whole.positions.tolist()
    assert np.array_equal(np.delete(found.error, 2, 0), np.delete(whole.error, 2, 0))


def test_judging_any_choice_of_prompts_takes_milliseconds() -> None:
    whole = evidence_of(other(), BASELINE)
    judge(whole)
    start = time.process_time()
    for seed in range(50):
        judge(whole.take(RNG(seed).choice(8, 5, replace=False)))
    assert (time.process_time() - start) / 50 < 0.02
