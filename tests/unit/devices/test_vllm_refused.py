from __future__ import annotations

from typing import Any

import pytest

from harness.devices.vllm.refused import check_alone, check_rows
from harness.errors import DeviceError, UsageError


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
