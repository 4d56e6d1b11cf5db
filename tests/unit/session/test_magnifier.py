from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from factories import fake_record, fake_suite

from harness.alignment.align import compare
from harness.baseline.baseline import Baseline
from harness.baseline.folder import load_baseline
from harness.baseline.make import Plan, make_baseline
from harness.devices.fake import FakeDevice, fake_subject
from harness.devices.registry import Target
from harness.devices.spec import DeviceSpec
from harness.errors import BaselineError, DeviceError, UsageError
from harness.process.progress import Silent
from harness.recording.context import Context
from harness.recording.format import Recording, save_recording
from harness.recording.recorder import Options
from harness.session.magnifier import (
    MagnifierPlan,
    is_finite,
    magnified,
    run_magnifier,
    with_magnifier,
)
from harness.statistics.rows import RowStatistics

SUITE = fake_suite(prompts=8, tokens=8)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory: pytest.TempPathFactory) -> Baseline:
    """A bfloat16 baseline of fakes on disk."""
    root = tmp_path_factory.mktemp("baselines")
    return make_baseline(Plan(DeviceSpec("fake-reference"), SUITE, root), Silent())


def candidate(device: FakeDevice, against: Baseline) -> Recording:
    return fake_record(device, SUITE, Options(context=Context.of(against.reference)))


def plan(baseline: Baseline, tmp_path: Path, **faults: object) -> MagnifierPlan:
    def opened(spec: DeviceSpec) -> Target:
        dtype = spec.dtype or ""
        device = FakeDevice(dtype, seed=5, **faults)  # type: ignore[arg-type]
        return Target(device, fake_subject(), "fake", dtype)

    return MagnifierPlan(
        spec=DeviceSpec("fake"),
        suite=SUITE,
        suite_source="unit",
        baseline=baseline,
        candidate=candidate(FakeDevice(seed=5), baseline),
        open_target=opened,
        recordings=tmp_path,
        stem="run",
    )


def test_a_correct_engine_is_not_warned_of(baseline: Baseline, tmp_path: Path) -> None:
    found = run_magnifier(plan(baseline, tmp_path), Silent())
    assert (found.dtype, found.status) == ("float32", "PASS")
    assert found.error_ratio is not None
    assert found.error_ratio.value == pytest.approx(1.0, abs=0.2)
    assert found.limit is not None
    assert found.limit >= 8
    assert found.sentence.count("the error is") == 2
    for dtype in ("float16", "float32"):
        assert (tmp_path / f"run-magnified-{dtype}.json").is_file()


def test_where_float32_cannot_be_had_float16_stands(baseline: Baseline, tmp_path: Path) -> None:
    def opened(spec: DeviceSpec) -> Target:
        dtype = spec.dtype or ""
        if dtype == "float32":
            raise DeviceError("the engine has no float32")
        return Target(FakeDevice(dtype, seed=5), fake_subject(), "fake", dtype)

    found = run_magnifier(replace(plan(baseline, tmp_path), open_target=opened), Silent())
    assert (found.dtype, found.status) == ("float16", "PASS")
    assert found.error_ratio is not None
    assert found.error_ratio.value == pytest.approx(1.0, abs=0.1)
    assert found.sentence.endswith("Not applicable in float32: the engine has no float32.")


def test_what_float16_hides_float32_shows(baseline: Baseline) -> None:
    """Noise times 30 in float32 alone, as an error below float16's rounding looks."""
    assert baseline.folder is not None
    plan = Plan(DeviceSpec("fake-reference", dtype="float32"), SUITE, baseline.folder.parents[2])
    against = make_baseline(plan, Silent())
    assert against.oracle is not None
    mine = fake_record(
        FakeDevice("float32", seed=5),
        SUITE,
        Options("forced-decode", Context.of(against.reference)),
    )
    prompts = [
        p.model_copy(
            update={
                "forced": p.run.model_copy(
                    update={"rows": scaled(p.run.rows, truth.run.rows, 30.0)}
                )
            }
        )
        for p, truth in zip(mine.prompts, against.oracle.prompts, strict=True)
    ]
    found = magnified(mine.model_copy(update={"prompts": tuple(prompts)}), against)
    assert (found.dtype, found.status) == ("float32", "WARN")
    assert found.error_ratio is not None
    assert found.error_ratio.value == pytest.approx(30, rel=0.3)


