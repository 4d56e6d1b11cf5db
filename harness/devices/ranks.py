"""The ranks over which arguments of vLLM spread a model, and the cores of each.

For vLLM in a process of the harness, and for a server of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from harness.devices import cores


@dataclass(frozen=True)
class Ranks:
    """How many parts the model has in each way of parting it.

    Attributes:
        tensor: parts of every layer.
        pipeline: groups of layers, one after another.
        context: parts of every prompt.
        data: copies of the model.
        hosts: of which each starts its own workers.
        experts: whether a rank holds whole experts, instead of a part of each.
        executor: what vLLM starts the workers with; None lets it choose.
    """

    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    data: int = 1
    hosts: int = 1
    experts: bool = False
    executor: str | None = None

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Ranks:
        """Those of ``--engine-arg`` pairs; what is not a number counts as 1."""
        executor = asked.get("distributed_executor_backend", "").strip().lower()
        return cls(
            tensor=_count(asked, "tensor_parallel_size"),
            pipeline=_count(asked, "pipeline_parallel_size"),
            context=_count(asked, "prefill_context_parallel_size"),
            data=_count(asked, "data_parallel_size"),
            hosts=_count(asked, "nnodes"),
            experts=asked.get("enable_expert_parallel", "").strip().lower() in ("true", "1"),
            executor=None if executor in ("", "none", "null") else executor,
        )

    @property
    def workers(self) -> int:
        """How many hold a part of one copy of the model."""
        return self.tensor * self.pipeline * self.context

    @property
    def several(self) -> bool:
        """Whether the model has more workers than one, which are other processes."""
        return self.workers * self.data > 1

    @property
    def by_ray(self) -> bool:
        return self.executor == "ray"


def core_variables(ranks: Ranks, variables: Mapping[str, str]) -> dict[str, str]:
    """What tells vLLM's CPU engine the cores of each rank that it starts on this host.

    Empty for a single rank, with Ray, which starts ranks where it likes, and where the user says
    the cores of each. Cores that the user lists for one rank are shared out.

    Args:
        variables: of the environment.
    """
    own = cores.says_ranks(variables.get(cores.VARIABLE, ""))
    if not ranks.several or ranks.by_ray or own:
        return {}
    return {cores.VARIABLE: cores.binding(ranks.workers * ranks.data, variables)}


def _count(asked: Mapping[str, str], key: str) -> int:
    text = asked.get(key, "1").strip()
    return max(1, int(text)) if text.isdecimal() else 1
