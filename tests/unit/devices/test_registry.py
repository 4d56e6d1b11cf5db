from __future__ import annotations

import sys

import pytest

from harness.devices.base import Device, TraceableDevice
from harness.devices.kinds import KINDS
from harness.devices.registry import open_target
from harness.devices.spec import DeviceSpec
from harness.errors import UsageError


@pytest.mark.parametrize("name", [kind.name for kind in KINDS if not kind.needs_model])
def test_a_fake_needs_no_model_and_no_torch(name: str) -> None:
    loaded = set(sys.modules)
    spec = DeviceSpec(name, "no such model", "float16", engine_args={"seed": "3"})
    target = open_target(spec)
    assert not {"torch", "transformers"} & (set(sys.modules) - loaded)
    assert isinstance(target.device, Device)
    assert not isinstance(target.device, TraceableDevice)
    assert (target.device.name, target.slug, target.dtype) == (name, "fake", "float16")


@pytest.mark.parametrize("kind", [k for k in KINDS if k.needs_model], ids=lambda k: k.name)
def test_every_other_device_looks_for_its_model(kind: object) -> None:
    from harness.errors import ModelError

    with pytest.raises(ModelError, match="/no/such/model"):
        open_target(DeviceSpec(kind.name, "/no/such/model"))  # type: ignore[attr-defined]


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
        open_target(DeviceSpec("hf-cpu", "/no/such/model", engine_args=args))


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
        open_target(DeviceSpec("fake", "fake", dtype, engine_args=args))


@pytest.mark.parametrize("size", ["0", "-2", "many", ""])
def test_a_group_size_that_is_none_is_refused_before_the_model_is_looked_for(size: str) -> None:
    spec = DeviceSpec("hf-cpu", "no such model", engine_args={"qat_group_size": size})
    with pytest.raises(UsageError, match="qat_group_size"):
        open_target(spec)