def test_in_float32_the_error_ratios_alone_tell(baseline: Baseline, tmp_path: Path) -> None:
    """Noise times 8 fails other gates there; a correct engine's order of sums does as well."""

    def opened(spec: DeviceSpec) -> Target:
        dtype = spec.dtype or ""
        fault = "scale" if dtype == "float32" else "none"
        return Target(FakeDevice(dtype, seed=5, fault=fault), fake_subject(), "fake", dtype)

    made = replace(plan(baseline, tmp_path), open_target=opened)
    found = run_magnifier(made, Silent())
    assert (found.dtype, found.status) == ("float32", "PASS")
    assert found.error_ratio is not None
    assert found.error_ratio.value == pytest.approx(8, rel=0.2)
    assert any(gate.status == "FAIL" for gate in found.gates)


def test_its_baseline_is_made_beside_the_runs_own_on_the_same_tokens(
    baseline: Baseline, tmp_path: Path
) -> None:
    run_magnifier(plan(baseline, tmp_path), Silent())
    assert baseline.folder is not None
    beside = load_baseline(baseline.folder.parent / "float16")
    assert beside.reference.dtype == "float16"
    mine, theirs = Context.of(beside.reference), Context.of(baseline.reference)
    assert mine.tokens == theirs.tokens


def test_a_larger_error_is_warned_of(baseline: Baseline, tmp_path: Path) -> None:
    found = run_magnifier(plan(baseline, tmp_path, fault="scale"), Silent())
    assert found.status == "WARN"
    assert "times the reference's over the whole vocabulary" in found.sentence


def test_an_error_below_the_verdicts_limit_is_warned_of_too(baseline: Baseline) -> None:
    """1.3 times: within 1.5, and more than any control shows."""
    against = beside(baseline)
    mine = candidate(FakeDevice("float16", seed=5), against)
    oracle = against.oracle
    assert oracle is not None
    louder = tuple(
        p.model_copy(
            update={
                "free": None,
                "forced": p.on(truth.run.token_ids).model_copy(
                    update={
                        "replay": "forced-decode",
                        "rows": scaled(p.on(truth.run.token_ids).rows, truth.run.rows, 1.3),
                    }
                ),
            }
        )
        for p, truth in zip(mine.prompts, oracle.prompts, strict=True)
    )
    found = magnified(mine.model_copy(update={"prompts": louder}), against)
    assert found.error_ratio is not None
    assert found.error_ratio.value == pytest.approx(1.3, abs=0.1)
    assert found.status == "WARN"


def beside(baseline: Baseline) -> Baseline:
    """The same arms as a float16 baseline would have."""
    assert baseline.folder is not None
    root = baseline.folder.parents[2]
    context = Context.of(baseline.reference)
    return make_baseline(
        Plan(DeviceSpec("fake-reference", dtype="float16"), SUITE, root, context), Silent()
    )


def scaled(rows: RowStatistics, truth: RowStatistics, factor: float) -> RowStatistics:
    sketch = truth.sketch + factor * (rows.sketch - truth.sketch)
    digest = np.zeros_like(rows.digest)
    return replace(rows, sketch=sketch.astype(np.float32), digest=digest)


def test_a_run_in_float16_is_its_own_magnifier(baseline: Baseline, tmp_path: Path) -> None:
    own = replace(baseline, reference=baseline.reference.model_copy(update={"dtype": "float16"}))
    found = run_magnifier(replace(plan(baseline, tmp_path), baseline=own), Silent())
    assert found.status == "NOT_RUN"
    assert "Not applicable in float16: the run itself is in float16" in found.sentence


