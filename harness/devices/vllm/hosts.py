"""What ranks on several hosts need, in each process that Ray starts for them.

On one host none of it does harm. What a host's owner has set for it, where Ray was started, wins.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from harness.devices.cores import allowed

#: Tells those processes how many ranks there are.
RANKS = "HARNESS_RANKS"
#: By what a node of Ray counts the ranks that it takes.
PLACES = ("GPU", "NPU")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MEMORY = Path("/dev/shm")  # noqa: S108 - it is only named


def prepare() -> None:
    """Set the addresses, the interface and the threads of this host's ranks.

    Without it Gloo listens at the address of the host's own name, which often is the loopback's,
    and Ray gives a worker one thread.
    """
    psutil, ray = (importlib.import_module(name) for name in ("psutil", "ray"))
    address = str(ray.util.get_node_ip_address())
    found = {"VLLM_HOST_IP": address}
    interface = interface_of(address, psutil.net_if_addrs())
    if interface is not None:
        found["GLOO_SOCKET_IFNAME"] = interface
    here = ray.get_runtime_context().get_node_id()
    resources = {node["NodeID"]: node["Resources"] for node in ray.nodes()}
    ranks = os.environ.get(RANKS, "1")
    found["OMP_NUM_THREADS"] = str(threads_of_rank(resources.get(here, {}), ranks))
    for key, value in found.items():
        os.environ.setdefault(key, value)


def prepare_cpu() -> None:
    """As ``prepare``, for vLLM's CPU engine."""
    prepare()
    name_resource()
    share_memory_on_a_host()


def interface_of(address: str, interfaces: Mapping[str, Iterable[Any]]) -> str | None:
    """The name of the interface with an address; None where no interface has it.

    Args:
        interfaces: as ``psutil.net_if_addrs`` gives them.
    """
    for name, addresses in interfaces.items():
        # An address of IPv6 may name its interface behind a per cent sign.
        if any(each.address.partition("%")[0] == address for each in addresses):
            return name
    return None


def threads_of_rank(resources: Mapping[str, float], ranks: str) -> int:
    """How many cores a rank has for itself, at least 1.

    Args:
        resources: of this node of Ray.
        ranks: how many there are on all nodes together.
    """
    together = int(ranks) if ranks.isdecimal() else 1
    places = next((int(resources[key]) for key in PLACES if resources.get(key)), together)
    return max(1, len(allowed()) // max(1, min(together, places)))


def name_resource() -> None:
    """Let vLLM's CPU platform of this process name a resource of Ray, which it has none of."""
    from vllm.platforms import current_platform

    if current_platform.device_type == "cpu" and not current_platform.ray_device_key:
        type(current_platform).ray_device_key = PLACES[0]


def share_memory_on_a_host() -> None:
    """Let ranks of vLLM's CPU engine exchange through shared memory only where they share it.

    vLLM takes ranks for those of one host if they give their shared memory the same name, which
    holds the port where all ranks met: it is the same on every host, and they would wait for ever.
    A vLLM without this name is left as it is.
    """
    with suppress(ImportError, AttributeError):
        from vllm.distributed.device_communicators import cpu_communicator

        shared: Any = cpu_communicator._CPUSHMDistributed
        named = shared.make_group_name

        def name_here(communicator: Any) -> str:
            begin, _, rest = str(named(communicator)).partition("-")
            return f"{begin}-{memory_name()}-{rest}"

        shared.make_group_name = staticmethod(name_here)


def memory_name() -> str:
    """A name of this host's shared memory: containers of one host may have their own."""
    boot, device = "", 0
    with suppress(OSError):
        boot = _BOOT.read_text("ascii").strip().replace("-", "")
    with suppress(OSError):
        device = _MEMORY.stat().st_dev
    return f"{boot}{device:x}"
