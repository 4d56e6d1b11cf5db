"""Settings of vLLM under which a recording would not hold the raw logits of the model, each once.

All of them are known before any work.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from harness.devices.ranks import Ranks
from harness.errors import DeviceError, UsageError

_ROW = "rows would not hold the raw logits of the whole vocabulary, for every request"
_SWITCHES = ("VLLM_ASCEND_ENABLE_FLASHCOMM1", "VLLM_ASCEND_ENABLE_FLASHCOMM")


def check_ranks(name: str, ranks: Ranks) -> None:
    """Check that vLLM's offline engine can spread a model so, and that each row comes once.

    Raises:
        UsageError: naming the setting, and what to do in its place.
    """
    for setting, why in (*_impossible(ranks), *_impossible_on_cpu(name, ranks)):
        raise UsageError(f"{name}: --engine-arg {setting} does not work here: {why}")


def _impossible(ranks: Ranks) -> Iterator[tuple[str, str]]:
    if ranks.data > 1:
        yield (
            f"data_parallel_size={ranks.data}",
            "vLLM runs several copies of a model only behind its server; record each copy by "
            f"itself with --shard 1/{ranks.data} and so on, and join them with harness merge, "
            "or use --device server",
        )
    if ranks.hosts > 1:
        yield (
            f"nnodes={ranks.hosts}",
            "vLLM's offline engine starts workers on its own host only; for several hosts use "
            "--engine-arg distributed_executor_backend=ray",
        )
    if ranks.executor == "external_launcher":
        yield (
            "distributed_executor_backend=external_launcher",
            "each rank would record every row; use mp or ray",
        )
    if ranks.executor == "uni" and ranks.workers > 1:
        yield (
            "distributed_executor_backend=uni",
            f"one process cannot hold {ranks.workers} ranks; use mp or ray",
        )


def _impossible_on_cpu(name: str, ranks: Ranks) -> Iterator[tuple[str, str]]:
    if name == "vllm-cpu" and ranks.experts and ranks.tensor * ranks.context > 1:
        yield (
            "enable_expert_parallel=true",
            "the kernels of vLLM's CPU engine take no map of experts: a rank looks among its own "
            "for an expert of another, and crashes or computes with other memory; leave it off, "
            "and each rank has a part of every expert",
        )


def check_rows(
    name: str, asked: Mapping[str, Any], variables: Mapping[str, str], *, workers: bool
) -> None:
    """Check that every worker sees whole rows of every request.

    Args:
        asked: the user's engine arguments, with vLLM's types.
        variables: of the environment.
        workers: whether several share the model.

    Raises:
        UsageError: naming the setting and how to switch it off.
    """
    for setting, why in _refused(asked, variables, workers):
        raise UsageError(f"{name}: with {setting} {_ROW}: {why}; leave it off")


def _refused(
    asked: Mapping[str, Any], variables: Mapping[str, str], workers: bool
) -> Iterator[tuple[str, str]]:
    if asked.get("speculative_config"):
        yield "speculative_config", "vLLM runs no logits processors beside speculative decoding"
    more = asked.get("additional_config")
    extra: Mapping[str, Any] = more if isinstance(more, Mapping) else {}
    if extra.get("enable_reduce_sample"):
        yield "enable_reduce_sample", "each worker samples from its own part of the vocabulary"
    fine = extra.get("finegrained_tp_config")
    if isinstance(fine, Mapping) and fine.get("lmhead_tensor_parallel_size"):
        yield "lmhead_tensor_parallel_size", "the head's workers exchange the rows of requests"
    if not workers:
        return
    on = [key for key in _SWITCHES if variables.get(key, "0").strip() not in ("", "0")]
    if on or extra.get("enable_flashcomm1"):
        setting = f"{on[0]}={variables[on[0]]}" if on else "enable_flashcomm1"
        yield setting, "with several workers each holds a part of the batch"


def check_alone(name: str, variables: Mapping[str, str], engines: int, *, workers: bool) -> None:
    """Check that no engine before this one left its settings in this process.

    vLLM-Ascend keeps cosines, graphs and settings in globals of its modules, where the
    next engine takes them for its own.

    Args:
        variables: of the environment, with those that the harness sets.
        engines: how many this process has started.
        workers: whether several share the model; they have processes of their own.

    Raises:
        DeviceError: if there was one, and both are of this process.
    """
    variable = "VLLM_ENABLE_V1_MULTIPROCESSING"
    if name == "npu" and engines and not workers and variables.get(variable) == "0":
        raise DeviceError(
            f"{name}: this process has run an engine, and vLLM-Ascend would take that one's "
            f"settings for the next; unset {variable}=0, so that each has a process of its own"
        )