def test_what_is_not_finite_in_float16_is_not_applicable(baseline: Baseline) -> None:
    against = beside(baseline)
    rows = against.reference.prompts[0].run.rows
    bad = replace(rows, nonfinite=np.ones_like(rows.nonfinite))
    first = against.reference.prompts[0]
    run = first.run.model_copy(update={"rows": bad})
    kind = "free" if first.free is not None else "forced"
    prompts = (first.model_copy(update={kind: run}), *against.reference.prompts[1:])
    broken = replace(against, reference=against.reference.model_copy(update={"prompts": prompts}))
    assert is_finite(against)
    assert not is_finite(broken)
    found = magnified(candidate(FakeDevice("float16", seed=5), against), broken)
    assert found.status == "NOT_RUN"
    assert found.sentence.startswith("Not applicable in float16")


def test_an_engine_without_float16_goes_on_in_float32(baseline: Baseline, tmp_path: Path) -> None:
    def opened(spec: DeviceSpec) -> Target:
        dtype = spec.dtype or ""
        if dtype == "float16":
            raise DeviceError("the engine has no float16")
        return Target(FakeDevice(dtype, seed=5), fake_subject(), "fake", dtype)

    found = run_magnifier(replace(plan(baseline, tmp_path), open_target=opened), Silent())
    assert found.dtype == "float32"
    assert found.status in ("PASS", "WARN")


def test_an_engine_that_runs_in_no_other_dtype_shows_nothing(
    baseline: Baseline, tmp_path: Path
) -> None:
    def opened(spec: DeviceSpec) -> Target:
        raise DeviceError(f"no memory for {spec.dtype}")

    found = run_magnifier(replace(plan(baseline, tmp_path), open_target=opened), Silent())
    assert found.status == "INCONCLUSIVE"
    assert "no memory for float16" in found.sentence


def test_another_checkpoint_makes_no_baseline_that_would_hide_its_fault(
    baseline: Baseline, tmp_path: Path
) -> None:
    lone = replace(baseline, folder=tmp_path / "root/fake/unit/bfloat16")
    asked = plan(lone, tmp_path)
    other = asked.candidate.model.model_copy(update={"weights": "9" * 64})
    changed = asked.candidate.model_copy(update={"model": other})
    found = run_magnifier(replace(asked, candidate=changed), Silent())
    assert found.status == "NOT_RUN"
    assert "harness baseline make --device fake-reference" in found.sentence
    assert "--dtype float16" in found.sentence
    assert not (tmp_path / "root/fake/unit/float16").exists()


def test_compare_adds_it_from_a_recording(baseline: Baseline, tmp_path: Path) -> None:
    against = beside(baseline)
    own = candidate(FakeDevice(seed=5), baseline)
    closer = tmp_path / "closer.json"
    save_recording(candidate(FakeDevice("float16", seed=5, fault="scale"), against), closer)
    assert baseline.folder is not None
    found = with_magnifier(compare(own, baseline), closer, baseline.folder)
    assert found.magnifier is not None
    assert found.magnifier.status == "WARN"
    assert found.magnifier.sentence in found.warnings
    assert found.verdict == compare(own, baseline).verdict


def test_compare_refuses_a_recording_that_magnifies_nothing(
    baseline: Baseline, tmp_path: Path
) -> None:
    own = candidate(FakeDevice(seed=5), baseline)
    save_recording(own, tmp_path / "own.json")
    assert baseline.folder is not None
    with pytest.raises(UsageError, match="record it with --dtype float16"):
        with_magnifier(compare(own, baseline), tmp_path / "own.json", baseline.folder)


def test_compare_without_a_float16_baseline_is_one_line(baseline: Baseline, tmp_path: Path) -> None:
    against = beside(baseline)
    save_recording(candidate(FakeDevice("float16", seed=5), against), tmp_path / "c.json")
    own = compare(candidate(FakeDevice(seed=5), baseline), baseline)
    with pytest.raises(BaselineError, match="no baseline here"):
        with_magnifier(own, tmp_path / "c.json", tmp_path / "elsewhere/bfloat16")
