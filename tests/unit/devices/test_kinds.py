"""What the entry of each device says, held against the devices themselves."""

from __future__ import annotations

import pytest

from harness.devices.hf.device import HfDevice
from harness.devices.kinds import (
    KINDS,
    REFERENCE_DEVICE,
    backend_of,
    backends_of,
    devices_help,
    kind_of,
    reference_for,
)
from harness.devices.server.device import ServerDevice
from harness.devices.vllm.device import VllmDevice
from harness.errors import UsageError

NAMES = [kind.name for kind in KINDS]


def test_every_name_leads_to_its_own_entry() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert [kind_of(name).name for name in NAMES] == NAMES


def test_an_unknown_device_names_those_there_are() -> None:
    with pytest.raises(UsageError) as refused:
        kind_of("npu9")
    assert all(name in str(refused.value) for name in ("'npu9'", *NAMES))


def test_the_families_run_where_they_say() -> None:
    assert backends_of("transformers") == {"hf-cpu": "cpu", "hf-gpu": "cuda", "hf-npu": "npu"}
    assert backends_of("vllm") == {"npu": "npu", "vllm-cpu": "cpu", "vllm-gpu": "cuda"}
    assert backends_of("server") == backends_of("fake") == {}


def test_a_recording_may_name_a_device_of_another_version() -> None:
    assert [backend_of(name) for name in ("npu", "server", "tpu9")] == ["npu", None, None]


def test_a_reference_has_a_model_where_the_candidate_has_one() -> None:
    assert REFERENCE_DEVICE == "hf-cpu"
    for kind in KINDS:
        reference = kind_of(reference_for(kind))
        assert reference.reference
        assert reference.needs_model == kind.needs_model
    assert {kind.name for kind in KINDS if not kind.needs_model} == {"fake", "fake-reference"}


def test_hosts_that_the_doctor_examines_in_full_are_those_with_ascend_cards() -> None:
    assert {k.name for k in KINDS if k.examined} == {k.name for k in KINDS if k.backend == "npu"}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_can_be_looked_into_is_what_has_a_trace(kind: object) -> None:
    classes = {"transformers": HfDevice, "vllm": VllmDevice, "server": ServerDevice}
    device = classes.get(kind.family)  # type: ignore[attr-defined]
    assert kind.traceable == hasattr(device, "trace")  # type: ignore[attr-defined]


def test_the_help_names_every_family_and_every_device_with_an_engine() -> None:
    assert devices_help() == (
        "Transformers: hf-cpu, hf-gpu, hf-npu. vLLM: npu, vllm-cpu, vllm-gpu. "
        "server: OpenAI-compatible. fake: no model."
    )


def test_an_option_is_checked_where_the_device_says_which_it_knows() -> None:
    kind_of("fake-reference").check_engine_args({"seed": "1"})
    kind_of("vllm-cpu").check_engine_args({"whatever": "1"})
    with pytest.raises(UsageError, match="fake-reference has no --engine-arg heat; it knows seed"):
        kind_of("fake-reference").check_engine_args({"seed": "1", "heat": "1"})
