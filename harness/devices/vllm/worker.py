"""Code that runs inside vLLM's worker, which imports it by its path.

Importing this module imports vLLM and torch.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
import vllm.logger
from vllm.v1.sample.logits_processor import LogitsProcessor

from harness.devices.environment import instruction_set
from harness.devices.vllm.bring import FileKeeper
from harness.devices.vllm.capture import BatchUpdate, RowCapture
from harness.devices.vllm.counters import StepCounter
from harness.devices.vllm.hooks import TracedModel
from harness.devices.vllm.log import LOAD_LOG
from harness.devices.vllm.routes import WATCHED
from harness.devices.vllm.spool import (
    end_with_owner,
    join_host,
    leave_shared,
    on_another_host,
    own_folder,
)
from harness.devices.vllm.weights import watch_loading

# vLLM imports this before it starts a worker: so also one that ends on its device says why.
LOAD_LOG.install(own_folder())


class CaptureRows(LogitsProcessor):  # type: ignore[misc]
    """Sees the raw float32 logits of every step, before anything else is done to them."""

    def __init__(self, config: Any, *_: Any) -> None:
        """Called by vLLM with its configuration, the torch device and whether memory is pinned.

        This happens in the worker before it loads the model, so it starts watching the
        loading and the log, and makes sure that this process ends with the harness.
        """
        LOAD_LOG.install(own_folder())
        with suppress(AttributeError):
            # vLLM logs a sentence once per process: a second load of equal length logs nothing.
            vllm.logger._print_info_once.cache_clear()
        if config.parallel_config.use_ray and on_another_host():
            join_host()  # Ray itself ends a worker whose job has ended
        else:
            end_with_owner()
        leave_shared(os.environ.get("VLLM_DIST_IDENT"))
        watch_loading()
        self._capture = RowCapture(writes=_has_the_rows(), routes=WATCHED.take)

    def is_argmax_invariant(self) -> bool:
        """False: greedy sampling skips processors that say otherwise."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Called by vLLM before each step."""
        self._capture.update(batch_update)

    def apply(self, logits: Any) -> Any:
        """Called by vLLM on the logits of each step, shape (requests, vocabulary)."""
        return self._capture.capture(logits)


class HarnessWorker(TracedModel, FileKeeper):
    """Becomes a base class of vLLM's worker, for ``collective_rpc``."""

    execute_model: Callable[..., Any]  # the worker's own

    def harness_make_ready(self) -> None:
        """Make what a later stage of a pipeline receives the earlier one's results in.

        vLLM's runner makes it in its first pass without a request. The CPU engine leaves
        that pass out where nothing is compiled and the size of the cache is given.
        """
        runner: Any = self.model_runner  # type: ignore[attr-defined]
        if _stage() and getattr(runner, "intermediate_tensors", True) is None:
            runner.intermediate_tensors = runner.get_model().make_empty_intermediate_tensors(
                batch_size=runner.max_num_tokens,
                dtype=runner.model_config.dtype,
                device=runner.device,
            )

    def harness_stage(self) -> int | None:
        """The number of its stage for the first rank of each; the others return None."""
        return _stage() if _is_first_of_stage() else None

    def harness_facts(self) -> dict[str, Any]:
        """Facts that only the worker has: attention, threads, bytes of weights and caches.

        A runner of another vLLM may lack a fact; it is then left out.
        """
        runner: Any = self.model_runner  # type: ignore[attr-defined]
        looked_for: dict[str, Callable[[Any], Any]] = {
            "threads": lambda _: torch.get_num_threads(),
            "runner": lambda runner: f"{type(runner).__module__}.{type(runner).__name__}",
            "on_another_host": lambda _: on_another_host(),
            "dtype": lambda runner: _dtypes(runner.get_model()),
            "weights_bytes": lambda runner: _weights_bytes(runner.get_model()),
            "kv_cache_bytes": lambda runner: _bytes(runner.kv_caches),
            "peak_rss_bytes": lambda _: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "peak_device_bytes": lambda runner: _accelerator(runner).max_memory_allocated(),
            "accelerator": lambda runner: str(_accelerator(runner).get_device_name()),
            "graph_mode": lambda runner: (
                runner.vllm_config.compilation_config.cudagraph_mode.name.lower()
            ),
            "graphs_captured": _graphs_captured,
            "attention": _attention,
            "routed_layers": lambda runner: WATCHED.install(runner.get_model()),
            "instruction_set": lambda runner: instruction_set(torch, runner.device.type),
            "compile_s": lambda runner: (
                runner.vllm_config.compilation_config.compilation_time
                or LOAD_LOG.seconds.get("compile_s")
            ),
        }
        facts: dict[str, Any] = dict(LOAD_LOG.seconds)
        for name, look in looked_for.items():
            with suppress(AttributeError, TypeError, ImportError):
                facts[name] = look(runner)
        return facts

    def harness_counters(self) -> dict[str, int]:
        """Exact counts of the work since the first call, which begins to count."""
        if not hasattr(self, "_harness_counter"):
            self._harness_counter = StepCounter()
            self.execute_model = self._harness_counter.watching(self.execute_model)
        return self._harness_counter.counts()


