"""Exact counts of what vLLM's scheduler asks of a worker.

Runs inside the worker. Nothing here imports vLLM or torch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass
class StepCounter:
    """Counts since it was made.

    Attributes:
        engine_steps: forward passes that computed something.
        scheduled_tokens: tokens of prompts and of decoding in all of them,
            those computed again after a preemption included.
        preemptions: requests that lost their cache to another.
    """

    engine_steps: int = 0
    scheduled_tokens: int = 0
    preemptions: int = 0

    def count(self, scheduled: Any) -> None:
        """Take one step's ``SchedulerOutput`` into account."""
        tokens = int(scheduled.total_num_scheduled_tokens)
        self.engine_steps += tokens > 0  # a step may only end requests
        self.scheduled_tokens += tokens
        self.preemptions += len(getattr(scheduled, "preempted_req_ids", None) or ())

    def watching(self, execute: Callable[..., Any]) -> Callable[..., Any]:
        """``execute_model`` that counts what it is given."""

        def counted(scheduled: Any, *rest: Any, **named: Any) -> Any:
            self.count(scheduled)
            return execute(scheduled, *rest, **named)

        return counted

    def counts(self) -> dict[str, int]:
        """By name."""
        return asdict(self)
