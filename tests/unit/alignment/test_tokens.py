"""Bare token ids can be shown to be wrong, and never to be right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from factories import arms, forced_recording, free_recording

from harness.alignment.result import Alignment, load_alignment, save_alignment
from harness.alignment.tokens import compare_tokens
from harness.baseline.baseline import Baseline
from harness.baseline.floor import noise_floor
from harness.errors import EmptyComparison
from harness.files import jsonfile

BASELINE = arms()
TOKENS = {p.id: list(p.run.token_ids) for p in BASELINE.reference.prompts}


def with_rank(rank: int, prompt: str = "p1", position: int = 2) -> dict[str, list[int]]:
    """The reference's tokens, one replaced by another of its top 20."""
    record = BASELINE.reference.prompt(prompt)
    assert record is not None
    tokens = {i: list(t) for i, t in TOKENS.items()}
    tokens[prompt][position] = int(record.run.rows.top_ids[position, rank])
    return tokens


def judge(tokens: dict[str, list[int]], baseline: Baseline = BASELINE) -> Alignment:
    return compare_tokens(tokens, baseline, file="t.json")


def test_the_same_tokens_are_inconclusive_at_best() -> None:
    found = judge(TOKENS)
    assert found.verdict == "INCONCLUSIVE"
    assert not any(gate.status == "PASS" for gate in found.gates)
    assert "0 of 24 tokens flip" in found.sentence
    assert found.positions == 24
    assert found.error_ratio.value is None


def test_a_token_across_a_wide_margin_is_divergent() -> None:
    found = judge(with_rank(19))
    assert found.verdict == "DIVERGENT"
    (gate,) = found.gates
    assert (gate.name, gate.status, gate.value) == ("point_guard", "FAIL", 1.0)
    assert found.classes == {"DIVERGENT": 1}
    wrong = next(p for p in found.prompts if p.id == "p1")
    assert (wrong.verdict, wrong.shown, wrong.first_divergence) == ("DIVERGENT", 2, 2)
    assert wrong.margin is not None
    assert wrong.tolerance is not None
    assert wrong.margin > wrong.tolerance


def test_a_token_within_the_noise_is_a_near_tie() -> None:
    """Every prompt and position whose runner-up is near enough."""
    floor = noise_floor(BASELINE)
    assert floor is not None
    noise = floor.tolerances()
    near = [
        (p.id, t)
        for p in BASELINE.reference.prompts
        for t in range(4)
        if p.run.rows.top_logits[t, 0] - p.run.rows.top_logits[t, 1] <= noise[p.id][t]
    ]
    assert near
    for name, position in near:
        found = judge(with_rank(1, name, position))
        assert found.verdict == "INCONCLUSIVE"
        assert set(found.classes) <= {"NEAR_TIE", "TIE"}
        assert "1 of 24 tokens flips, none across a margin beyond the noise" in found.sentence


def test_without_controls_nothing_is_judged() -> None:
    found = judge(with_rank(19), Baseline(BASELINE.reference, BASELINE.oracle))
    assert found.verdict == "INCONCLUSIVE"
    assert found.gates[0].status == "NOT_RUN"


def test_a_nan_row_of_the_reference_blames_nobody() -> None:
    rows = {i: np.full((4, 64), np.nan, np.float32) for i in TOKENS}
    forced = forced_recording(rows, BASELINE.reference)
    found = judge(TOKENS, Baseline(forced, BASELINE.oracle, BASELINE.controls))
    assert found.verdict == "INCONCLUSIVE"
    assert not found.classes


def test_no_clock_is_made_up() -> None:
    found = judge(TOKENS).performance
    assert found.candidate.ttft_s is found.candidate.decode_tok_s is found.candidate.load_s is None
    assert found.reference.ttft_s == 0.5
    assert set(found.ratio.values()) == {None}


def test_no_token_is_an_empty_comparison() -> None:
    nothing = np.zeros((0, 64), np.float32)
    reference = free_recording({"p0": nothing})
    with pytest.raises(EmptyComparison, match=r"t\.json: has no tokens, so there is nothing"):
        judge({"p0": []}, Baseline(reference))


def test_the_alignment_comes_back_from_its_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    found = judge(with_rank(19))
    save_alignment(found, path)
    assert load_alignment(path) == found
    # Nobody knows with which settings plain tokens were made.
    assert found.candidate.settings is None
    assert jsonfile.parse(path)["candidate"]["settings"] == {}