def _bytes(tensors: Any) -> int:
    """Of a tensor or nested lists of them; shared storage counts once."""
    found: dict[int, int] = {}
    stack = [tensors]
    while stack:
        item = stack.pop()
        if isinstance(item, torch.Tensor):
            found[item.data_ptr()] = item.numel() * item.element_size()
        else:
            stack.extend(item)
    return sum(found.values())


def _weights_bytes(model: Any) -> int:
    """Of all parameters, and of the linear weights that vLLM's CPU engine has packed
    for its kernels, which leaves an empty parameter behind."""
    packed = 0
    for module in model.modules():
        weight = getattr(module, "weight", None)
        if isinstance(weight, torch.Tensor) and not weight.numel():
            rows = getattr(module, "output_size_per_partition", 0)
            columns = getattr(module, "input_size_per_partition", 0)
            packed += rows * columns * weight.element_size()
    return _bytes(list(model.parameters())) + packed


def _dtypes(model: Any) -> str:
    """Of its parameters."""
    found = {str(p.dtype).removeprefix("torch.") for p in model.parameters()}
    return ", ".join(sorted(found))


def _attention(runner: Any) -> str | None:
    """By name; a plugin's is called CUSTOM by vLLM, so by its class."""
    backends = {group.backend for groups in runner.attn_groups for group in groups}
    names = {(b.get_name(), b.__name__) for b in backends}
    told = {own if name.startswith("CUSTOM") else name for name, own in names}
    return ", ".join(sorted(told)) or None


def _accelerator(runner: Any) -> Any:
    """torch's module of the card: ``torch.cuda``, ``torch.npu``.

    Raises:
        AttributeError: on a CPU.
    """
    if runner.device.type == "cpu":
        raise AttributeError("a CPU is not a card")
    return getattr(torch, runner.device.type)


def _graphs_captured(_: Any) -> int:
    from vllm.compilation.counter import compilation_counter

    return int(compilation_counter.num_cudagraph_captured)


def _has_the_rows() -> bool:
    """Whether this rank is the one that writes: the first of the last stage.

    Earlier stages have no logits, or are sent the last one's; the ranks of one stage have
    the same.
    """
    from vllm.distributed.parallel_state import get_pp_group

    return _is_first_of_stage() and bool(get_pp_group().is_last_rank)


def _is_first_of_stage() -> bool:
    """Whether this rank is the first of those that share the layers of a stage."""
    from vllm.distributed import parallel_state

    ranks = [int(parallel_state.get_tensor_model_parallel_rank())]
    with suppress(AttributeError, AssertionError):  # a vLLM or an engine without
        ranks.append(int(parallel_state.get_pcp_group().rank_in_group))
    return not any(ranks)


def _stage() -> int:
    from vllm.distributed.parallel_state import get_pp_group

    return int(get_pp_group().rank_in_group)
