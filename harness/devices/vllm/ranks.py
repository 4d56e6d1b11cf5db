"""The ranks over which the user's engine arguments spread a model."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from harness.errors import UsageError


@dataclass(frozen=True)
class Ranks:
    """How many parts the model has in each way of parting it.

    Attributes:
        tensor: parts of every layer.
        pipeline: groups of layers, one after another.
        context: parts of every prompt.
        data: copies of the model.
        hosts: of which each starts its own workers.
        executor: what vLLM starts the workers with; None lets it choose.
    """

    tensor: int = 1
    pipeline: int = 1
    context: int = 1
    data: int = 1
    hosts: int = 1
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


def check_ranks(name: str, ranks: Ranks) -> None:
    """Check that vLLM's offline engine can spread a model so, and that each row comes once.

    Raises:
        UsageError: naming the setting, and what to do in its place.
    """
    for setting, why in _refused(ranks):
        raise UsageError(f"{name}: --engine-arg {setting} does not work here: {why}")


def _refused(ranks: Ranks) -> Iterator[tuple[str, str]]:
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


def _count(asked: Mapping[str, str], key: str) -> int:
    text = asked.get(key, "1").strip()
    return max(1, int(text)) if text.isdecimal() else 1
