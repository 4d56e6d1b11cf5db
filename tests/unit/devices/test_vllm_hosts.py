from __future__ import annotations

import os
from collections import namedtuple

import pytest

from harness.devices.vllm.hosts import interface_of, memory_name, threads_of_rank

Address = namedtuple("Address", "address")
INTERFACES = {
    "lo": [Address("127.0.0.1"), Address("::1")],
    "lan0": [Address("10.77.0.1"), Address("fe80::7c91%lan0"), Address("7e:91:e3:fd:cf:4a")],
    "wan7": [Address("10.77.0.10"), Address("2001:db8::7")],
}


@pytest.mark.parametrize(
    ("address", "name"),
    [
        ("127.0.0.1", "lo"),
        ("10.77.0.1", "lan0"),
        ("10.77.0.10", "wan7"),
        ("10.77.0.100", None),
        ("2001:db8::7", "wan7"),
        ("fe80::7c91", "lan0"),
        ("", None),
    ],
)
def test_the_interface_of_an_address_is_found(address: str, name: str | None) -> None:
    assert interface_of(address, INTERFACES) == name


@pytest.mark.parametrize(
    ("resources", "ranks", "share"),
    [
        ({"GPU": 1.0}, "2", 1),  # one of two ranks is here
        ({"GPU": 8.0}, "2", 2),
        ({"NPU": 4.0, "CPU": 192.0}, "16", 4),
        ({}, "3", 3),
        ({"GPU": 0.0}, "2", 2),
        ({}, "many", 1),
        ({}, "0", 1),
        ({"GPU": 4000.0}, "4000", 4000),
    ],
)
def test_ranks_of_one_host_share_its_cores(
    resources: dict[str, float], ranks: str, share: int
) -> None:
    cores = len(os.sched_getaffinity(0))
    assert threads_of_rank(resources, ranks) == max(1, cores // share)


def test_shared_memory_has_one_name_in_all_processes_that_share_it() -> None:
    assert memory_name() == memory_name()
    assert memory_name().isalnum()
