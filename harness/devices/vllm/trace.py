"""Prefills through vLLM's engine with hooks in its workers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from harness.devices.trace import Trace, read_trace
from harness.devices.vllm.bring import bring
from harness.devices.vllm.cause import reason
from harness.errors import DeviceError


def trace_engine(
    name: str,
    vllm: Any,
    llm: Any,
    spool: Path,
    sequences: Sequence[tuple[str, tuple[int, ...]]],
) -> Iterator[Trace]:
    """A prefill of each sequence, one at a time.

    Args:
        spool: a folder that the workers write into.
        sequences: prompt ids and their tokens.

    Raises:
        DeviceError: if the engine cannot be looked into, or fails.
    """
    config = llm.llm_engine.vllm_config
    _check(name, config)
    width = int(config.model_config.get_vocab_size())
    shards = int(config.parallel_config.tensor_parallel_size)
    stages = int(config.parallel_config.pipeline_parallel_size)
    params = vllm.SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True, detokenize=False)
    _call(name, llm, "harness_trace_begin", shards)
    try:
        for prompt_id, ids in sequences:
            try:
                llm.generate([{"prompt_token_ids": list(ids)}], params, use_tqdm=False)
            except Exception as error:  # a kernel, a worker or its process may raise anything
                raise DeviceError(
                    f"{name}: the engine failed on prompt {prompt_id!r}: {reason(error)}"
                ) from error
            file = spool / "trace.npz"
            _call(name, llm, "harness_trace_take", str(file), len(ids), width)
            files = [spool / f"{file.name}.{stage}" for stage in range(stages)]
            for each in files:
                bring(llm, each)
            trace = read_trace(files, prompt_id, ids)
            for each in files:
                each.unlink()
            yield trace
    finally:
        llm.collective_rpc("harness_trace_end")


def _check(name: str, config: Any) -> None:
    if not config.model_config.enforce_eager:
        raise DeviceError(f"{name}: hooks do not run inside a graph; leave enforce_eager at true")
    if config.cache_config.enable_prefix_caching:
        raise DeviceError(
            f"{name}: hooks do not see a cached prefix; leave enable_prefix_caching off"
        )


def _call(name: str, llm: Any, method: str, *args: Any) -> None:
    """Call a method of every worker; the first problem is raised."""
    for problem in llm.collective_rpc(method, args=args):
        if problem is not None:
            raise DeviceError(f"{name}: {problem}")
