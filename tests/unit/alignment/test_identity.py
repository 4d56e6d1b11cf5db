"""An arm of the baseline is no candidate, under no name; a second run of a device is one."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from factories import again, fake_baseline, fake_record, fake_suite, nearly

from harness.alignment.align import compare
from harness.alignment.allow import Allow
from harness.alignment.identity import arm_posing
from harness.alignment.outcomes import ALIGNED
from harness.baseline.baseline import Baseline
from harness.devices.facts import LoadFigures
from harness.devices.fake import FakeDevice
from harness.errors import UsageError
from harness.messages.message import message
from harness.recording.context import Context
from harness.recording.format import Recording, Run, load_recording, save_recording
from harness.recording.recorder import Options

SUITE = fake_suite(prompts=18, tokens=8)
BASELINE = fake_baseline(SUITE)
REFERENCE = BASELINE.reference
CONTEXT = Context.of(REFERENCE)
SHIPPED = Path(__file__).parents[2] / "data" / "instruction_sets" / "avx512"


def timed(made: Recording, change: Callable[[float], float]) -> Recording:
    """With every time of every run changed."""

    def edit(run: Run | None) -> Run | None:
        if run is None:
            return None
        times = run.timings
        update = {
            "ttft_s": change(times.ttft_s),
            "itl_s": tuple(map(change, times.itl_s)),
            "e2e_s": change(times.e2e_s),
        }
        return run.model_copy(update={"timings": times.model_copy(update=update)})

    prompts = tuple(
        p.model_copy(update={"free": edit(p.free), "forced": edit(p.forced)}) for p in made.prompts
    )
    return made.model_copy(update={"prompts": prompts})


def renamed(made: Recording) -> Recording:
    return made.model_copy(update={"device": "npu", "created": "2030-01-01T00:00:00+00:00"})


@pytest.mark.parametrize("name", [name for name, _ in BASELINE.arms()])
def test_each_arm_is_refused_by_its_name(name: str) -> None:
    arm = dict(BASELINE.arms())[name]
    for candidate in (arm, renamed(arm)):
        with pytest.raises(UsageError, match=f"the baseline's own arm {name} ") as caught:
            compare(candidate, BASELINE, allow=Allow(dtype=True), candidate_file="npu.json")
        assert str(caught.value).startswith("npu.json: ")
        assert caught.value.exit_status == 2


def test_a_recording_that_is_held_against_itself_is_told() -> None:
    for candidate in (REFERENCE, renamed(REFERENCE)):
        found = compare(candidate, REFERENCE)
        assert found.verdict == "BIT_EXACT"
        assert found.remarks[0].message == message("warning.itself")
    second = fake_record(FakeDevice(), SUITE, Options(context=CONTEXT))
    keys = [r.message.key for r in compare(second, REFERENCE).remarks if r.message]
    assert "warning.itself" not in keys


def test_a_second_run_of_the_same_device_is_bit_exact() -> None:
    second = fake_record(FakeDevice(), SUITE, Options(context=CONTEXT))
    for candidate in (second, again(REFERENCE), renamed(second)):
        assert compare(candidate, BASELINE).verdict == "BIT_EXACT"
        assert compare(candidate, REFERENCE).verdict == "BIT_EXACT"


def test_a_second_run_of_a_control_is_aligned() -> None:
    control = fake_record(FakeDevice(seed=1), SUITE, Options("forced-decode", CONTEXT))
    assert compare(control, BASELINE).verdict in ALIGNED


def test_a_control_may_be_held_against_a_baseline_without_it() -> None:
    kept = {name: arm for name, arm in BASELINE.controls.items() if name != "control-1"}
    control = BASELINE.controls["control-1"]
    found = compare(control, replace(BASELINE, controls={**kept, "control-9": another()}))
    assert found.verdict in ALIGNED


def another() -> Recording:
    return fake_record(FakeDevice(seed=9), SUITE, Options("forced-decode", CONTEXT))


def test_the_json_in_another_order_is_the_same_recording(tmp_path: Path) -> None:
    save_recording(REFERENCE, tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text("utf-8"))
    plain = {k: v for k, v in document.items() if not k.startswith("checksum")}
    plain["prompts"].reverse()
    shuffled = Recording.model_validate_json(json.dumps(dict(sorted(plain.items(), reverse=True))))
    assert arm_posing(renamed(shuffled), BASELINE) == "reference"


@pytest.fixture(scope="module")
def shipped() -> Baseline:
    """Arms of a real device, with times of a real device."""
    arms = {path.stem: load_recording(path) for path in sorted(SHIPPED.glob("*.json"))}
    controls = {name: arm for name, arm in arms.items() if name.startswith("control-")}
    return Baseline(arms["reference"], arms["oracle"], controls)


@pytest.mark.parametrize("digits", [5, 4, 3, 2])
@pytest.mark.parametrize("arm", ["reference", "control-eager", "control-prefill"])
def test_rounded_times_hide_no_copy(shipped: Baseline, arm: str, digits: int) -> None:
    mine = dict(shipped.arms())[arm]
    assert arm_posing(renamed(timed(mine, lambda t: round(t, digits))), shipped) == arm
    cut = timed(mine, lambda t: int(t * 10**digits) / 10**digits)
    assert arm_posing(renamed(cut), shipped) == arm


def test_times_of_three_digits_each_hide_no_copy(shipped: Baseline) -> None:
    copy = timed(shipped.reference, lambda t: float(f"{t:.3g}"))
    assert arm_posing(renamed(copy), shipped) == "reference"


@pytest.mark.parametrize("times", [0.0, 1.1])
def test_times_that_were_made_up_hide_no_copy_of_the_same_moment(
    shipped: Baseline, times: float
) -> None:
    copy = timed(shipped.reference, lambda t: t * times)
    assert arm_posing(copy, shipped) == "reference"
    # With another moment it may be a second run.
    assert arm_posing(renamed(copy), shipped) is None
    loaded = copy.model_copy(update={"load": LoadFigures(load_s=0.7143848949)})
    assert arm_posing(loaded, shipped) is None


def test_a_few_prompts_of_an_arm_among_others_are_found() -> None:
    """Two broken prompts, in whose place the reference's own stand."""
    port = fake_record(FakeDevice(seed=7), SUITE, Options(context=CONTEXT))
    mixed = port.model_copy(update={"prompts": (*REFERENCE.prompts[:3], *port.prompts[3:])})
    assert arm_posing(port, BASELINE) is None
    assert arm_posing(renamed(mixed), BASELINE) == "reference"


