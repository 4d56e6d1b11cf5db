"""What decides the bits of a vLLM device, and what its engine says of itself."""

from __future__ import annotations

import importlib.metadata
import os
from collections.abc import Mapping
from typing import Any

from harness.devices.base import EnvironmentValue
from harness.devices.environment import environment as torch_environment
from harness.devices.vllm.load import PLATFORMS, distribution_of
from harness.devices.vllm.log import LOAD_PARTS

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


def environment(name: str, torch: Any, vllm: Any) -> dict[str, EnvironmentValue]:
    """Versions, processor, accelerator and the variables that choose kernels."""
    found = torch_environment(torch, PLATFORMS[name])
    found["vllm"] = str(vllm.__version__)
    found["vllm_distribution"] = distribution_of(vllm)
    ascend = _version_of("vllm_ascend")
    if ascend is not None:
        found["vllm_ascend"] = ascend
    found.update({key: os.environ[key] for key in _VARIABLES if key in os.environ})
    return found


def engine_facts(
    config: Any, worker: Mapping[str, Any], asked: Mapping[str, str], batch_size: int
) -> dict[str, EnvironmentValue]:
    """What decides bits, from the configuration in force.

    Args:
        config: vLLM's ``VllmConfig``, after its defaults were filled in.
        worker: what the worker said of itself.
        asked: the user's own engine arguments; each is shown as it was given.
        batch_size: how many requests the device hands over at a time.
    """
    cache, scheduler = config.cache_config, config.scheduler_config
    parallel = config.parallel_config
    facts: dict[str, EnvironmentValue] = {
        "device": str(getattr(config.device_config, "device_type", "")),
        "dtype": str(config.model_config.dtype).removeprefix("torch."),
        "attention": worker.get("attention"),
        "threads": worker.get("threads"),
        "instruction_set": worker.get("instruction_set"),
        "runner": worker.get("runner"),
        "enforce_eager": bool(config.model_config.enforce_eager),
        "batch_size": batch_size,
        "max_num_seqs": int(scheduler.max_num_seqs),
        "chunked_prefill": bool(getattr(scheduler, "enable_chunked_prefill", False)),
        "max_num_batched_tokens": int(scheduler.max_num_batched_tokens),
        "async_scheduling": bool(getattr(scheduler, "async_scheduling", False)),
        "prefix_caching": bool(cache.enable_prefix_caching),
        "block_size": int(cache.block_size),
        "speculative": config.speculative_config is not None,
        "quantization": config.model_config.quantization,
        "tensor_parallel_size": int(parallel.tensor_parallel_size),
        "executor": str(parallel.distributed_executor_backend),
        "multiprocessing": os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING") != "0",
        "seed": config.model_config.seed,
        # Requests ignore vLLM's own eos and name their stops one by one.
        "stops": "the recording's eos_token_ids, no others",
    }
    facts.update({f"asked.{key}": value for key, value in asked.items()})
    return {key: value for key, value in facts.items() if value is not None}


def load_figures(seconds: float, config: Any, worker: Mapping[str, Any]) -> dict[str, float]:
    """Seconds to load and of its parts, bytes of weights, room of the KV cache.

    A part is there where the engine tells it: ``weights_s`` (reading the
    checkpoint), ``init_engine_s`` (profiling, KV cache, warm-up, and in them
    ``compile_s``, ``warmup_s`` and ``graph_capture_s``). The rest of ``load_s``
    is imports and processes.
    """
    figures = {"load_s": seconds}
    for key in (*LOAD_PARTS, "weights_bytes", "peak_rss_bytes"):
        if worker.get(key):
            figures[key] = float(worker[key])
    blocks = getattr(config.cache_config, "num_gpu_blocks", None)
    if blocks:
        figures["kv_cache_tokens"] = float(blocks * config.cache_config.block_size)
    if worker.get("kv_cache_bytes"):
        figures["kv_cache_bytes"] = float(worker["kv_cache_bytes"])
    return figures


def _version_of(package: str) -> str | None:
    for name in (package, package.replace("_", "-")):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
