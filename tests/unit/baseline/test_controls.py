"""A control that is a fault is none, nor is any beside a reference that is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from factories import RNG, VOCABULARY, Logits, bfloat16, forced_recording, free_recording

from harness.alignment.align import compare
from harness.baseline.baseline import Baseline
from harness.baseline.controls import control_ratio, disagreement
from harness.baseline.floor import noise_floor
from harness.baseline.folder import load_baseline
from harness.errors import BaselineError
from harness.recording.format import Recording, save_recording

TRUTH = {f"p{i}": 3 * RNG(60 + i).standard_normal((8, VOCABULARY)) for i in range(20)}


def arm(seed: int, noise: float = 0.05) -> dict[str, Logits]:
    random = RNG(seed)
    return {i: bfloat16(z + noise * random.standard_normal(z.shape)) for i, z in TRUTH.items()}


def baseline(*noises: float, reference_noise: float = 0.05, dtype: str = "bfloat16") -> Baseline:
    reference = free_recording(arm(1, reference_noise), dtype=dtype)
    exact = {i: z.astype("float32") for i, z in TRUTH.items()}
    controls = {
        f"control-{k}": forced_recording(arm(2 + k, noise), reference, dtype=dtype)
        for k, noise in enumerate(noises)
    }
    return Baseline(reference, forced_recording(exact, reference, dtype="float32"), controls)


def by_prefill(oracle: Recording | None) -> Recording:
    assert oracle is not None
    prompts = [
        p.model_copy(update={"forced": p.run.model_copy(update={"replay": "forced-prefill"})})
        for p in oracle.prompts
    ]
    return oracle.model_copy(update={"prompts": tuple(prompts)})


def said(found: Baseline, name: str = "control-0") -> str | None:
    assert found.oracle is not None
    return disagreement(found.controls[name], found.reference, found.oracle)


def test_the_ratio_is_that_of_the_noise() -> None:
    made = baseline(0.1)
    assert made.oracle is not None
    found = control_ratio(made.controls["control-0"], made.reference, made.oracle)
    assert found.value == pytest.approx(2.0, rel=0.1)
    assert found.prompts == 20


@pytest.mark.parametrize("noise", [0.04, 0.05, 0.06])
def test_a_control_of_the_references_noise_is_one(noise: float) -> None:
    assert said(baseline(noise)) is None


def test_a_control_of_five_times_the_noise_is_none() -> None:
    found = said(baseline(0.25))
    assert found is not None
    assert "times the reference's (99.9 % interval" in found


def test_a_reference_of_five_times_the_noise_has_no_control() -> None:
    found = said(baseline(0.05, reference_noise=0.25))
    assert found is not None
    assert "so this is not noise: one of the two is faulty" in found


def test_nothing_is_refused_in_float32_where_orders_of_summing_differ_by_more() -> None:
    assert said(baseline(0.25, dtype="float32")) is None


def test_a_candidate_hides_under_no_broken_control() -> None:
    """Three runner-ups 1.5 logits up, which the sound controls' noise never does."""
    broken = baseline(0.25, 0.05, 0.05)
    rows = arm(9)
    for name in ("p0", "p1", "p2"):
        second = rows[name][3].argsort()[-2]
        rows[name][3, second] += 1.5
    candidate = forced_recording(rows, broken.reference)
    assert compare(candidate, broken).verdict == "DIVERGENT"
    few = noise_floor(replace(broken, controls=dict(list(broken.controls.items())[:2])))
    assert few is None


def test_a_baseline_with_a_broken_control_is_not_loaded(tmp_path: Path) -> None:
    made = baseline(0.05, 0.05, 0.25)
    folder = tmp_path / "m" / "s" / "bfloat16"
    arms: dict[str, Recording] = {**dict(made.arms()), "oracle": by_prefill(made.oracle)}
    folder.mkdir(parents=True)
    for name, recording in arms.items():
        save_recording(recording, folder / f"{name}.json")
    with pytest.raises(BaselineError, match=r"control-2: its error is 5 times .*make the"):
        load_baseline(folder)
    (folder / "control-2.json").unlink()
    assert len(load_baseline(folder).controls) == 2