def test_a_part_of_an_arm_is_found() -> None:
    part = REFERENCE.model_copy(update={"prompts": REFERENCE.prompts[4:5]})
    assert arm_posing(renamed(part), BASELINE) == "reference"


def test_the_rows_of_a_replay_laid_out_as_a_free_run_are_found() -> None:
    control = BASELINE.controls["control-2"]
    prompts = tuple(
        p.model_copy(update={"free": p.forced.model_copy(update={"replay": "free"})})
        for p in control.prompts
        if p.forced is not None
    )
    laid_out = renamed(control.model_copy(update={"prompts": prompts}))
    assert arm_posing(laid_out, BASELINE) == "control-2"


def test_what_cannot_be_compared_says_that_first() -> None:
    other = REFERENCE.model_copy(update={"dtype": "float16"})
    assert compare(other, BASELINE).verdict == "NOT_COMPARABLE"


def same_error_of(candidate: Recording, baseline: Baseline = BASELINE) -> list[str]:
    keys = [r.message.key for r in compare(candidate, baseline).remarks if r.message is not None]
    return [key for key in keys if key == "warning.same_error"]


def test_an_arm_with_noise_added_is_warned_of() -> None:
    assert same_error_of(nearly(REFERENCE, 1e-6))


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_a_correct_port_shares_no_arms_error(seed: int) -> None:
    candidate = fake_record(FakeDevice(seed=seed), SUITE, Options(context=CONTEXT))
    assert not same_error_of(candidate)


def test_a_second_run_of_the_same_bits_says_so_by_its_verdict() -> None:
    candidate = again(fake_record(FakeDevice(), SUITE, Options(context=CONTEXT)))
    assert not same_error_of(candidate)
