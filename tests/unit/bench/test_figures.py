"""Performance figures by their definitions."""

from __future__ import annotations

import numpy as np
import pytest
from factories import prompt, recording, run

from harness.alignment.figures import figures, performance
from harness.devices.base import Replay
from harness.recording.format import PromptRecord, Recording, RunTimings


def timed(name: str, ttft: float, gaps: tuple[float, ...], replay: Replay = "free") -> PromptRecord:
    n = len(gaps) + 1
    made = run(np.eye(n, 64, dtype=np.float32), list(range(n)), replay)
    timings = RunTimings(ttft_s=ttft, itl_s=gaps, e2e_s=ttft + sum(gaps))
    made = made.model_copy(update={"timings": timings})
    if replay == "free":
        return prompt(name, made)
    return prompt(name, forced=made)


def of(*prompts: PromptRecord, load: float | None = 2.0) -> Recording:
    return recording(prompts, load={} if load is None else {"load_s": load})


def test_medians_and_pooled_rates() -> None:
    found = figures(of(timed("a", 1.0, (0.1, 0.3)), timed("b", 3.0, (0.2,)), timed("c", 2.0, ())))
    assert found.load_s == 2.0
    assert found.ttft_s == 2.0
    assert found.itl_s == pytest.approx(0.2)
    assert found.decode_tpot_s == pytest.approx(0.2)
    assert found.decode_tok_s == pytest.approx(3 / 0.6)
    assert found.total_tok_s == pytest.approx(6 / 6.6)
    assert (found.samples, found.gaps) == (3, 3)


def test_a_prefill_has_no_rhythm() -> None:
    found = figures(of(timed("a", 1.0, (), "forced-prefill"), load=None))
    assert found.ttft_s is found.itl_s is found.total_tok_s is found.load_s is None
    assert found.samples == 0
    both = figures(of(timed("a", 1.0, (), "forced-prefill"), timed("b", 3.0, (0.5,))))
    assert both.ttft_s == 3.0


def test_a_clock_that_stands_still_divides_nothing() -> None:
    found = figures(of(timed("a", 0.0, (0.0, 0.0))))
    assert found.decode_tok_s is found.total_tok_s is None
    assert found.itl_s == 0.0


def test_ratios_are_candidate_over_reference() -> None:
    found = performance(of(timed("a", 1.0, (0.2,))), of(timed("a", 2.0, (0.1,)), load=None))
    assert found.ratio["ttft_s"] == 0.5
    assert found.ratio["itl_s"] == pytest.approx(2.0)
    assert found.ratio["decode_tok_s"] == pytest.approx(0.5)
    assert found.ratio["load_s"] is None
    assert set(found.ratio) == {
        "load_s",
        "ttft_s",
        "itl_s",
        "decode_tpot_s",
        "decode_tok_s",
        "total_tok_s",
        "mean_e2e_s",
    }
