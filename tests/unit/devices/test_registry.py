from __future__ import annotations

import sys

import pytest

from harness.devices.base import Device
from harness.devices.registry import (
    DEVICES,
    REFERENCE_DEVICES,
    is_fake,
    open_target,
    parse_engine_args,
)
from harness.errors import UsageError


def test_an_unknown_device_names_those_there_are() -> None:
    with pytest.raises(UsageError) as refused:
        open_target("npu9", "smollm2")
    assert all(name in str(refused.value) for name in ("'npu9'", *DEVICES))


def test_references_are_devices() -> None:
    assert set(REFERENCE_DEVICES) <= set(DEVICES)
    assert REFERENCE_DEVICES[0] == "hf-cpu"


@pytest.mark.parametrize("name", ["fake", "fake-reference"])
def test_a_fake_needs_no_model_and_no_torch(name: str) -> None:
    loaded = set(sys.modules)
    target = open_target(name, "no such model", dtype="float16", engine_args={"seed": "3"})
    assert not {"torch", "transformers"} & (set(sys.modules) - loaded)
    assert is_fake(name)
    assert isinstance(target.device, Device)
    assert (target.device.name, target.slug, target.dtype) == (name, "fake", "float16")


def test_real_devices_are_no_fakes() -> None:
    assert [name for name in DEVICES if is_fake(name)] == ["fake", "fake-reference"]


def test_engine_args_are_read_as_pairs() -> None:
    assert parse_engine_args([]) == {}
    assert parse_engine_args(["a=1", "b=x=y", "c="]) == {"a": "1", "b": "x=y", "c": ""}


@pytest.mark.parametrize(
    ("pairs", "told"),
    [
        (["a"], "'a' is not of the form K=V"),
        (["=1"], "is not of the form K=V"),
        (["a=1", "a=2"], "a is given twice"),
    ],
)
def test_a_wrong_pair_is_refused(pairs: list[str], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        parse_engine_args(pairs)


@pytest.mark.parametrize(
    ("name", "size", "told"),
    [
        ("npu", 0, "--batch-size must be at least 1, not 0"),
        ("hf-cpu", 8, "hf-cpu runs one request at a time; --batch-size 8 is for npu, vllm-cpu"),
        ("fake", 2, "fake runs one request at a time"),
    ],
)
def test_a_batch_size_that_a_device_cannot_run_is_refused_before_the_model_is_sought(
    name: str, size: int, told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        open_target(name, "/no/such/model", batch_size=size)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        ({"atention": "eager"}, "hf-cpu has no --engine-arg atention; it knows attention, matmul"),
        ({"threads": "four"}, "threads=four is not a number"),
        ({"threads": "-1"}, "threads=-1 is not a number"),
    ],
)
def test_options_of_transformers_are_checked_before_the_model_is_sought(
    args: dict[str, str], told: str
) -> None:
    with pytest.raises(UsageError, match=told):
        open_target("hf-cpu", "/no/such/model", engine_args=args)


@pytest.mark.parametrize(
    ("args", "dtype", "told"),
    [
        ({"delay": "nan"}, "bfloat16", "delay"),
        ({"delay": "-1"}, "bfloat16", "delay"),
        ({"fault": "fire"}, "bfloat16", "none, scale, nan, inf, unsteady, hang, stuck"),
        ({"heat": "1"}, "bfloat16", "it knows seed, fault, delay"),
        ({}, "int8", "bfloat16, float16, float32"),
    ],
)
def test_options_of_the_fake_are_checked(args: dict[str, str], dtype: str, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        open_target("fake", "fake", dtype=dtype, engine_args=args)


@pytest.mark.parametrize("size", ["0", "-2", "many", ""])
def test_a_group_size_that_is_none_is_refused_before_the_model_is_looked_for(size: str) -> None:
    with pytest.raises(UsageError, match="qat_group_size"):
        open_target("hf-cpu", "no such model", engine_args={"qat_group_size": size})
