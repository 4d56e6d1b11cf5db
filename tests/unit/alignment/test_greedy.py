"""The device's own choice: the largest of its own row, whatever the noise is."""

from __future__ import annotations

import numpy as np
import pytest
from factories import bfloat16, prompt, recording, run
from small_world import BASELINE, NOISE, REFERENCE, TRUTH, arm, failing, gate, statuses

from harness.alignment.align import compare
from harness.alignment.prompts import hold
from harness.alignment.result import Alignment
from harness.baseline.baseline import Baseline
from harness.recording.format import PromptRecord, Recording
from harness.statistics.noise import on_grid

CONTEXT = {p.id: p.run.token_ids for p in BASELINE.reference.prompts}
NAME, POSITION = "p6", 3


def chosen_by(
    rows: dict[str, np.ndarray], tokens: dict[str, list[int]], dtype: str = "bfloat16"
) -> Recording:
    """A device's own runs, with the tokens that it chose, and its replays."""

    def record(name: str) -> PromptRecord:
        own = run(rows[name], tokens[name])
        if tokens[name] == list(CONTEXT[name]):
            return prompt(name, own)
        return prompt(name, own, run(rows[name], CONTEXT[name], "forced-decode"))

    return recording([record(name) for name in rows], dtype=dtype)


def followed(**changes: int) -> dict[str, list[int]]:
    """The reference's tokens, but another one at POSITION of some prompts."""
    found = {name: list(tokens) for name, tokens in CONTEXT.items()}
    for name, token in changes.items():
        found[name][POSITION] = token
    return found


def near_rows(seed: int = 50) -> dict[str, np.ndarray]:
    """A correct arm that takes the reference's token everywhere: where noise would flip
    it, the row is the reference's."""
    rows = arm(seed)
    for name, z in rows.items():
        flips = z.argmax(axis=1) != np.array(CONTEXT[name])
        z[flips] = REFERENCE[name][flips]
    return rows


def judged(candidate: Recording) -> Alignment:
    return compare(candidate, BASELINE)


def second(row: np.ndarray) -> int:
    return int(np.argsort(-row, kind="stable")[1])


def test_a_greedy_device_chooses_the_largest_of_each_row() -> None:
    rows = near_rows()
    found = judged(chosen_by(rows, followed()))
    assert found.verdict == "TOKEN_EXACT"
    assert gate(found, "greedy").status == "PASS"
    assert gate(found, "greedy").sentence.startswith("Each of 256 tokens")


def close_second() -> tuple[str, int]:
    """Where the runner-up lies within the tolerance of noise, but below by units."""
    limits = {p.id: p.positions for p in judged(chosen_by(near_rows(), followed())).prompts}
    for name, z in near_rows().items():
        gap = float(np.sort(z[POSITION])[-1] - np.sort(z[POSITION])[-2])
        limit = limits[name].tolerance[POSITION]
        assert limit is not None
        margin = limits[name].margin[POSITION]
        assert margin is not None
        if 2.0**-4 < gap < 0.8 * limit and margin < 0.8 * limit:
            return name, second(z[POSITION])
    raise AssertionError("no position has a runner-up near enough")


def test_a_sampler_within_the_noise_fails() -> None:
    """Its choice is as near as two correct engines may be to one another, so no other
    gate sees it; but one engine's own row explains it by nothing."""
    name, token = close_second()
    found = judged(chosen_by(near_rows(), followed(**{name: token})))
    assert failing(found) == {"greedy"}
    assert found.verdict == "DIVERGENT"
    sentence = gate(found, "greedy").sentence
    assert "1 of 256 tokens that the device chose is not the largest of its row" in sentence
    assert f"at position {POSITION} of prompt {name}: a sampler or a penalty chose" in sentence
    mine = next(p for p in found.prompts if p.id == name)
    assert mine.positions.class_[POSITION] == mine.verdict == "DIVERGENT"


def test_a_penalty_on_tokens_that_came_before_fails() -> None:
    """It chooses by other numbers than the row that it gives."""
    rows, tokens = near_rows(), followed()
    for name, own in tokens.items():
        for t in range(1, len(own)):
            penalised = rows[name][t].copy()
            penalised[own[:t]] -= 9.0
            if int(penalised.argmax()) != own[t]:
                own[t:] = [int(penalised.argmax()), *own[t + 1 :]]
                break
    changed = sum(tokens[name] != list(CONTEXT[name]) for name in tokens)
    assert changed >= 1
    found = judged(chosen_by(rows, tokens))
    assert gate(found, "greedy").status == "FAIL"
    assert gate(found, "greedy").value == changed


@pytest.mark.parametrize("larger_id", [False, True])
def test_either_of_two_equal_logits_is_the_largest(larger_id: bool) -> None:
    rows = near_rows()
    best, other = CONTEXT[NAME][POSITION], second(rows[NAME][POSITION])
    rows[NAME][POSITION][other] = rows[NAME][POSITION][best]
    low, high = sorted((best, other))
    found = judged(chosen_by(rows, followed(**{NAME: high if larger_id else low})))
    assert statuses(found)["greedy"] == "PASS"


def lowered(by: float) -> np.ndarray:
    """bool, where a choice lies this far below the largest of its own row, all of whose
    logits are numbers of bfloat16."""
    row = np.full(64, -4.0)
    row[:20] = np.linspace(5.0, 1.0, 20)
    row[:2] = 6.0, 6.0 - by
    rows = bfloat16(row[None])
    assert float(rows[0, 0] - rows[0, 1]) == by
    mine = prompt("p0", run(rows, [1]))
    return hold(mine, Baseline(recording([mine])), "bfloat16").unchosen


