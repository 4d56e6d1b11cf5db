"""What a canary is run with on a device: engine arguments, and what can be asked of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from harness.canary.sizes import Sizes
from harness.canary.stages import NEW_TOKENS, Abilities
from harness.devices.base import Opened
from harness.devices.spec import DeviceSpec

#: Requests of the batch stage, where the device runs several at a time.
BATCH = 8
#: The largest block of an engine's cache: a cache of so many blocks holds what it must hold.
_BLOCK = 128
#: Engine arguments that say how large the cache is: with one of them it is not made small.
_CACHE_ARGS = ("kv_cache_memory_bytes", "num_gpu_blocks_override", "gpu_memory_utilization")


@dataclass(frozen=True)
class CanaryPlan:
    """What to run.

    Attributes:
        sizes: of the canary.
        spec: the device; its model is the folder that the canary is written to.
        soak_s: for how long the stages are repeated, in seconds; 0 runs them once.
        small_cache: the engine argument that makes the cache small enough to be filled;
            None where the user has chosen a size.
    """

    sizes: Sizes
    spec: DeviceSpec
    soak_s: float = 0.0
    small_cache: str | None = None

    @property
    def folder(self) -> Path:
        """Where the checkpoint is written."""
        return Path(self.spec.model)

    @property
    def able(self) -> Abilities:
        """What the device can be asked for, as far as that is known before it is open."""
        kind = self.spec.kind
        budget = self.spec.engine_args.get("max_num_batched_tokens", "0")
        known = int(budget) if budget.isdecimal() and kind.family == "vllm" else 0
        batch = self.spec.batch_size if kind.batching else _concurrency(self.spec)
        return Abilities(
            kind.one_pass,
            batch,
            known,
            rows=kind.whole_rows,
            by_position=kind.family == "transformers",
        )

    def able_with(self, opened: Opened) -> Abilities:
        """The same with the cache of the open engine."""
        held, block = opened.load.kv_cache_tokens, opened.engine.block_size
        able = dataclasses.replace(self.able, most_tokens=opened.max_positions)
        if held is None or block is None:
            return able
        return dataclasses.replace(able, cache_tokens=int(held), block=block)

    def with_a_large_cache(self) -> CanaryPlan:
        """The same with the engine's own size of the cache."""
        args = {k: v for k, v in self.spec.engine_args.items() if k != self.small_cache}
        spec = dataclasses.replace(self.spec, engine_args=args)
        return dataclasses.replace(self, spec=spec, small_cache=None)


def plan(sizes: Sizes, spec: DeviceSpec, *, soak_s: float = 0.0) -> CanaryPlan:
    """The plan for a device, with the engine arguments that let its engine cut prompts,
    keep prefixes, and run out of cache. The user's own arguments win."""
    if spec.kind.family != "vllm":
        return CanaryPlan(sizes, spec, soak_s)
    page = sizes.page_size
    batch = spec.batch_size if spec.batch_size > 1 else BATCH
    longer = dataclasses.replace(sizes, table="long")
    budget = -(-(longer.history + NEW_TOKENS) // page) * page
    wanted = {
        "max_model_len": str(sizes.context),
        "enable_chunked_prefill": "true",
        "enable_prefix_caching": "true",
        "max_num_batched_tokens": str(max(budget, batch)),
    }
    small = None
    if not any(name in spec.engine_args for name in _CACHE_ARGS):
        small, size = _small_cache(sizes, spec, batch)
        wanted[small] = str(size)
    args = {**wanted, **spec.engine_args}
    spec = dataclasses.replace(spec, engine_args=args, batch_size=batch)
    return CanaryPlan(sizes, spec, soak_s, small)


def _small_cache(sizes: Sizes, spec: DeviceSpec, batch: int) -> tuple[str, int]:
    """An engine argument and its value: a cache for one request of the longest context, or
    for a batch of the shortest prompts.

    vLLM-Ascend takes blocks and no bytes; elsewhere a block may be smaller than is known here.
    """
    each = dataclasses.replace(sizes, table="long").history + NEW_TOKENS + 5 * batch
    blocks = max(-(-sizes.context // _BLOCK), batch * -(-each // _BLOCK)) + 2
    if spec.kind.backend == "npu":
        return "num_gpu_blocks_override", blocks
    parts = spec.engine_args.get("tensor_parallel_size", "1")
    workers = int(parts) if parts.isdecimal() else 1
    numbers = sizes.layers * sizes.cached(max(1, workers))
    return "kv_cache_memory_bytes", blocks * _BLOCK * numbers * _width(spec)


def _width(spec: DeviceSpec) -> int:
    """Bytes of a number in the cache."""
    if spec.engine_args.get("kv_cache_dtype", "auto").startswith("fp8"):
        return 1
    return 4 if spec.dtype == "float32" else 2


def _concurrency(spec: DeviceSpec) -> int:
    text = spec.engine_args.get("concurrency", "1")
    return int(text) if text.isdecimal() else 1
