"""How much of an error is a port's own: an excess that is said, and controls that hide
the noise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from factories import RNG, VOCABULARY, forced_recording, free_recording
from small_world import NOISE, arm, failing, gate, judged

from harness.alignment.align import compare
from harness.alignment.gates.ratio import EXCESS, excess_of
from harness.alignment.outcomes import ALIGNED, exit_status
from harness.alignment.result import Alignment
from harness.baseline.baseline import Baseline
from harness.baseline.controls import RatioLimit
from harness.baseline.floor import noise_floor


@pytest.mark.parametrize("seed", range(70, 74))
def test_an_error_of_1_3_times_is_aligned_and_says_so(seed: int) -> None:
    """Correct variations have not been that far: nothing is shown to be wrong, and a
    reader is told."""
    found = judged(arm(seed, noise=1.3 * NOISE))
    assert found.verdict == "EQUIVALENT"
    mine = gate(found, "error_ratio")
    assert mine.status == "WARN"
    assert "at most 1.5, but more than the 1.15 that controls and correct ports show" in (
        mine.sentence
    )
    assert mine.sentence in found.warnings


@pytest.mark.parametrize("seed", range(70, 74))
def test_an_error_as_the_references_is_not_spoken_of(seed: int) -> None:
    found = judged(arm(seed))
    for name in ("error_ratio", "error_ratio_prefill", "error_ratio_decode", "top_k_error_ratio"):
        assert gate(found, name).status == "PASS"
    assert not any("correct ports" in w for w in found.warnings)


def test_an_error_of_1_8_times_fails() -> None:
    assert "error_ratio" in failing(judged(arm(75, noise=1.8 * NOISE)))


def test_an_excess_is_what_neither_controls_nor_correct_ports_show() -> None:
    assert excess_of(RatioLimit()) == EXCESS
    assert excess_of(RatioLimit(shown=1.4)) == 1.4
    assert excess_of(RatioLimit(size=1.5)) == pytest.approx(1.5 * EXCESS)


# Wide arithmetic: what two paths of one engine share, another engine has not.

PROMPTS, POSITIONS, TINY = 24, 8, 1e-5
SHARED = math.sqrt(0.56)
OWN = math.sqrt(0.44)


def wide(own: int, shared: int | None, noise: float = 1.0) -> dict[str, np.ndarray]:
    """Rows in float32: the truth with an error of this engine and one of this path.

    Args:
        own, shared: seeds; another engine shares nothing.
    """
    mine, engine, made = RNG(own), None if shared is None else RNG(shared), {}
    for i in range(PROMPTS):
        truth = 3 * RNG(300 + i).standard_normal((POSITIONS, VOCABULARY))
        error = mine.standard_normal(truth.shape)
        if engine is not None:
            error = OWN * error + SHARED * engine.standard_normal(truth.shape)
        made[f"p{i}"] = (truth + TINY * noise * error).astype(np.float32)
    return made


def wide_baseline() -> Baseline:
    """The oracle is of the same dtype, and as rough: so the errors of reference and
    controls, of one engine, correlate at (1 + 0.56) / 2 = 0.78."""
    reference = free_recording(wide(1, shared=9), dtype="float32")
    return Baseline(
        reference,
        forced_recording(wide(4, shared=None), reference, dtype="float32"),
        {
            f"control-{s}": forced_recording(wide(s, shared=9), reference, dtype="float32")
            for s in (2, 3)
        },
    )


WIDE = wide_baseline()


def wide_judged(rows: dict[str, np.ndarray]) -> Alignment:
    return compare(forced_recording(rows, WIDE.reference, dtype="float32"), WIDE)


def test_what_controls_of_one_engine_hide_is_measured() -> None:
    floor = noise_floor(WIDE)
    assert floor is not None
    assert floor.limit.shared == pytest.approx(0.78, abs=0.02)
    assert floor.limit.hidden == pytest.approx(math.sqrt(0.5 / 0.22), rel=0.05)


@pytest.mark.parametrize("seed", range(80, 90))
def test_a_correct_independent_engine_is_not_failed(seed: int) -> None:
    """Its difference from the reference is 1.5 times that of the controls, and shifts of
    that size are as many as theirs."""
    found = wide_judged(wide(seed, shared=None))
    assert failing(found) == set()
    assert found.verdict in ALIGNED
    assert gate(found, "exceedance").status == "PASS"


@pytest.mark.parametrize("seed", range(80, 83))
def test_the_limit_of_a_ratio_is_wider_by_what_they_hide(seed: int) -> None:
    """1.5 * 1.5: twice the error is not shown to be wrong, and is spoken of."""
    found = wide_judged(wide(seed, shared=None, noise=math.sqrt(5.5)))
    mine = gate(found, "error_ratio")
    assert mine.limit == pytest.approx(1.5 * math.sqrt(0.5 / 0.22), rel=0.05)
    assert mine.value == pytest.approx(math.sqrt(6.5 / 2), rel=0.1)
    assert mine.status == "WARN"


@pytest.mark.parametrize("seed", range(80, 83))
def test_another_path_of_the_same_engine_is_aligned_too(seed: int) -> None:
    assert wide_judged(wide(seed, shared=9)).verdict in ALIGNED


@pytest.mark.parametrize("seed", range(80, 83))
def test_four_times_the_error_fails_all_the_same(seed: int) -> None:
    found = wide_judged(wide(seed, shared=None, noise=4.0))
    assert "error_ratio" in failing(found)
    assert exit_status(found.verdict) == 1
