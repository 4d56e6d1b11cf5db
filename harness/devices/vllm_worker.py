"""What runs inside vLLM's worker, which imports it by its path.

Importing this module imports vLLM and torch.
"""

from __future__ import annotations

import resource
from typing import Any

from vllm.v1.sample.logits_processor import LogitsProcessor

from harness.devices.vllm_capture import BatchUpdate, RowCapture

#: Import paths, as vLLM takes them.
PROCESSOR = "harness.devices.vllm_worker:CaptureRows"
EXTENSION = "harness.devices.vllm_worker.WorkerFacts"


class CaptureRows(LogitsProcessor):  # type: ignore[misc]
    """Sees the raw float32 logits of every step, before anything else is done to them."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self._capture = RowCapture(writes=_is_first_rank())

    def is_argmax_invariant(self) -> bool:
        """False: greedy sampling skips processors that say otherwise."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        """Called by vLLM before each step."""
        self._capture.update(batch_update)

    def apply(self, logits: Any) -> Any:
        """Called by vLLM on the logits of each step, shape (requests, vocabulary)."""
        return self._capture.capture(logits)


class WorkerFacts:
    """Becomes a base class of vLLM's worker, for ``collective_rpc``."""

    def harness_facts(self) -> dict[str, Any]:
        """What only the worker knows: attention, threads, bytes of weights and memory."""
        import torch

        runner: Any = self.model_runner  # type: ignore[attr-defined]
        weights = {p.data_ptr(): p.numel() * p.element_size() for p in runner.model.parameters()}
        facts: dict[str, Any] = {
            "threads": torch.get_num_threads(),
            "runner": f"{type(runner).__module__}.{type(runner).__name__}",
            "weights_bytes": sum(weights.values()),
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        names = {
            group.backend.get_name()
            for groups in getattr(runner, "attn_groups", [])
            for group in groups
        }
        if names:
            facts["attention"] = ", ".join(sorted(names))
        return facts


def _is_first_rank() -> bool:
    """Whether this worker is the one of its tensor-parallel group that writes."""
    from vllm.distributed.parallel_state import get_tensor_model_parallel_rank

    return int(get_tensor_model_parallel_rank()) == 0
