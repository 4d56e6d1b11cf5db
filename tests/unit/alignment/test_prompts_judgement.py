"""One prompt, position by position."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from factories import (
    RNG,
    VOCABULARY,
    arms,
    bfloat16,
    forced_recording,
    free_recording,
    prompt,
    recording,
    run,
)

from harness.alignment.evidence import Held
from harness.alignment.prompt_result import Positions, PromptAlignment
from harness.alignment.prompts import common_context, hold, judge_prompt, shown_position
from harness.baseline.baseline import Baseline
from harness.baseline.floor import noise_floor
from harness.recording.format import PromptRecord

BASELINE = arms()


def tolerances(baseline: Baseline) -> dict[str, np.ndarray]:
    floor = noise_floor(baseline)
    return {} if floor is None else floor.tolerances()


NOISE = tolerances(BASELINE)
FIRST = BASELINE.reference.prompts[0]
ORACLE = BASELINE.oracle
assert ORACLE is not None
TRUTH = RNG(7).standard_normal((4, VOCABULARY)) * 3  # the first prompt of arms()


def logits(noise: float = 0.05, seed: int = 99) -> np.ndarray:
    return bfloat16(TRUTH + noise * RNG(seed).standard_normal(TRUTH.shape))


@dataclass(frozen=True)
class Judged:
    """What is held against what, and what is said of it."""

    held: Held
    result: PromptAlignment

    @property
    def flips(self) -> int:
        return int(self.held.found.flip.sum())


def judge(mine: PromptRecord, baseline: Baseline = BASELINE) -> Judged:
    held = hold(mine, baseline, "bfloat16")
    return Judged(held, judge_prompt(mine, held, baseline, tolerances(baseline).get(mine.id)))


def forced(rows: np.ndarray) -> PromptRecord:
    return prompt("p0", forced=run(rows, FIRST.run.token_ids, "forced-decode"))


def test_the_factory_holds_the_rows_it_is_said_to_hold() -> None:
    assert dict(BASELINE.arms())["oracle"].prompts[0].run.rows.top_logits[0, 0] == np.float32(
        TRUTH[0].max()
    )


def test_a_correct_arm_is_exact_with_all_figures() -> None:
    found = judge(forced(logits()))
    positions = found.result.positions
    assert set(positions.class_) <= {"EXACT", "NEAR_TIE", "TIE"}
    assert found.result.tokens_compared == found.result.tokens_expected == 4
    assert found.held.usable
    for name in ("margin", "shift", "tolerance", "error", "reference_error"):
        values = getattr(positions, name)
        assert len(values) == 4
        assert all(np.isfinite(v) for v in values)
    assert all(e == pytest.approx(0.05, rel=0.6) for e in positions.error)


def test_the_reference_itself_is_bit_equal() -> None:
    found = judge(FIRST)
    assert found.held.bit_equal.all()
    assert found.result.verdict == "BIT_EXACT"
    assert found.result.positions.bit_equal == [True] * 4
    assert found.result.first_divergence is None
    assert found.result.shown is not None


def test_a_flip_beyond_the_noise_is_divergent_and_shown() -> None:
    broken = logits()
    token = FIRST.run.token_ids[2]
    broken[2, token] -= 8
    found = judge(forced(broken))
    assert found.result.verdict == found.result.class_ == "DIVERGENT"
    assert found.result.shown == 2
    assert found.flips == 1
    # At least so far: the token left the candidate's top 20, whose last bounds it.
    assert found.result.shift is not None
    assert found.result.margin is not None
    assert -8.6 < found.result.shift < -found.result.margin
    assert found.result.positions.reference_token[2] == token
    assert found.result.positions.candidate_token[2] == broken[2].argmax() != token
    # Forced: the candidate's own run diverged nowhere, since there was none.
    assert found.result.first_divergence is None


def test_a_large_shift_without_a_flip_is_silent_drift() -> None:
    broken = logits()
    broken[1, FIRST.run.token_ids[1]] += 8
    found = judge(forced(broken))
    assert found.result.verdict == "DRIFT"
    assert found.result.class_ == "SILENT_DRIFT"
    assert found.flips == 0


def test_a_nan_is_counted_and_takes_the_prompt_out_of_the_ratio() -> None:
    broken = logits()
    broken[3, 5] = np.nan
    found = judge(forced(broken))
    assert found.result.positions.class_[3] == "NONFINITE"
    assert found.result.verdict == "DIVERGENT"
    assert found.held.nonfinite.tolist() == [False, False, False, True]
    assert not found.held.usable
    assert found.result.positions.error[3] is None
    assert found.result.positions.error[2] is not None


def test_bit_equal_nan_rows_are_not_bit_exact() -> None:
    broken = logits()
    broken[0, 0] = np.inf
    reference = free_recording({"p0": broken})
    found = judge(reference.prompts[0], Baseline(reference))
    assert found.held.bit_equal.all()
    assert found.result.verdict == "DIVERGENT"


def test_a_nan_of_the_oracle_measures_nothing() -> None:
    broken = TRUTH.astype(np.float32)
    broken[1, 3] = np.nan
    oracle = forced_recording({"p0": broken}, recording([FIRST]), dtype="float32")
    found = judge(forced(logits()), Baseline(recording([FIRST]), oracle, BASELINE.controls))
    assert not found.held.usable
    assert found.result.positions.error[1] is found.result.positions.reference_error[1] is None


def test_a_control_with_nan_does_not_raise_the_tolerance() -> None:
    name, control = next(iter(BASELINE.controls.items()))
    broken = logits()
    broken[:, 0] = np.nan
    broken[:, 1] = 1e30
    bad = control.model_copy(update={"prompts": (forced(broken), *control.prompts[1:])})
    noise = tolerances(Baseline(BASELINE.reference, ORACLE, {**BASELINE.controls, name: bad}))
    for prompt_id, limit in noise.items():
        assert (limit < 3 * NOISE[prompt_id]).all()


def test_without_oracle_or_controls_there_is_no_tolerance() -> None:
    assert tolerances(Baseline(BASELINE.reference)) == {}
    assert tolerances(Baseline(BASELINE.reference, ORACLE)) == {}
    found = judge(forced(logits()), Baseline(BASELINE.reference))
    assert found.result.positions.class_ == [None] * 4
    assert found.result.positions.tolerance == [None] * 4
    assert found.result.positions.error == [None] * 4
    assert found.result.verdict == "INCONCLUSIVE"


def test_the_tolerance_is_of_the_size_of_the_noise() -> None:
    for limit in NOISE.values():
        assert limit.shape == (4,)
        assert (limit >= 2 * 2.0**-6).all()
        assert (limit < 40 * 0.05).all()


def test_a_free_run_is_judged_to_its_first_other_token() -> None:
    tokens = list(FIRST.run.token_ids)
    own = [tokens[0], (tokens[1] + 1) % VOCABULARY, 7, 8]
    found = judge(prompt("p0", run(logits(), own)))
    assert found.result.tokens_compared == 2
    assert found.result.tokens_expected == 4
    assert found.result.first_divergence == 1
    assert found.result.candidate_token_ids == own
    assert found.result.context_token_ids == tokens


def test_a_diverged_free_run_is_judged_on_its_replay() -> None:
    own = [(FIRST.run.token_ids[0] + 1) % VOCABULARY, 7, 8, 9]
    both = prompt("p0", run(logits(), own), forced(logits()).forced)
    found = judge(both)
    assert found.result.tokens_compared == 4
    assert found.result.first_divergence == 0
    assert found.result.candidate_token_ids == own


def test_a_replay_does_not_stand_in_for_the_free_run() -> None:
    broken = logits()
    broken[0, FIRST.run.token_ids[0]] -= 8
    own = [int(broken[0].argmax()), 7, 8, 9]
    found = judge(prompt("p0", run(broken, own), forced(logits()).forced))
    assert found.result.positions.class_[0] == "DIVERGENT"
    assert found.result.positions.candidate_token[0] == own[0]
    assert "DIVERGENT" not in found.result.positions.class_[1:]


@pytest.mark.parametrize("position", [0, 3])
def test_a_token_that_its_own_logits_do_not_explain_is_divergent(position: int) -> None:
    # As a sampler leaves it that applies a penalty after the logits were kept.
    rows = logits()
    own = list(FIRST.run.token_ids)
    own[position] = int(np.argsort(rows[position])[-6])
    found = judge(prompt("p0", run(rows, own), forced(rows).forced))
    assert found.result.positions.class_[position] == "DIVERGENT"
    assert found.result.verdict == "DIVERGENT"


@pytest.mark.parametrize("length", [2, 5])
def test_a_run_that_stops_elsewhere_without_another_token_is_not_explained(length: int) -> None:
    rows = np.concatenate([logits(), logits()[:1]])[:length]
    own = [*FIRST.run.token_ids, 5][:length]
    found = judge(prompt("p0", run(rows, own), forced(logits()).forced))
    assert found.held.ended
    assert found.result.tokens_compared == 4
    assert found.result.verdict == "INCONCLUSIVE"
    assert not judge(FIRST).held.ended


@pytest.mark.parametrize(
    ("own", "context", "rows"),
    [
        ([1, 2, 3], [1, 2, 3], 3),
        ([1, 9, 3], [1, 2, 3], 2),
        ([9, 2, 3], [1, 2, 3], 1),
        ([1, 2], [1, 2, 3], 2),
        ([1, 2, 3], [1, 2], 2),
        ([1, 2, 9], [1, 2], 2),
    ],
)
def test_the_row_of_the_first_other_token_is_still_common(
    own: list[int], context: list[int], rows: int
) -> None:
    made = run(RNG(1).standard_normal((len(own), 64)).astype(np.float32), own)
    assert common_context(made, context) == rows


@pytest.mark.parametrize(
    ("own", "first"), [([], None), ([0], 3), ([1, 1], 4)], ids=["equal", "shorter", "longer"]
)
def test_runs_of_other_lengths_diverge_where_the_shorter_ends(
    own: list[int], first: int | None
) -> None:
    tokens = list(FIRST.run.token_ids)
    tokens = tokens[:3] if own == [0] else tokens + own[:1]
    rows = RNG(1).standard_normal((len(tokens), VOCABULARY)).astype(np.float32)
    assert judge(prompt("p0", run(rows, tokens))).result.first_divergence == first


def positions(**changes: Any) -> Positions:
    n = len(changes["class_"])
    columns: dict[str, Any] = {
        "reference_token": [1] * n,
        "candidate_token": [1] * n,
        "margin": [1.0] * n,
        "shift": [0.1] * n,
        "tolerance": [0.5] * n,
        "error": [None] * n,
        "reference_error": [None] * n,
        "bit_equal": [False] * n,
        "reference_top": [[]] * n,
        "candidate_top": [[]] * n,
    }
    return Positions(**(columns | changes))


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({"class_": []}, None),
        ({"class_": ["EXACT", "NEAR_TIE", "DIVERGENT"], "candidate_token": [1, 2, 2]}, 2),
        ({"class_": ["EXACT", "SILENT_DRIFT", "DIVERGENT"]}, 1),
        ({"class_": ["EXACT", "EXACT", "NEAR_TIE"], "candidate_token": [1, 1, 2]}, 2),
        ({"class_": ["EXACT"] * 3, "shift": [0.1, -0.3, 0.4], "tolerance": [0.5, 0.4, 0.9]}, 1),
        ({"class_": [None] * 2, "shift": [0.1, None], "tolerance": [None, None]}, 0),
    ],
)
def test_a_reader_is_shown_the_worst_position(columns: dict[str, Any], shown: int | None) -> None:
    assert shown_position(positions(**columns)) == shown
