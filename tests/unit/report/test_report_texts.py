"""What was asked and what both said, beside each other; and the speed in words."""

from __future__ import annotations

from typing import Any

import pytest
from report_alignments import Page, alignment, arm, prompt

from harness.alignment.result import Alignment, Figures, Performance
from harness.devices.facts import LoadFigures
from harness.report import to_html, to_markdown
from harness.report.views import texts as views
from harness.report.views.alignment import view
from harness.report.views.performance import performance_view


def timed(mine: float | None, theirs: float | None, verdict: str = "EQUIVALENT") -> Alignment:
    both = [
        Figures(load_s=1.0, ttft_s=0.1, itl_s=0.1, decode_tpot_s=0.1, decode_tok_s=rate,
                total_tok_s=rate, samples=4, gaps=40, mean_e2e_s=2.5, output_tokens=44)
        for rate in (mine, theirs)
    ]  # fmt: skip
    load = LoadFigures(load_s=1.0, weights_bytes=2.0**28, peak_device_bytes=3.0 * 2**30)
    card = arm("candidate", "npu", load=load).model_copy(
        update={"environment": {"accelerator": "Ascend910B3", "platform": "Linux aarch64"}}
    )
    return alignment(
        verdict, performance=Performance(candidate=both[0], reference=both[1], ratio={}),
        candidate=card,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("mine", "theirs", "said"),
    [
        (30.0, 10.0, "The candidate is 3.00 times as fast as the reference: 30 output tokens"),
        (10.0, 25.0, "The candidate takes 2.50 times as long as the reference: 10 output tokens"),
        (10.1, 10.0, "The candidate is as fast as the reference: 10.1 output tokens"),
        (None, 10.0, "is not known"),
        (0.0, 10.0, "is not known"),
    ],
)
def test_the_speed_is_told_in_words(mine: float | None, theirs: float, said: str) -> None:
    found = performance_view(timed(mine, theirs))
    assert said in found.speed.en
    assert (
        "candidate: npu on Ascend910B3, Linux aarch64; 2025-01-02 03:04 UTC." in found.where[0].en
    )
    assert len(found.where) == 2


def test_totals_latency_and_memory_are_in_page_and_markdown() -> None:
    for text in (Page(to_html([timed(30.0, 10.0)])).text, to_markdown([timed(30.0, 10.0)])):
        for word in ("output tokens", "44", "mean latency", "2.5 s", "3 GiB", "256 MiB"):
            assert word in text


def test_both_texts_stand_beside_each_other_with_tokens_and_seconds() -> None:
    one = prompt("二", text="什么是三元量化？", flip=3, bad=5, verdict="DRIFT").model_copy(
        update={"candidate_seconds": 1.5, "reference_seconds": None}
    )
    found = view(alignment("DRIFT", prompts=(prompt(), one))).texts
    assert found is not None
    assert [row.id for row in found.rows] == ["二", "capital"]
    row = found.rows[0]
    assert row.input == "什么是三元量化？"
    assert row.candidate != row.reference
    assert row.outcome.en == "equal up to token 3"
    assert row.counts.en == "candidate 24 tokens in 1.5 s, reference 24 tokens in —"


def test_many_are_folded_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MOST", 8)
    found = view(alignment(prompts=tuple(prompt(f"p{n}") for n in range(10)))).texts
    assert found is not None
    assert (len(found.rows), len(found.folded), found.left_out) == (6, 2, 2)


@pytest.mark.parametrize(
    ("replay", "key"), [("free", "reference"), ("forced-prefill", "prompt.context")]
)
def test_a_reference_that_was_forced_has_no_text_of_its_own(replay: Any, key: str) -> None:
    found = view(alignment(baseline=(arm("reference", replay=replay),))).texts
    assert found is not None
    assert found.reference == key
