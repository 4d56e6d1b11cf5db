from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from harness.baseline.baseline import Baseline, check_arm, equals_reference
from harness.baseline.folder import (
    find_baselines,
    is_baseline,
    leftovers,
    load_baseline,
    put_in_place,
    recover,
    resolve,
    staging_folder,
)
from harness.errors import BaselineError, ChecksumError, HarnessError
from harness.model.settings import GenerationSettings
from harness.recording.format import (
    PromptRecord,
    Recording,
    SuiteFacts,
    load_recording,
    save_recording,
)

FOLDER = Path("baselines/fake/s/bfloat16")
OTHER_SETTINGS = GenerationSettings(max_new_tokens=7, ignore_eos=True, eos_token_ids=(0,))


@pytest.fixture
def baseline(project_folder: Path) -> Baseline:
    return load_baseline(FOLDER)


def _copy(recording: Recording, **changes: object) -> Recording:
    return recording.model_copy(update=changes)


def test_all_arms_are_read_in_their_roles(baseline: Baseline) -> None:
    assert [name for name, _ in baseline.arms()] == [
        "reference",
        "oracle",
        "control-seed-1",
        "control-seed-2",
    ]
    assert baseline.oracle is not None
    assert (baseline.reference.dtype, baseline.oracle.dtype) == ("bfloat16", "float32")
    assert baseline.file("oracle") == "baselines/fake/s/bfloat16/oracle.json"
    assert replace(baseline, folder=None).file("oracle") == ""


def test_a_place_without_a_baseline_says_how_to_make_one(project_folder: Path) -> None:
    for place in (Path("nowhere"), Path(".")):
        with pytest.raises(BaselineError, match="harness baseline make"):
            load_baseline(place)


def test_a_path_is_a_baseline_or_a_recording(baseline: Baseline) -> None:
    assert isinstance(resolve(FOLDER), Baseline)
    assert isinstance(resolve(FOLDER / "oracle.json"), Recording)


def test_a_damaged_arm_is_refused(baseline: Baseline) -> None:
    file = FOLDER / "control-seed-1.json"
    file.write_text(file.read_text("utf-8").replace('"beta"', '"bets"'), "utf-8")
    with pytest.raises(ChecksumError, match=r"control-seed-1\.json"):
        load_baseline(FOLDER)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"suite": SuiteFacts(name="s", digest="0")}, "its suite is not the reference's"),
        ({"settings": OTHER_SETTINGS}, "its settings is not the reference's"),
        ({"dtype": "float16"}, "its dtype is not the reference's"),
    ],
)
def test_an_arm_that_answers_another_question_is_refused(
    baseline: Baseline, changes: dict[str, object], told: str
) -> None:
    save_recording(_copy(baseline.controls["control-seed-1"], **changes), FOLDER / "control-x.json")
    with pytest.raises(BaselineError, match=f"{FOLDER}: control-x: {told}"):
        load_baseline(FOLDER)


def test_an_arm_of_other_weights_is_refused(baseline: Baseline) -> None:
    oracle = baseline.oracle
    assert oracle is not None
    other = _copy(oracle, model=oracle.model.model_copy(update={"weights": "f" * 64}))
    with pytest.raises(BaselineError, match="oracle: its weights"):
        check_arm("oracle", other, baseline.reference)


@pytest.mark.parametrize("field", ["config", "tokenizer"])
def test_an_arm_of_another_model_is_refused(baseline: Baseline, field: str) -> None:
    control = baseline.controls["control-seed-1"]
    other = _copy(control, model=control.model.model_copy(update={field: None}))
    with pytest.raises(BaselineError, match=f"control-a: its {field}"):
        check_arm("control-a", other, baseline.reference)


def test_one_control_is_no_noise_floor(baseline: Baseline) -> None:
    (FOLDER / "control-seed-2.json").unlink()
    with pytest.raises(BaselineError, match=r"a control-\*.json is missing.*baseline make"):
        load_baseline(FOLDER)


def test_an_arm_with_a_prompt_less_is_refused(baseline: Baseline) -> None:
    control = baseline.controls["control-seed-1"]
    with pytest.raises(BaselineError, match="its prompts"):
        check_arm("control-a", _copy(control, prompts=control.prompts[1:]), baseline.reference)


