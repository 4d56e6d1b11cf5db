from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.devices.vllm.refused import check_alone, check_reading, check_rows
from harness.errors import DeviceError, UsageError
from harness.model.model import Model


@pytest.mark.parametrize(
    ("asked", "variables", "workers", "setting"),
    [
        ({"speculative_config": {"method": "ngram"}}, {}, False, "speculative_config"),
        ({"additional_config": {"enable_reduce_sample": True}}, {}, True, "enable_reduce_sample"),
        (
            {"additional_config": {"finegrained_tp_config": {"lmhead_tensor_parallel_size": 2}}},
            {},
            False,
            "lmhead_tensor_parallel_size",
        ),
        ({}, {"VLLM_ASCEND_ENABLE_FLASHCOMM1": "1"}, True, "VLLM_ASCEND_ENABLE_FLASHCOMM1=1"),
        ({"additional_config": {"enable_flashcomm1": True}}, {}, True, "enable_flashcomm1"),
    ],
)
def test_a_setting_that_splits_rows_is_named(
    asked: dict[str, Any], variables: dict[str, str], workers: bool, setting: str
) -> None:
    with pytest.raises(UsageError, match=f"^npu: with {setting} rows would not hold the raw"):
        check_rows("npu", asked, variables, workers=workers)


@pytest.mark.parametrize(
    ("asked", "variables", "workers"),
    [
        ({}, {}, True),
        ({"speculative_config": None}, {}, False),
        ({"additional_config": {"enable_reduce_sample": False}}, {}, True),
        ({"additional_config": {"enable_flashcomm1": True}}, {}, False),
        ({}, {"VLLM_ASCEND_ENABLE_FLASHCOMM1": "1"}, False),
        ({}, {"VLLM_ASCEND_ENABLE_FLASHCOMM1": "0"}, True),
    ],
)
def test_settings_that_leave_rows_whole_are_taken(
    asked: dict[str, Any], variables: dict[str, str], workers: bool
) -> None:
    check_rows("npu", asked, variables, workers=workers)


def test_a_second_engine_of_one_process_is_refused_where_the_first_left_its_settings() -> None:
    own = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    with pytest.raises(DeviceError, match="unset VLLM_ENABLE_V1_MULTIPROCESSING=0"):
        check_alone("npu", own, 1, workers=False)
    check_alone("npu", own, 0, workers=False)
    check_alone("npu", own, 1, workers=True)
    check_alone("npu", {"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}, 1, workers=False)
    check_alone("vllm-cpu", own, 1, workers=False)


def engine_reads(**fields: Any) -> SimpleNamespace:
    return SimpleNamespace(to_dict=lambda: {"model_type": "llama", **fields})


@pytest.fixture
def checkpoint(tmp_path: Path) -> Model:
    """As Transformers 5 writes it."""
    content = {
        "model_type": "llama",
        "rope_parameters": {"rope_theta": 100000.0, "rope_type": "default"},
    }
    (tmp_path / "config.json").write_text(json.dumps(content))
    return Model("five", str(tmp_path))


def test_an_engine_that_reads_another_rope_base_is_refused(
    checkpoint: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        __import__("sys").modules, "transformers", SimpleNamespace(__version__="4.57.6")
    )
    # vLLM puts what Transformers 4 reads into the field of Transformers 5.
    read = engine_reads(rope_theta=10000.0, rope_parameters={"rope_theta": 10000.0})
    with pytest.raises(DeviceError) as refused:
        check_reading("npu", checkpoint, read, {})
    said = str(refused.value)
    assert "says rope_theta 100,000, but Transformers 4.57.6 of this engine reads 10,000;" in said
    check_reading("npu", checkpoint, read, {"hf_overrides": {"rope_theta": 10000.0}})


@pytest.mark.parametrize(
    "fields",
    [
        {"rope_theta": 100000.0, "rope_scaling": None},
        {"rope_parameters": {"rope_theta": 100000, "rope_type": "default"}},
        {"rope_theta": 100000.0, "rope_parameters": {"rope_theta": 100000.0}},
    ],
)
def test_another_spelling_of_the_same_base_is_taken(
    checkpoint: Model, fields: dict[str, Any]
) -> None:
    check_reading("npu", checkpoint, engine_reads(**fields), {})


def test_two_kinds_of_layers_are_compared_each(tmp_path: Path) -> None:
    two = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    (tmp_path / "config.json").write_text(json.dumps({"rope_parameters": two}))
    model = Model("two", str(tmp_path))
    check_reading("npu", model, engine_reads(rope_parameters=two), {})
    swapped = {**two, "sliding_attention": {"rope_theta": 1e6}}
    with pytest.raises(DeviceError, match=r"says rope_theta 10,000, .* reads 1,000,000;"):
        check_reading("npu", model, engine_reads(rope_parameters=swapped), {})
