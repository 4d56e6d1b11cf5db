"""Another CPU is another device: no row has the baseline's bits, and it is right.

On recordings that were made once; see tests/data/instruction_sets/README.md.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from harness.alignment.align import compare
from harness.alignment.result import Alignment
from harness.baseline.baseline import Baseline
from harness.baseline.folder import load_baseline
from harness.recording.format import Recording, load_recording
from harness.statistics.rows import bit_equal

DATA = Path(__file__).parents[2] / "data" / "instruction_sets"
BASELINE = load_baseline(DATA / "avx512")
RESTRICTED = BASELINE.controls["control-isa"]
OTHER_CPU = load_recording(DATA / "avx2.json")


def without_it(baseline: Baseline) -> Baseline:
    """The restricted run is a control of the baseline; it does not judge itself."""
    kept = {name: arm for name, arm in baseline.controls.items() if arm is not RESTRICTED}
    return replace(baseline, controls=kept)


def equal_rows(candidate: Recording) -> int:
    count = 0
    for prompt in BASELINE.reference.prompts:
        mine = candidate.prompt(prompt.id)
        assert mine is not None
        equal = bit_equal(mine.on(prompt.run.token_ids).rows, prompt.run.rows)
        assert equal is not None
        count += int(equal.sum())
    return count


def flips(found: Alignment) -> int:
    return sum(
        a != b
        for p in found.prompts
        for a, b in zip(p.positions.reference_token, p.positions.candidate_token, strict=True)
    )


@pytest.mark.parametrize(
    ("candidate", "baseline", "flipped"),
    [(RESTRICTED, without_it(BASELINE), 3), (OTHER_CPU, BASELINE, 4)],
    ids=["restricted", "other CPU"],
)
def test_avx2_is_equivalent_to_avx512_though_no_row_is_bit_equal(
    candidate: Recording, baseline: Baseline, flipped: int
) -> None:
    found = compare(candidate, baseline)
    assert found.verdict == "EQUIVALENT"
    assert found.positions == 222
    assert equal_rows(candidate) == 0
    assert flips(found) == flipped
    assert {gate.name for gate in found.gates if gate.status in ("FAIL", "WARN")} == set()


def test_the_recordings_say_what_ran() -> None:
    assert BASELINE.reference.engine.instruction_set == "AVX512"
    assert RESTRICTED.engine.instruction_set == OTHER_CPU.engine.instruction_set == "AVX2"
    assert RESTRICTED.environment["ONEDNN_MAX_CPU_ISA"] == "AVX2"
    assert RESTRICTED.environment["ATEN_CPU_CAPABILITY"] == "avx2"
    assert RESTRICTED.environment["processor"] == BASELINE.reference.environment["processor"]
    assert "ONEDNN_MAX_CPU_ISA" not in OTHER_CPU.environment
