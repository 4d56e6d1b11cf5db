"""The judgement end to end, on devices without a model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from factories import again, arms, fake_baseline, fake_record, fake_suite

from harness.alignment.align import compare
from harness.alignment.outcomes import exit_status
from harness.alignment.result import Alignment, Gate, load_alignment, save_alignment
from harness.baseline.baseline import Baseline, check_arm, equals_reference
from harness.devices.fake import FakeDevice
from harness.errors import BaselineError, ChecksumError
from harness.recording.context import Context
from harness.recording.format import Recording, load_recording, save_recording
from harness.recording.recorder import Options
from harness.statistics.rows import concatenate

SUITE = fake_suite(prompts=6, tokens=8)
BASELINE = fake_baseline(SUITE)
CONTEXT = Context.of(BASELINE.reference)


def candidate(**options: object) -> Recording:
    device = FakeDevice(**options)  # type: ignore[arg-type]
    return fake_record(device, SUITE, Options(context=CONTEXT, repeats=2))


def gate(alignment: Alignment, name: str) -> Gate:
    return next(g for g in alignment.gates if g.name == name)


def warned(alignment: Alignment) -> list[str]:
    return list(alignment.warnings)


def clean(alignment: Alignment) -> bool:
    sentences = [alignment.sentence, *(g.sentence for g in alignment.gates), *warned(alignment)]
    return not any(word in ("None", "nan", "inf") for s in sentences for word in s.split())


def test_the_baseline_holds_together() -> None:
    for name, arm in BASELINE.arms():
        check_arm(name, arm, BASELINE.reference)
    assert not any(equals_reference(c, BASELINE.reference) for c in BASELINE.controls.values())


def test_the_same_engine_is_bit_exact() -> None:
    found = compare(candidate(), BASELINE)
    assert found.verdict == "BIT_EXACT"
    assert found.classes == {"EXACT": 48}
    assert found.error_ratio.value == 1.0
    assert {g.name for g in found.gates if g.status != "PASS"} == {
        "error_ratio_prefill",
        "error_ratio_decode",
    }
    assert all(p.verdict == "BIT_EXACT" for p in found.prompts)
    assert clean(found)


@pytest.mark.parametrize("seed", [3, 4, 5, 6])
def test_another_correct_engine_is_aligned(seed: int) -> None:
    found = compare(candidate(seed=seed), BASELINE)
    assert found.verdict in ("EQUIVALENT", "TOKEN_EXACT")
    assert found.error_ratio.value == pytest.approx(1.0, abs=0.1)
    assert found.positions == 48
    assert exit_status(found.verdict) == 0
    flips = found.classes.get("NEAR_TIE", 0) + found.classes.get("TIE", 0)
    assert (found.verdict == "EQUIVALENT") == (flips > 0)
    assert clean(found)


def test_eight_times_the_noise_is_not_aligned() -> None:
    found = compare(candidate(seed=5, fault="scale"), BASELINE)
    assert found.verdict in ("DIVERGENT", "DRIFT")
    assert found.error_ratio.value == pytest.approx(8.0, rel=0.1)
    assert gate(found, "error_ratio").status == "FAIL"
    assert gate(found, "point_guard").status == "FAIL"
    assert found.sentence.count("error") == 1
    assert "FAIL at the limit of 1.5" in found.sentence
    assert clean(found)


def test_nan_logits_are_divergent_and_the_missing_ratio_has_its_reason() -> None:
    found = compare(candidate(fault="nan"), BASELINE)
    assert found.verdict == "DIVERGENT"
    assert "6 of 48 rows hold NaN or infinite logits" in found.sentence
    assert found.error_ratio.value is None
    ratio = gate(found, "error_ratio")
    assert ratio.status == "NOT_RUN"
    assert "every prompt has a row that is not finite" in ratio.sentence
    assert found.classes["NONFINITE"] == 6
    assert clean(found)


def test_an_unsteady_engine_within_the_noise_is_warned_of() -> None:
    found = compare(candidate(fault="unsteady"), BASELINE)
    assert gate(found, "determinism").status == "WARN"
    assert gate(found, "determinism").sentence in warned(found)
    assert found.verdict in ("EQUIVALENT", "TOKEN_EXACT")


def test_repeats_beyond_the_noise_are_non_deterministic() -> None:
    steady = candidate(seed=5)
    first = steady.repeats[0]
    differences = [{"position": 1, "shift": 9.0}]
    wild = first.model_validate(
        {**first.model_dump(), "rows_equal": first.rows_compared - 1, "differences": differences}
    )
    found = compare(steady.model_copy(update={"repeats": (wild,)}), BASELINE)
    assert found.verdict == "NON_DETERMINISTIC"
    assert "by up to 9 logits" in found.sentence
    assert exit_status(found.verdict) == 1


def test_without_a_replay_positions_are_missing() -> None:
    made = fake_record(FakeDevice(seed=5, fault="scale"), SUITE)
    quiet = fake_record(FakeDevice(seed=5), SUITE)
    for recording in (made, quiet):
        found = compare(recording, BASELINE)
        coverage = gate(found, "coverage")
        assert coverage.value == found.positions / 48
        if found.positions < 48:
            assert coverage.status == "INCONCLUSIVE"
            assert "record with --context" in coverage.sentence
    assert compare(made, BASELINE).positions < 48


def test_a_run_that_is_longer_than_asked_for_is_not_aligned() -> None:
    made = candidate()
    longer = []
    for record in made.prompts:
        rows = concatenate([record.run.rows, record.run.rows[:1]])
        free = record.run.model_copy(
            update={
                "rows": rows,
                "token_ids": (*record.run.token_ids, 5),
                "margins": (*record.run.margins, 0.1),
            }
        )
        longer.append(record.model_copy(update={"free": free}))
    found = compare(made.model_copy(update={"prompts": tuple(longer)}), BASELINE)
    assert found.verdict in ("DRIFT", "DIVERGENT")
    assert "6 runs are longer than the limit" in gate(found, "stops").sentence
    assert "6 prompts were stopped elsewhere" in gate(found, "coverage").sentence
    assert "--context" not in gate(found, "coverage").sentence


def test_a_candidate_without_a_decode_step_is_warned_of() -> None:
    forced = fake_record(FakeDevice(seed=5), SUITE, Options("forced-prefill", CONTEXT))
    assert any("decode steps were not judged" in line for line in warned(compare(forced, BASELINE)))
    assert not any(
        "decode steps were not judged" in line for line in warned(compare(candidate(), BASELINE))
    )


def test_prompts_that_were_not_run_are_said_to_be_missing() -> None:
    only = Options(context=CONTEXT, prompt_ids=frozenset({"p1", "p2", "p3"}))
    found = compare(fake_record(FakeDevice(), SUITE, only), BASELINE)
    assert found.verdict == "INCONCLUSIVE"
    assert found.positions == 24
    assert "24 of 48 positions of the baseline were judged: 3 prompts were not run" in (
        found.sentence
    )
    assert "--context" not in found.sentence


def test_a_single_recording_has_no_noise_to_judge_by() -> None:
    same = compare(candidate(), BASELINE.reference)
    assert same.verdict == "BIT_EXACT"
    other = compare(candidate(seed=5), BASELINE.reference)
    assert other.verdict == "INCONCLUSIVE"
    assert "the baseline has no oracle to measure it against" in other.sentence
    assert other.error_ratio.value is None
    assert clean(other)


@pytest.mark.parametrize(
    ("baseline", "reason"),
    [
        (Baseline(BASELINE.reference, None, BASELINE.controls), "no oracle"),
        (Baseline(BASELINE.reference, BASELINE.oracle), "no oracle and controls"),
    ],
)
def test_half_a_baseline_is_inconclusive_and_says_why(baseline: Baseline, reason: str) -> None:
    found = compare(candidate(seed=5), baseline)
    assert found.verdict == "INCONCLUSIVE"
    assert reason in found.sentence


@pytest.mark.parametrize("by_prefill", [True, False])
def test_a_reference_that_equals_the_oracle_has_no_noise(by_prefill: bool) -> None:
    """As one made with ``--context`` in float32 does: it is the same pass."""
    options = Options("forced-prefill", CONTEXT) if by_prefill else Options()
    wide = fake_record(FakeDevice("float32"), SUITE, options)
    forced = Options("forced-prefill" if by_prefill else "forced-decode", Context.of(wide))
    baseline = Baseline(wide, fake_record(FakeDevice("float32"), SUITE, forced))
    found = compare(again(wide), baseline)
    assert found.verdict == "BIT_EXACT"
    reason = "in float32 by prefill" if by_prefill else "has no error against the oracle"
    for name in ("error_ratio", "error_ratio_prefill", "top_k_error_ratio"):
        assert reason in gate(found, name).sentence


def test_a_single_prompt_has_no_interval() -> None:
    suite = fake_suite(prompts=1, tokens=8)
    baseline = fake_baseline(suite)
    made = fake_record(FakeDevice(seed=5), suite, Options(context=Context.of(baseline.reference)))
    found = compare(made, baseline)
    assert found.verdict == "INCONCLUSIVE"
    assert found.error_ratio.low is None
    assert "too few prompts for an interval" in gate(found, "error_ratio").sentence
    assert clean(found)


@pytest.mark.parametrize("fault", ["none", "scale", "nan", "unsteady"])
def test_an_alignment_comes_back_from_its_file(tmp_path: Path, fault: str) -> None:
    path = tmp_path / "a.json"
    found = compare(candidate(seed=5, fault=fault), BASELINE, reproduce=("harness compare a b",))
    save_alignment(found, path)
    assert load_alignment(path) == found
    document = json.loads(path.read_text(encoding="utf-8"))
    assert {
        *("verdict", "error_ratio", "gates", "positions", "prompts", "comparability"),
        *("candidate", "baseline", "performance"),
    } <= set(document)
    assert set(document["error_ratio"]) == {"value", "low", "high"}
    assert {"name", "status", "value", "threshold"} <= set(document["gates"][0])
    assert {
        *("id", "verdict", "tokens_compared", "first_divergence"),
        *("class", "margin", "shift", "tolerance"),
    } <= set(document["prompts"][0])
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f'"{found.verdict}"', '"BIT_EXACT"', 1), encoding="utf-8")
    with pytest.raises(ChecksumError, match="verdict"):
        load_alignment(path)


def test_a_judgement_from_files_is_the_judgement_from_memory(tmp_path: Path) -> None:
    made = candidate(seed=5, fault="scale")
    save_recording(made, tmp_path / "a.json")
    a, b = (compare(r, BASELINE) for r in (made, load_recording(tmp_path / "a.json")))
    assert a.model_dump(exclude={"created"}) == b.model_dump(exclude={"created"})


def test_arms_are_listed_by_role() -> None:
    found = compare(candidate(seed=5), BASELINE)
    assert [arm.role for arm in found.baseline] == ["reference", "oracle", "control", "control"]
    assert found.candidate.role == "candidate"
    assert found.reference is not None
    assert found.reference.replay == "free"


@pytest.mark.parametrize(
    ("name", "change", "problem"),
    [
        ("oracle", {"dtype": "bfloat16"}, "dtype"),
        ("control-0", {"dtype": "float32"}, "dtype"),
        (
            "control-0",
            {"settings": {"max_new_tokens": 5, "ignore_eos": True, "eos_token_ids": [0]}},
            "settings",
        ),
        ("control-0", {"prompts": 1}, "prompts"),
    ],
)
def test_an_arm_that_answers_another_question_is_refused(
    name: str, change: dict[str, object], problem: str
) -> None:
    baseline = arms()
    arm = dict(baseline.arms())[name]
    if "prompts" in change:
        change = {"prompts": arm.prompts[:-1]}
    with pytest.raises(BaselineError, match=f"{name}: its {problem}"):
        check_arm(name, arm.model_copy(update=change), baseline.reference)


def test_an_arm_on_other_prompt_tokens_is_refused() -> None:
    baseline = arms()
    control = baseline.controls["control-0"]
    first = control.prompts[0].model_copy(update={"prompt_token_ids": (9, 9)})
    moved = control.model_copy(update={"prompts": (first, *control.prompts[1:])})
    with pytest.raises(BaselineError, match="prompt p0 does not follow"):
        check_arm("control-0", moved, baseline.reference)


def test_a_control_that_equals_the_reference_and_one_with_nan_are_refused() -> None:
    equal = fake_record(FakeDevice(), SUITE, Options("forced-decode", CONTEXT))
    with pytest.raises(BaselineError, match="bit-equal"):
        check_arm("control-x", equal, BASELINE.reference)
    broken = fake_record(FakeDevice(fault="nan"), SUITE, Options("forced-decode", CONTEXT))
    with pytest.raises(BaselineError, match="NaN or infinite"):
        check_arm("control-x", broken, BASELINE.reference)


def test_a_candidate_is_never_better_than_its_worst_gate() -> None:
    for options in ({"seed": 5}, {"seed": 5, "fault": "scale"}, {"fault": "nan"}):
        found = compare(candidate(**options), BASELINE)
        held = not {"FAIL", "INCONCLUSIVE"} & {g.status for g in found.gates}
        assert held == (exit_status(found.verdict) == 0)