def test_an_arm_on_other_tokens_is_refused(baseline: Baseline) -> None:
    control = baseline.controls["control-seed-1"]
    first = control.prompts[0]
    assert first.forced is not None
    tokens = (first.forced.token_ids[0] + 1, *first.forced.token_ids[1:])
    run = first.forced.model_copy(update={"token_ids": tokens})
    strange = (first.model_copy(update={"forced": run}), *control.prompts[1:])
    with pytest.raises(BaselineError, match="prompt alpha does not follow the reference's tokens"):
        check_arm("control-a", _copy(control, prompts=strange), baseline.reference)


def test_a_control_equal_to_the_reference_shows_no_noise(baseline: Baseline) -> None:
    assert equals_reference(baseline.reference, baseline.reference)
    assert not equals_reference(baseline.controls["control-seed-1"], baseline.reference)
    with pytest.raises(BaselineError, match="bit-equal to the reference's"):
        check_arm("control-a", baseline.reference, baseline.reference)


def test_a_finished_staging_folder_takes_the_place_whole(baseline: Baseline) -> None:
    staging = staging_folder(FOLDER)
    shutil.copytree(FOLDER, staging)
    (staging / "control-seed-2.json").unlink()
    put_in_place(FOLDER)
    assert not (FOLDER / "control-seed-2.json").exists()
    assert os.listdir(FOLDER.parent) == ["bfloat16"]


def test_a_swap_that_fails_leaves_the_old_baseline(
    baseline: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging, rename = staging_folder(FOLDER), os.rename
    shutil.copytree(FOLDER, staging)

    def refuse(source: Path, target: Path) -> None:
        if source == staging:
            raise PermissionError(1, "Operation not permitted")
        rename(source, target)

    monkeypatch.setattr("harness.baseline.folder.os.rename", refuse)
    with pytest.raises(HarnessError, match="cannot be written"):
        put_in_place(FOLDER)
    assert equals_reference(load_baseline(FOLDER).reference, baseline.reference)


def test_a_swap_cut_off_in_the_middle_is_undone(baseline: Baseline) -> None:
    os.rename(FOLDER, FOLDER.with_name(".bfloat16.old"))
    assert is_baseline(FOLDER)
    assert os.listdir(FOLDER.parent) == ["bfloat16"]
    recover(FOLDER)  # nothing more to do
    assert equals_reference(load_baseline(FOLDER).reference, baseline.reference)


def test_a_swap_cut_off_before_its_last_step_does_not_stop_the_next(baseline: Baseline) -> None:
    shutil.copytree(FOLDER, FOLDER.with_name(".bfloat16.old"))
    shutil.copytree(FOLDER, staging_folder(FOLDER))
    put_in_place(FOLDER)
    assert os.listdir(FOLDER.parent) == ["bfloat16"]


def test_hidden_folders_are_leftovers_and_no_baselines(baseline: Baseline) -> None:
    root = Path("baselines")
    for name in (".bfloat16.old", ".float16.making"):
        shutil.copytree(FOLDER, FOLDER.with_name(name))
    assert find_baselines(root) == [FOLDER]
    assert [path.name for path in leftovers(root)] == [".bfloat16.old", ".float16.making"]
    assert load_recording(FOLDER / "reference.json").device == "fake-reference"


def test_a_control_of_another_device_is_refused(baseline: Baseline) -> None:
    control = _copy(baseline.controls["control-seed-1"], device="fake")
    with pytest.raises(BaselineError, match="device is not the reference's"):
        check_arm("control-seed-1", control, baseline.reference)


def test_an_oracle_by_decode_steps_is_refused(baseline: Baseline) -> None:
    assert baseline.oracle is not None
    stepwise = tuple(
        _copy_prompt(p, forced=p.run.model_copy(update={"replay": "forced-decode"}))
        for p in baseline.oracle.prompts
    )
    with pytest.raises(BaselineError, match="not made by forced-prefill"):
        check_arm("oracle", _copy(baseline.oracle, prompts=stepwise), baseline.reference)


def _copy_prompt(prompt: PromptRecord, **changes: object) -> PromptRecord:
    return prompt.model_copy(update=changes)


def test_one_control_under_two_names_is_one(baseline: Baseline) -> None:
    shutil.copy(FOLDER / "control-seed-1.json", FOLDER / "control-seed-2.json")
    with pytest.raises(BaselineError, match="hold the same rows"):
        load_baseline(FOLDER)
