"""Masks are compared position by position, and hide no fault of the rest."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from factories import (
    RNG,
    Logits,
    bfloat16,
    forced_recording,
    free_recording,
    prompt,
    run,
    told_run,
)

from harness.alignment.align import compare
from harness.alignment.result import Alignment, Gate
from harness.baseline.baseline import Baseline
from harness.recording.format import Recording, Run
from harness.statistics.noise import rms_error
from harness.statistics.rows import untold_masks

WIDTH, PROMPTS, POSITIONS = 512, 20, 5
TRUTH = {
    f"p{k}": 3 * RNG(11).standard_normal((POSITIONS, WIDTH)) + RNG(k).standard_normal(WIDTH)
    for k in range(PROMPTS)
}
#: Ids by prompt and position that are taken out.
Ids = Callable[[int, int], Sequence[int] | np.ndarray]
FILLS = [-100.0, -1e3, -1e4, -3.3895313892515355e38, -np.inf]
FORTY = tuple(range(5, 45))


def nothing(k: int, t: int) -> Sequence[int]:
    return ()


def forty(k: int, t: int) -> Sequence[int]:
    return FORTY


def one(k: int, t: int) -> Sequence[int]:
    return (5,)


def most(k: int, t: int) -> np.ndarray:
    return np.flatnonzero(np.arange(WIDTH) % 10 != 3)


def by_position(k: int, t: int) -> Sequence[int]:
    """What a grammar leaves out: other ids, and another number, in each row."""
    return range(5 + 7 * t + k, 25 + 9 * t + k)


def arm(
    seed: int, ids: Ids = nothing, fill: float = -1e4, scale: float = 1.0, noise: float = 0.05
) -> dict[str, Logits]:
    """Rows around the truth, rounded to bfloat16; without noise the oracle's."""
    random, made = RNG(seed), {}
    for k, (name, z) in enumerate(TRUTH.items()):
        found = scale * z + noise * random.standard_normal(z.shape)
        for t in range(POSITIONS):
            found[t, list(ids(k, t))] = fill
        made[name] = bfloat16(found) if noise else found.astype(np.float32)
    return made


def baseline(ids: Ids = nothing, fill: float = -1e4) -> Baseline:
    reference = free_recording(arm(1, ids, fill))
    oracle = forced_recording(arm(0, ids, fill, noise=0.0), reference, dtype="float32")
    controls = {
        f"control-{s}": forced_recording(arm(s, ids, fill), reference, created=f"2026-01-0{s}")
        for s in (2, 3)
    }
    return Baseline(reference, oracle, controls)


def candidate(rows: dict[str, Logits], against: Baseline) -> Recording:
    return forced_recording(rows, against.reference, device="npu", created="2026-01-09")


def judged(rows: dict[str, Logits], against: Baseline) -> Alignment:
    return compare(candidate(rows, against), against)


def gate(found: Alignment, name: str = "masks") -> Gate:
    return next(g for g in found.gates if g.name == name)


def of_before(made: Recording) -> Recording:
    """A recording that tells no masks."""

    def untold(one_run: Run | None) -> Run | None:
        if one_run is None:
            return None
        rows = replace(one_run.rows, **untold_masks(len(one_run.rows)))
        return one_run.model_copy(update={"rows": rows})

    prompts = tuple(
        p.model_copy(update={"free": untold(p.free), "forced": untold(p.forced)})
        for p in made.prompts
    )
    return made.model_copy(update={"prompts": prompts})


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("ids", [one, forty, most, by_position])
def test_masks_that_all_arms_share_are_no_fault(fill: float, ids: Ids) -> None:
    found = judged(arm(9, ids, fill), baseline(ids, fill))
    assert found.verdict in ("EQUIVALENT", "TOKEN_EXACT")
    assert (gate(found).status, gate(found).value) == ("PASS", 0.0)
    assert gate(found, "nonfinite").status == "PASS"
    assert f"{PROMPTS * POSITIONS} rows have masks" in gate(found).sentence


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("ids", [one, forty, most, by_position])
def test_a_fault_shows_beside_masks(fill: float, ids: Ids) -> None:
    against = baseline(ids, fill)
    scaled = judged(arm(9, ids, fill, scale=1.015), against)
    assert gate(scaled, "slope").status == "FAIL"
    noisy = judged(arm(9, ids, fill, noise=0.12), against)
    assert gate(noisy, "error_ratio").status == "FAIL"
    assert gate(noisy).status == "PASS"


