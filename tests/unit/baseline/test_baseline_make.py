from __future__ import annotations

import io
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from harness.baseline.baseline import equals_reference
from harness.baseline.folder import load_baseline
from harness.baseline.make import LOWER_ISA, ArmPlan, Plan, arm_plans, arms_in_memory, make_baseline
from harness.devices.facts import EngineFacts
from harness.devices.spec import DeviceSpec
from harness.errors import BaselineError, HarnessError, UsageError
from harness.process.progress import Progress, Silent
from harness.recording.context import Context
from harness.recording.format import Recording, load_recording
from harness.suite.read import load_suite

REFERENCE = "baselines/fake/s/bfloat16/reference.json"


@pytest.fixture
def reference(project_folder: Path) -> Recording:
    return load_recording(REFERENCE)


def _plan(device: str = "fake", **changes: Any) -> Plan:
    fields = {"root": Path("other"), "suite_source": "s.yaml", **changes}
    spec = DeviceSpec(device, "fake", fields.pop("dtype", None))
    return Plan(spec, load_suite("s.yaml"), **fields)


def _arms(plan: Plan, reference: Recording) -> dict[str, ArmPlan]:
    return {arm.name: arm for arm in arm_plans(plan, reference)}


@pytest.mark.parametrize(("dtype", "has_prefill"), [("bfloat16", True), ("float32", False)])
def test_controls_take_paths_that_really_differ(
    reference: Recording, dtype: str, has_prefill: bool
) -> None:
    engine = EngineFacts(instruction_set="AVX512", matmul="native")
    made = reference.model_copy(update={"dtype": dtype, "engine": engine})
    arms = _arms(_plan("hf-cpu"), made)
    assert arms["oracle"].replay == "forced-prefill"
    assert arms["oracle"].dtype == "float32"
    assert arms["control-eager"].engine_args == {"attention": "eager"}
    assert arms["control-eager"].replay == "forced-decode"
    assert arms["control-isa"].environment == LOWER_ISA["AVX512"]
    assert ("control-prefill" in arms) == has_prefill
    assert {arm.dtype for name, arm in arms.items() if name != "oracle"} == {dtype}


def test_around_a_recording_every_arm_is_one_pass(reference: Recording) -> None:
    engine = EngineFacts(instruction_set="AVX2", matmul="widened")
    made = reference.model_copy(update={"engine": engine})
    arms = _arms(_plan("hf-cpu", context=Context.of(reference)), made)
    assert {arm.replay for arm in arms.values()} == {"forced-prefill"}
    assert arms["control-native"].engine_args == {"matmul": "native"}
    assert arms["control-isa"].environment == LOWER_ISA["AVX2"]


def test_another_processor_has_no_lower_instruction_set(reference: Recording) -> None:
    engine = EngineFacts(instruction_set="DEFAULT", matmul="native")
    made = reference.model_copy(update={"engine": engine})
    assert "control-isa" not in _arms(_plan("hf-cpu"), made)
    made = reference.model_copy(update={"engine": EngineFacts(instruction_set="AVX512")})
    assert "control-isa" not in _arms(_plan("hf-gpu"), made)


@pytest.mark.parametrize("device", ["hf-cpu", "hf-gpu"])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_split_linears_are_spare_controls_of_any_processor_and_architecture(
    reference: Recording, device: str, dtype: str
) -> None:
    engine = EngineFacts(instruction_set="DEFAULT", attention="eager")
    made = reference.model_copy(update={"dtype": dtype, "engine": engine})
    spare = [arm for arm in arm_plans(_plan(device), made) if arm.spare]
    assert [arm.name for arm in spare] == ["control-split-2", "control-split-3"]
    assert [arm.engine_args for arm in spare] == [{"matmul": "split-2"}, {"matmul": "split-3"}]


def with_spares(*seeds: str) -> Callable[[Plan, Recording], list[ArmPlan]]:
    """The oracle, controls of these seeds, where 0 is the reference's own, and two spare ones."""

    def plans(plan: Plan, made: Recording) -> list[ArmPlan]:
        arms = [ArmPlan("oracle", "forced-prefill", "float32")]
        arms += [
            ArmPlan(f"control-{k}", "forced-decode", made.dtype, {"seed": seed})
            for k, seed in enumerate(seeds)
        ]
        return arms + [
            ArmPlan(f"control-spare-{n}", "forced-decode", made.dtype, {"seed": n}, spare=True)
            for n in ("8", "9")
        ]

    return plans


@pytest.mark.parametrize(
    ("seeds", "kept"),
    [
        (("1", "2"), {"control-0", "control-1"}),
        (("0", "2"), {"control-1", "control-spare-8"}),
        (("0", "0"), {"control-spare-8", "control-spare-9"}),
    ],
)
@pytest.mark.parametrize("in_memory", [False, True])
def test_spare_controls_are_made_where_others_are_too_few(
    reference: Recording,
    monkeypatch: pytest.MonkeyPatch,
    seeds: tuple[str, ...],
    kept: set[str],
    in_memory: bool,
) -> None:
    monkeypatch.setattr("harness.baseline.make.arm_plans", with_spares(*seeds))
    if in_memory:
        made = arms_in_memory(_plan(context=Context.of(reference)), Silent())
    else:
        made = make_baseline(_plan(), Silent())
    assert set(made.controls) == kept


