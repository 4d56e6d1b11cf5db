"""The facts that decide the bits of a vLLM device, and its engine's own facts."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, TypedDict, cast

from harness.devices.environment import commits
from harness.devices.environment import environment as torch_environment
from harness.devices.facts import EngineFacts, EnvironmentValue, LoadFigures
from harness.devices.secrets import secret_in
from harness.devices.vllm.asked import not_taken
from harness.devices.vllm.load import PLATFORMS, distribution_of
from harness.doctor.blot import BLOT

#: Variables that choose runners, kernels and processes. Shown when set.
_VARIABLES = (
    "VLLM_ENABLE_V1_MULTIPROCESSING",
    "VLLM_USE_V2_MODEL_RUNNER",
    "VLLM_CPU_KVCACHE_SPACE",
    "VLLM_CPU_OMP_THREADS_BIND",
    "VLLM_ATTENTION_BACKEND",
    "VLLM_BATCH_INVARIANT",
    "VLLM_PLUGINS",
    "VLLM_ASCEND_ENABLE_NZ",
    "OMP_NUM_THREADS",
)
#: Beginnings of vLLM-Ascend's own switches of kernels and layouts.
_SWITCHES = ("VLLM_ASCEND_ENABLE_", "VLLM_ASCEND_BALANCE_", "VLLM_ASCEND_FUSION_")


class WorkerFacts(TypedDict, total=False):
    """Facts that a worker reports (``worker.HarnessWorker.harness_facts``); unknown
    facts are left out, or 0.
    """

    attention: str | None
    dtype: str
    on_another_host: bool
    threads: int
    instruction_set: str | None
    runner: str
    weights_s: float
    init_engine_s: float
    compile_s: float
    warmup_s: float
    graph_capture_s: float
    weights_bytes: int
    peak_rss_bytes: int
    peak_device_bytes: int
    kv_cache_bytes: int
    accelerator: str
    graph_mode: str
    graphs_captured: int
    routed_layers: int
    workers: int


#: Of several workers: amounts add up; of seconds and of what all share, the largest counts.
_ADDED = ("weights_bytes", "peak_rss_bytes", "peak_device_bytes", "kv_cache_bytes")


def of_all(workers: Sequence[WorkerFacts], heard: Mapping[str, float]) -> WorkerFacts:
    """The facts of all workers of a model together.

    Args:
        workers: those of each; what is neither bytes nor seconds is the first one's.
        heard: seconds that the engine's own process said, where that is not a worker's.
    """
    facts: dict[str, Any] = {**heard, **workers[0], "workers": len(workers)}
    for name in _ADDED:
        known = [worker[name] for worker in workers if name in worker]  # type: ignore[literal-required]
        if known:
            facts[name] = sum(known)
    for name in (key for key in facts if key.endswith("_s")):
        known = [worker.get(name) for worker in (*workers, heard)]
        facts[name] = max((seconds for seconds in known if seconds), default=None)
    return cast(WorkerFacts, {k: v for k, v in facts.items() if v is not None})


def differing(workers: Sequence[WorkerFacts]) -> dict[str, EnvironmentValue]:
    """Facts that are not the same in every worker, under ``ranks.NAME``.

    A value holds those of all ranks in their order, separated by semicolons; ``?`` is one that
    a rank does not tell. Seconds are not told.
    """
    told: dict[str, EnvironmentValue] = {}
    for name in (n for n in WorkerFacts.__annotations__ if not n.endswith("_s")):
        values: list[Any] = [worker.get(name) for worker in workers]
        if any(value != values[0] for value in values):
            told[f"ranks.{name}"] = "; ".join("?" if v is None else str(v) for v in values)
    return told


def environment(
    name: str, torch: Any, vllm: Any, worker: WorkerFacts
) -> dict[str, EnvironmentValue]:
    """Versions, processor, accelerator and the variables that choose kernels."""
    found = torch_environment(torch, PLATFORMS[name], worker.get("accelerator"))
    found["vllm"] = str(vllm.__version__)
    installed = distribution_of(vllm)
    found["vllm_distribution"] = installed
    found.update(commits(installed))
    if PLATFORMS[name] == "npu":
        found.update(_ascend_versions())
        found.update(commits("vllm-ascend", "torch-npu"))
    found.update(
        {
            key: value
            for key, value in sorted(os.environ.items())
            if key in _VARIABLES or key.startswith(_SWITCHES)
        }
    )
    return found


def _ascend_versions() -> dict[str, EnvironmentValue]:
    """Of vLLM-Ascend, the kind of card that it was built for, and of its Triton."""
    found: dict[str, EnvironmentValue] = {
        "vllm_ascend": _version_of("vllm_ascend"),
        "triton_ascend": _version_of("triton_ascend"),
    }
    with suppress(ImportError, AttributeError):
        from vllm_ascend import _build_info

        built_for = getattr(_build_info, "__device_type__", None) or _build_info.__soc_version__
        found["vllm_ascend_built_for"] = str(built_for)
    return {key: value for key, value in found.items() if value is not None}


def engine_facts(
    config: Any,
    worker: WorkerFacts,
    asked: Mapping[str, str],
    batch_size: int,
    typed: Mapping[str, Any] | None = None,
) -> EngineFacts:
    """What decides bits, from the configuration in force.

    Args:
        config: vLLM's ``VllmConfig``, after its defaults were filled in.
        worker: facts that the worker reported.
        asked: the user's own engine arguments; each is shown as it was given.
        batch_size: how many requests the device hands over at a time.
        typed: the same arguments with the types that vLLM has for them; one that
            is not in force is the warning.
    """
    cache, scheduler = config.cache_config, config.scheduler_config
    parallel = config.parallel_config
    told = EngineFacts(
        device=str(getattr(config.device_config, "device_type", "")),
        dtype=str(config.model_config.dtype).removeprefix("torch."),
        attention=worker.get("attention"),
        threads=worker.get("threads"),
        instruction_set=worker.get("instruction_set"),
        enforce_eager=bool(config.model_config.enforce_eager),
        batch_size=batch_size,
        prefix_caching=bool(cache.enable_prefix_caching),
        block_size=int(cache.block_size),
    )
    facts: dict[str, EnvironmentValue] = {
        "runner": worker.get("runner"),
        "graph_mode": worker.get("graph_mode"),
        "graphs_captured": worker.get("graphs_captured"),
        "max_num_seqs": int(scheduler.max_num_seqs),
        "chunked_prefill": bool(getattr(scheduler, "enable_chunked_prefill", False)),
        "max_num_batched_tokens": int(scheduler.max_num_batched_tokens),
        "async_scheduling": bool(getattr(scheduler, "async_scheduling", False)),
        "speculative": config.speculative_config is not None,
        "quantization": config.model_config.quantization,
        "tensor_parallel_size": int(parallel.tensor_parallel_size),
        "pipeline_parallel_size": int(getattr(parallel, "pipeline_parallel_size", 1)),
        "expert_parallel": bool(getattr(parallel, "enable_expert_parallel", False)),
        "workers": worker.get("workers"),
        "executor": str(parallel.distributed_executor_backend),
        "multiprocessing": os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") != "0",
        "seed": config.model_config.seed,
        # Requests ignore vLLM's own eos and name their stops one by one.
        "stops": "the recording's eos_token_ids, no others",
    }
    in_force = {**told.told(), **facts}
    cache_of_one = worker.get("kv_cache_bytes", 0) // worker.get("workers", 1)
    lost = not_taken(asked if typed is None else typed, in_force, cache_of_one)
    facts.update({f"asked.{k}": BLOT if secret_in(k, v) else v for k, v in asked.items()})
    return told.model_copy(update={"warning": lost}).with_facts(facts)


def load_figures(seconds: float, config: Any, worker: WorkerFacts) -> LoadFigures:
    """Seconds to load and of its parts, bytes of weights, room of the KV cache.

    A part is present if the engine gives it (``LoadFigures`` says which are
    parts of which).
    """
    blocks = getattr(config.cache_config, "num_gpu_blocks", None)
    return LoadFigures(
        load_s=seconds,
        weights_s=_known(worker.get("weights_s")),
        init_engine_s=_known(worker.get("init_engine_s")),
        compile_s=_known(worker.get("compile_s")),
        warmup_s=_known(worker.get("warmup_s")),
        graph_capture_s=_known(worker.get("graph_capture_s")),
        weights_bytes=_known(worker.get("weights_bytes")),
        peak_rss_bytes=_known(worker.get("peak_rss_bytes")),
        peak_device_bytes=_known(worker.get("peak_device_bytes")),
        kv_cache_bytes=_known(worker.get("kv_cache_bytes")),
        kv_cache_tokens=_known(blocks and blocks * config.cache_config.block_size),
    )


def _known(figure: float | None) -> float | None:
    """None for zero too: an engine writes zero for an unknown figure."""
    return float(figure) if figure else None


def _version_of(package: str) -> str | None:
    for name in (package, package.replace("_", "-")):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