@pytest.mark.parametrize("fill", FILLS)
@pytest.mark.parametrize("ids", [one, forty, most, by_position])
@pytest.mark.parametrize("side", ["candidate", "reference"])
def test_a_mask_of_one_side_alone_is_not_aligned(fill: float, ids: Ids, side: str) -> None:
    mine, theirs = (ids, nothing) if side == "candidate" else (nothing, ids)
    found = judged(arm(9, mine, fill), baseline(theirs, fill))
    assert found.verdict in ("DRIFT", "DIVERGENT")
    assert (gate(found).status, gate(found).value) == ("FAIL", float(PROMPTS * POSITIONS))
    counts = len(list(mine(0, 0))), len(list(theirs(0, 0)))
    assert f"position 0 of prompt p0: {counts[0]} " in gate(found).sentence
    assert gate(found).sentence.endswith(f"against {counts[1]}.")


def test_other_ids_of_equal_number_are_not_aligned() -> None:
    def shifted(k: int, t: int) -> Sequence[int]:
        return range(6, 46)

    found = judged(arm(9, shifted), baseline(forty))
    assert (found.verdict, gate(found).status) == ("DRIFT", "FAIL")
    assert "40 ids against 40" in gate(found).sentence


@pytest.mark.parametrize("fill", FILLS)
def test_one_id_more_at_one_position_is_not_aligned(fill: float) -> None:
    def more(k: int, t: int) -> Sequence[int]:
        return (*FORTY, 45) if (k, t) == (3, 2) else FORTY

    found = judged(arm(9, more, fill), baseline(forty, fill))
    assert found.verdict == "DRIFT"
    assert gate(found).sentence.startswith(f"1 of {PROMPTS * POSITIONS} rows masks other ids than ")
    assert "at position 2 of prompt p3: 41 ids against 40" in gate(found).sentence


def test_another_fill_at_the_same_ids_is_the_same_mask() -> None:
    found = judged(arm(9, forty, -np.inf), baseline(forty, -3.3895313892515355e38))
    assert (found.verdict, gate(found).status) == ("EQUIVALENT", "PASS")


def test_equal_rows_with_masks_of_infinity_are_bit_exact() -> None:
    against = baseline(forty, -np.inf)
    assert judged(arm(1, forty, -np.inf), against).verdict == "BIT_EXACT"


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_a_number_is_no_mask(bad: float) -> None:
    rows = arm(9, forty, -np.inf)
    rows["p4"][3, 200] = bad
    found = judged(rows, baseline(forty, -np.inf))
    assert (found.verdict, gate(found, "nonfinite").status) == ("DIVERGENT", "FAIL")
    assert gate(found, "nonfinite").value == 1.0
    assert gate(found).status == "PASS"


def test_a_row_without_any_logit_is_divergent() -> None:
    rows = arm(9)
    rows["p4"][3] = -np.inf
    assert judged(rows, baseline()).verdict == "DIVERGENT"


# --- sides that do not tell


@pytest.mark.parametrize("side", ["candidate", "reference", "both"])
def test_masks_of_recordings_of_before_are_not_judged(side: str) -> None:
    against = baseline()
    made = candidate(arm(9), against)
    if side != "candidate":
        against = replace(against, reference=of_before(against.reference))
    if side != "reference":
        made = of_before(made)
    found = compare(made, against)
    assert (found.verdict, gate(found).status, gate(found).value) == ("EQUIVALENT", "NOT_RUN", None)


def test_masks_that_an_older_baseline_cannot_hold_against_its_own_are_open() -> None:
    """They may be the model's or the candidate's alone."""
    against = baseline(forty)
    against = replace(against, reference=of_before(against.reference))
    found = judged(arm(9, forty), against)
    assert (found.verdict, gate(found).status) == ("INCONCLUSIVE", "INCONCLUSIVE")
    assert "--update-baselines" in gate(found).sentence


def test_a_server_tells_no_masks() -> None:
    against = baseline(forty)
    rows = arm(9, forty)
    prompts = [
        prompt(p.id, forced=told_run(rows[p.id], p.run.token_ids, "forced-decode"))
        for p in against.reference.prompts
    ]
    made = candidate(rows, against).model_copy(update={"prompts": tuple(prompts)})
    found = compare(made, against)
    assert gate(found).status == "NOT_RUN"
    assert "server" in gate(found).sentence
    assert found.verdict not in ("DRIFT", "DIVERGENT")


def test_the_noise_is_that_of_the_ids_that_are_not_masked() -> None:
    mine, truth = (run(arm(s, most, noise=n)["p0"]).rows for s, n in ((9, 0.05), (0, 0.0)))
    assert rms_error(mine, truth, WIDTH).mean() == pytest.approx(0.05, rel=0.25)