def test_arms_in_memory_write_nothing(reference: Recording, project_folder: Path) -> None:
    before = sorted(project_folder.rglob("*"))
    made = arms_in_memory(_plan(context=Context.of(reference)), Silent())
    assert sorted(project_folder.rglob("*")) == before
    assert made.folder is None
    assert sorted(made.controls) == ["control-seed-1", "control-seed-2"]
    assert [p.run.token_ids for p in made.reference.prompts] == [
        p.run.token_ids for p in reference.prompts
    ]


def test_an_arm_with_nan_is_refused_in_memory_too(
    reference: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(plan: Plan, made: Recording) -> list[ArmPlan]:
        return [ArmPlan("control-c", "forced-decode", made.dtype, {"fault": "nan"})]

    monkeypatch.setattr("harness.baseline.make.arm_plans", broken)
    with pytest.raises(BaselineError, match=r"control-c: prompt .* has NaN or infinite logits"):
        arms_in_memory(_plan(context=Context.of(reference)), Silent())


def test_arms_can_be_left_out(reference: Recording) -> None:
    plan = _plan(context=Context.of(reference))
    made = arms_in_memory(plan, Silent(), oracle=False, controls=False)
    assert (made.oracle, made.controls) == (None, {})


def test_output_tokens_of_another_model_are_refused(reference: Recording) -> None:
    asked = reference.prompts[0].prompt_token_ids
    plan = _plan(context=Context("x", {"alpha": (asked, (1, 40_960))}))
    with pytest.raises(UsageError, match="prompt alpha: the output token 40960 is outside"):
        arms_in_memory(plan, Silent())


def test_too_few_controls_are_refused_and_nothing_takes_the_place(
    reference: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def equal_but_one(plan: Plan, made: Recording) -> list[ArmPlan]:
        oracle = ArmPlan("oracle", "forced-prefill", "float32")
        seeds = {"control-a": {"seed": "0"}, "control-b": {"seed": "3"}}
        return [
            oracle,
            *(ArmPlan(name, "forced-decode", made.dtype, args) for name, args in seeds.items()),
        ]

    monkeypatch.setattr("harness.baseline.make.arm_plans", equal_but_one)
    with pytest.raises(BaselineError, match="only 1 control shows the reference"):
        make_baseline(_plan(), Silent())
    assert not Path("other/fake/s/bfloat16").exists()


@pytest.mark.process
def test_an_arm_with_an_environment_runs_in_a_process_of_its_own(
    reference: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def in_child(plan: Plan, made: Recording) -> list[ArmPlan]:
        oracle, first, _ = arm_plans(plan, made)
        args = {"seed": "2"}
        child = ArmPlan("control-child", "forced-decode", made.dtype, args, {"SOME_FLAG": "1"})
        return [oracle, first, child]

    seen: list[str | None] = []
    popen = subprocess.Popen

    def spy(command: list[str], **options: Any) -> subprocess.Popen[str]:
        seen.append(options["env"].get("SOME_FLAG"))
        return popen(command, **options)

    monkeypatch.setattr("harness.baseline.make.arm_plans", in_child)
    monkeypatch.setattr("harness.baseline.make.subprocess.Popen", spy)
    said = io.StringIO()
    made = make_baseline(_plan("fake-reference"), Progress(said))
    assert seen == ["1"]
    assert said.getvalue().count("fake-reference: loading the model") == 4  # the child's too
    assert "SOME_FLAG" not in os.environ
    again = load_recording("baselines/fake/s/bfloat16/control-seed-2.json")
    child = made.controls["control-child"]
    assert [p.run.rows.digest.tobytes() for p in child.prompts] == [
        p.run.rows.digest.tobytes() for p in again.prompts
    ]


@pytest.mark.process
def test_a_child_that_fails_is_named_with_its_environment(
    reference: Recording, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(plan: Plan, made: Recording) -> list[ArmPlan]:
        args = {"fault": "unheard-of"}
        return [ArmPlan("control-c", "forced-decode", made.dtype, args, {"SOME_FLAG": "1"})]

    monkeypatch.setattr("harness.baseline.make.arm_plans", broken)
    with pytest.raises(
        HarnessError, match=r"control-c: its process ended with status 2; .*SOME_FLAG=1"
    ):
        make_baseline(_plan(), Silent())


def test_a_made_baseline_loads_again(reference: Recording) -> None:
    made = make_baseline(_plan(), Silent())
    assert made.folder == Path("other/fake/s/bfloat16")
    assert load_baseline(made.folder).reference.model == made.reference.model


@pytest.mark.usefixtures("project_folder")
def test_controls_that_equal_the_reference_make_no_baseline(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def twins(plan: Plan, reference: Recording) -> list[ArmPlan]:
        oracle, *controls = arm_plans(plan, reference)
        return [oracle, *(replace(arm, engine_args={"seed": "0"}) for arm in controls)]

    monkeypatch.setattr("harness.baseline.make.arm_plans", twins)
    said = io.StringIO()
    with pytest.raises(BaselineError, match=r"only 0 controls show.*a noise floor needs 2"):
        make_baseline(_plan(), Progress(said))
    assert "control-seed-1: bit-equal to reference here" in said.getvalue()


def test_a_float32_baseline_around_tokens_says_that_it_has_no_noise(
    reference: Recording,
) -> None:
    """Reference and oracle are the same pass there."""
    said = io.StringIO()
    made = make_baseline(_plan(dtype="float32", context=Context.of(reference)), Progress(said))
    assert made.oracle is not None
    assert equals_reference(made.oracle, made.reference)
    assert "reference and oracle are the same pass" in said.getvalue()
    said = io.StringIO()
    make_baseline(_plan(context=Context.of(reference)), Progress(said))
    assert "same pass" not in said.getvalue()