#: Of bfloat16 at 6, of float16, and of float32.
UNITS = {"bfloat16": 2.0**-5, "float16": 2.0**-8, "float32": 2.0**-21}


def test_logits_of_a_dtype_are_chosen_to_the_last_unit() -> None:
    """On the dtype's grid the device compared just these numbers."""
    assert not lowered(0.0).any()
    assert lowered(UNITS["bfloat16"]).all()
    assert lowered(2 * UNITS["bfloat16"]).all()


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize(
    ("units", "wrong"), [(0.0, False), (0.4, False), (1.0, True), (1.5, True), (40, True)]
)
def test_logits_finer_than_the_dtype_may_be_half_a_unit_off(
    dtype: str, units: float, wrong: bool
) -> None:
    """A device that keeps wider numbers than it compared."""
    row = np.full((1, 64), -4.0, np.float32)
    row[0, :20] = np.linspace(5.0, 1.0, 20) + 1e-4
    row[0, :2] = 6.0, 6.0 - units * UNITS[dtype]
    assert not on_grid(dtype, row[:, :20]).any()
    mine = prompt("p0", run(row, [1]))
    reference = recording([prompt("p0", run(row, [1]))])
    assert hold(mine, Baseline(reference), dtype).unchosen.tolist() == [wrong]


def test_a_token_that_was_given_is_no_choice() -> None:
    row = np.full((1, 64), -4.0, np.float32)
    row[0, :2] = 6.0, 3.0
    mine = prompt("p0", run(row, [1]))
    held = hold(mine, Baseline(recording([mine])), "bfloat16")
    assert held.unchosen.tolist() == held.astray.tolist() == [True]
    given = prompt("p0", forced=run(row, [1], "forced-decode"))
    held = hold(given, Baseline(recording([mine])), "bfloat16")
    assert held.unchosen.tolist() == [False]
    assert held.astray.tolist() == []


def test_nothing_is_finer_than_float32() -> None:
    row = np.full((1, 64), -4.0, np.float32)
    row[0, :2] = 6.0, np.float32(6.0) - np.float32(2.0**-21)
    mine = prompt("p0", run(row, [1]))
    held = hold(mine, Baseline(recording([mine])), "float32")
    assert held.unchosen.tolist() == [True]


def test_a_dtype_whose_rounding_is_not_known_is_taken_for_the_references() -> None:
    """One unit of bfloat16 is allowed to finer logits, and none to its own."""
    row = np.full((1, 64), -4.0, np.float32)
    row[0, :2] = 6.001, 5.999
    mine = prompt("p0", run(row, [1]))
    for dtype in ("int8", "bfloat16"):
        assert hold(mine, Baseline(recording([mine])), dtype).unchosen.tolist() == [False]
    assert hold(mine, Baseline(recording([mine])), "float32").unchosen.tolist() == [True]


def test_a_device_that_was_given_all_tokens_chose_none() -> None:
    """Whatever its rows are: the tokens are the reference's."""
    replays = [
        prompt(name, forced=run(z, CONTEXT[name], "forced-decode")) for name, z in arm(51).items()
    ]
    found = judged(recording(replays))
    assert gate(found, "greedy").status == "NOT_RUN"
    assert gate(found, "greedy").value is None
    assert found.verdict == "EQUIVALENT"


def test_what_a_device_chose_beyond_another_token_is_counted_too() -> None:
    """That text is not judged, but its own rows tell whether it went on greedily."""
    rows = near_rows()
    other = second(rows[NAME][POSITION])
    rows[NAME][POSITION][other] = rows[NAME][POSITION].max() + np.float32(2 * NOISE)
    rounded = {i: bfloat16(z.astype(np.float64)) for i, z in rows.items()}
    own = followed(**{NAME: other})
    own[NAME][POSITION:] = [int(t) for t in rounded[NAME][POSITION:].argmax(axis=1)]
    sound = judged(chosen_by(rounded, own))
    assert gate(sound, "greedy").sentence.startswith("Each of 256 tokens")
    own[NAME][POSITION + 1 :] = [0] * 4
    found = gate(judged(chosen_by(rounded, own)), "greedy")
    assert found.status == "FAIL"
    assert "4 of 256 tokens" in found.sentence
    assert f"first at position {POSITION + 1} of prompt {NAME}" in found.sentence


def test_a_row_with_nan_is_left_to_the_gate_of_finite_rows() -> None:
    rows = near_rows()
    rows[NAME][POSITION, CONTEXT[NAME][POSITION]] = np.nan
    found = judged(chosen_by(rows, followed()))
    assert statuses(found)["greedy"] == "PASS"
    assert statuses(found)["nonfinite"] == "FAIL"


def test_a_constrained_choice_fails_against_a_single_recording_too() -> None:
    """Without an oracle no noise is known, and none is needed."""
    rows = near_rows()
    tokens = followed(**{NAME: int(np.argsort(rows[NAME][POSITION])[-9])})
    found = compare(chosen_by(rows, tokens), BASELINE.reference)
    assert statuses(found)["greedy"] == "FAIL"
    assert found.verdict == "INCONCLUSIVE"
    assert len(TRUTH) == len(tokens)
